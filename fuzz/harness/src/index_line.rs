//! The index: no line that means two things, and no index that contradicts itself.

use xvault_archive::index::{FrameInfo, IndexEntry, IndexReader, Record, Totals};
use xvault_core::EntryKind;

use crate::Verdict;
use crate::mutate::Rng;
use crate::sealed::{encrypted, frame, identities};

/// Feeds each line of `data` to [`Record::parse`], and the whole, encrypted, to [`IndexReader`].
///
/// # Panics
/// When a line means something else after its JSON was written anew, or when an accepted index does
/// not add up.
pub fn index_line(data: &[u8]) -> Verdict {
    data.split(|byte| *byte == b'\n').for_each(assert_line_is_sound);
    let verdict = read(data);
    if verdict == Verdict::Accepted {
        let cut = data.get(..Rng::of(data).below(data.len())).unwrap_or_default();
        assert_eq!(read(cut), Verdict::Refused, "an index that was cut at {} is accepted", cut.len());
    }
    verdict
}

fn assert_line_is_sound(line: &[u8]) {
    let Ok(record) = Record::parse(line) else { return };
    let json = serde_json::from_slice::<serde_json::Value>(line).map(|value| value.to_string());
    let again = json.ok().and_then(|json| Record::parse(json.as_bytes()).ok());
    assert_eq!(again.as_ref(), Some(&record), "the line means something else in another order");
    if let Record::Entry(entry) = &record {
        assert_entry_is_sound(entry);
    }
}

fn assert_entry_is_sound(entry: &IndexEntry) {
    let metadata = &entry.entry.metadata;
    assert!(metadata.mode <= 0o7777 && metadata.mtime.nanos < 1_000_000_000);
    let owners = [&metadata.user, &metadata.group];
    assert!(
        owners.into_iter().flatten().all(|name| !name.is_empty() && !name.contains(&0) && name.len() <= 255)
    );
    assert_eq!(entry.blake3.is_some(), matches!(entry.entry.kind, EntryKind::File { .. }));
    assert_ne!(entry.entry.kind, EntryKind::Stream, "a stream has no length to be listed with");
    if let EntryKind::Symlink { target } = &entry.entry.kind {
        assert!(!target.is_empty() && !target.contains(&0));
    }
}

/// What a reader of an index counts along.
#[derive(Default)]
struct Seen {
    totals: Totals,
    entries_end: u64,
    end: Option<Totals>,
}

fn read(data: &[u8]) -> Verdict {
    let index = encrypted(&frame(data));
    let Ok(mut reader) = IndexReader::open(index.as_slice(), identities()) else { return Verdict::Refused };
    let mut seen = Seen::default();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => seen.take(&record),
            Ok(None) => break,
            Err(_) => return Verdict::Refused,
        }
    }
    seen.assert_adds_up();
    assert_eq!(reader.totals(), seen.end.as_ref());
    assert_eq!(
        reader.content_digest(),
        *blake3::hash(data).as_bytes(),
        "the digest is not that of the lines"
    );
    Verdict::Accepted
}

impl Seen {
    fn take(&mut self, record: &Record) {
        assert!(self.end.is_none(), "a line follows the last one");
        assert!(!matches!(record, Record::Header(_)), "a second header");
        match record {
            Record::Header(_) => {}
            Record::Entry(entry) => self.take_entry(entry),
            Record::Frame(frame) => self.take_frame(frame),
            Record::Warning(_) => self.totals.content.warnings += 1,
            Record::End(totals) => self.end = Some(*totals),
        }
    }

    fn take_entry(&mut self, entry: &IndexEntry) {
        assert!(entry.offset >= self.entries_end, "{:?} overlaps the entry before it", entry.entry.path);
        assert!(entry.data_offset > entry.offset && entry.end() >= entry.data_offset);
        self.entries_end = entry.end();
        self.totals.entries += 1;
    }

    fn take_frame(&mut self, frame: &FrameInfo) {
        assert_eq!((frame.offset, frame.zstd_offset), (self.totals.tar_size, self.totals.zstd_size), "a gap");
        self.totals.tar_size = frame.offset.saturating_add(frame.size);
        self.totals.zstd_size = frame.zstd_offset.saturating_add(frame.zstd_size);
        self.totals.frames += 1;
    }

    fn assert_adds_up(&self) {
        let Some(end) = self.end else { return assert!(self.end.is_some(), "an end without a last line") };
        let counted = Totals { content: end.content, ..self.totals };
        assert_eq!(counted, end, "the last line does not say what was there");
        assert_eq!(end.content.warnings, self.totals.content.warnings);
        assert!(self.entries_end <= end.tar_size, "an entry lies beyond the tar stream");
    }
}
