//! The tar parser: the same events however the stream is cut, and none that contradict the stream.

use bytes::Bytes;
use xvault_core::tar::{BLOCK_LEN, Error, Event, TarEntry, TarKind, TarParser};

use crate::Verdict;
use crate::chunks::cut;

/// Feeds `data`, and `data` with the checksum of every block made right, to [`TarParser`].
///
/// # Panics
/// When the events depend on where the stream is cut, or say what is not in it.
pub fn tar_parser(data: &[u8]) -> Verdict {
    // Blind mutations hardly ever pass the checksum of a header block: the second try gets behind it.
    let raw = check(data);
    let repaired = check(&with_checksums(data));
    if raw == Verdict::Accepted { raw } else { repaired }
}

/// What a stream came to: its entries with their bodies, and how it ended.
#[derive(Debug, PartialEq)]
struct Story {
    entries: Vec<(TarEntry, Vec<u8>)>,
    /// Whether the last entry's body was given out to its end.
    last_is_whole: bool,
    end: Result<(), Error>,
    offset: u64,
}

fn check(data: &[u8]) -> Verdict {
    let whole = story([Bytes::copy_from_slice(data)]);
    assert_eq!(whole, story(cut(data)), "the events depend on the chunks");
    for (entry, body) in &whole.entries {
        assert_entry_is_sound(entry);
        assert_body_is_in_the_stream(data, entry, body);
    }
    assert_entries_follow_each_other(&whole);
    assert!(whole.offset <= data.len() as u64, "more was taken than given");
    Verdict::of(&whole.end)
}

/// Runs the parser over `chunks` and keeps what it says, checking the grammar of events on the way.
fn story(chunks: impl IntoIterator<Item = Bytes>) -> Story {
    let mut parser = TarParser::new();
    let mut story = Story { entries: Vec::new(), last_is_whole: true, end: Ok(()), offset: 0 };
    'stream: for mut chunk in chunks {
        loop {
            match parser.next(&mut chunk) {
                Ok(Some(event)) => story.take(event),
                Ok(None) => break,
                Err(error) => {
                    assert_stays_failed(&mut parser, &error);
                    break 'stream;
                }
            }
        }
        assert!(chunk.is_empty() || parser.is_ended(), "input was left over");
    }
    story.end = parser.finish();
    story.offset = parser.offset();
    assert_eq!(story.end.is_ok(), parser.is_ended());
    story
}

impl Story {
    fn take(&mut self, event: Event) {
        match event {
            Event::Header(entry) => {
                assert!(self.last_is_whole, "an entry begins inside another");
                self.entries.push((*entry, Vec::new()));
                self.last_is_whole = false;
            }
            Event::Data(data) => {
                assert!(!data.is_empty() && !self.last_is_whole, "data outside a body");
                self.last().1.extend_from_slice(&data);
            }
            Event::EntryEnd => {
                assert!(!self.last_is_whole, "an end without a beginning");
                self.last_is_whole = true;
                let (entry, body) = self.last();
                assert_eq!(entry.size, body.len() as u64, "a body is not as long as its header says");
            }
            Event::ArchiveEnd => assert!(self.last_is_whole, "the archive ends inside an entry"),
        }
    }

    #[expect(clippy::expect_used, reason = "an event outside an entry is what this looks for")]
    fn last(&mut self) -> &mut (TarEntry, Vec<u8>) {
        self.entries.last_mut().expect("a body belongs to an entry")
    }
}

fn assert_stays_failed(parser: &mut TarParser, error: &Error) {
    let mut more = Bytes::from_static(&[0; 2 * BLOCK_LEN]);
    assert_eq!(parser.next(&mut more).as_ref(), Err(error), "a failed parser went on");
    assert_eq!(parser.finish().as_ref(), Err(error));
}

fn assert_entry_is_sound(entry: &TarEntry) {
    assert!(!entry.path.is_empty());
    assert!(entry.metadata.mode <= 0o7777 && entry.metadata.mtime.nanos < 1_000_000_000);
    let names = [&entry.metadata.user, &entry.metadata.group];
    assert!(names.into_iter().flatten().all(|name| !name.is_empty() && name.len() <= 255));
    let has_body = matches!(entry.kind, TarKind::File | TarKind::Unsupported(_));
    assert!(has_body || entry.size == 0, "{:?} has a body", entry.kind);
    let block = BLOCK_LEN as u64;
    assert!(entry.offset.is_multiple_of(block) && entry.data_offset.is_multiple_of(block));
    assert!(entry.offset < entry.data_offset);
}

fn assert_body_is_in_the_stream(data: &[u8], entry: &TarEntry, body: &[u8]) {
    let start = usize::try_from(entry.data_offset).unwrap_or(usize::MAX);
    assert_eq!(
        data.get(start..start.saturating_add(body.len())),
        Some(body),
        "a body is not where it is said to be"
    );
}

fn assert_entries_follow_each_other(story: &Story) {
    for pair in story.entries.windows(2) {
        let [(before, _), (after, _)] = pair else { continue };
        assert!(before.data_offset + before.size <= after.offset, "entries overlap");
    }
}

/// Every block that is not all zeros gets the checksum of a header block; in bodies that is mere content.
pub(crate) fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut repaired = data.to_vec();
    for block in repaired.chunks_exact_mut(BLOCK_LEN).filter(|block| block.iter().any(|b| *b != 0)) {
        let (Some(before), Some(after)) = (block.get(..148), block.get(156..)) else { continue };
        let sum: u64 = before.iter().chain(after).map(|b| u64::from(*b)).sum::<u64>() + 8 * u64::from(b' ');
        let text = format!("{sum:06o}\0 ");
        if let Some(field) = block.get_mut(148..156) {
            field.copy_from_slice(text.as_bytes());
        }
    }
    repaired
}
