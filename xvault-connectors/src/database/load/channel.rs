//! From a thread that reads a dump to the task that loads it. Only a dump that was finished is whole.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::own_name::OwnName;
use crate::Error;

/// Pieces on their way. Of 256 KiB, some MiB at most.
const ROOM: usize = 8;

/// How a line begins that forbids `psql` commands until the word that follows is told again, and that other line.
const RESTRICT: &[u8] = b"\\restrict ";
const UNRESTRICT: &[u8] = b"\\unrestrict ";

/// How the lines begin that stand in a dump of PostgreSQL before all definitions.
pub(super) const PREAMBLE: [&[u8]; 7] =
    [b"\n", b"\r\n", b"--", b"BEGIN;", b"SET ", b"SELECT pg_catalog.set_config(", RESTRICT];

/// The end of a dump that is looked at in one piece: more than the last line of `pg_dump`, and what people put behind it.
const TAIL: usize = 4096;

/// Makes both ends.
#[must_use]
pub fn dump_channel() -> (DumpWriter, DumpReader) {
    let (sender, receiver) = mpsc::channel(ROOM);
    (
        DumpWriter { sender },
        DumpReader {
            receiver,
            head: Vec::new(),
            held: None,
            last_line: None,
            own_name: None,
            ending: None,
            received: 0,
            finished: false,
        },
    )
}

/// Takes a dump, on a thread that may block; to be closed with [`DumpWriter::finish`]. One that is dropped before is a dump that
/// broke off.
#[derive(Debug)]
pub struct DumpWriter {
    sender: mpsc::Sender<Option<Bytes>>,
}

impl DumpWriter {
    /// That was all of it.
    pub fn finish(self) {
        let _ = self.sender.blocking_send(None);
    }

    /// As [`DumpWriter::finish`], within async code.
    pub async fn finished(self) {
        let _ = self.sender.send(None).await;
    }

    /// As [`io::Write::write_all`], within async code.
    ///
    /// # Errors
    /// When nobody loads it any more.
    pub async fn push(&self, data: Bytes) -> io::Result<()> {
        self.sender.send(Some(data)).await.map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the database takes no more")
}

impl Clone for DumpWriter {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl io::Write for DumpWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.sender.blocking_send(Some(Bytes::copy_from_slice(data))).map_err(|_| gone())?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a dump. The last piece is held back until the dump is known to be whole.
#[derive(Debug)]
pub struct DumpReader {
    receiver: mpsc::Receiver<Option<Bytes>>,
    head: Vec<u8>,
    held: Option<Bytes>,
    /// Dropped when it is the last one.
    last_line: Option<Vec<u8>>,
    own_name: Option<OwnName>,
    ending: Option<&'static [u8]>,
    received: u64,
    finished: bool,
}

impl DumpReader {
    /// The first `count` bytes, or all when there are fewer; they will be given again.
    pub(super) async fn head(&mut self, count: usize) -> Result<&[u8], Error> {
        while self.head.len() < count {
            match self.receive().await? {
                Some(piece) => self.head.extend_from_slice(&piece),
                None => break,
            }
        }
        Ok(&self.head)
    }

    /// Drops the first line when it begins with `start`. After [`DumpReader::head`].
    pub(super) fn drop_first_line(&mut self, start: &[u8]) {
        if self.head.starts_with(start)
            && let Some(end) = self.head.iter().position(|byte| *byte == b'\n')
        {
            self.head.drain(..=end);
        }
    }

    /// Drops the line by which `pg_dump` restricts `psql`, and the last line, which undoes that. After [`DumpReader::head`].
    pub(super) fn drop_restriction(&mut self) {
        let Some(line) = self.drop_from_preamble(|line| line.starts_with(RESTRICT)) else { return };
        let word = line.strip_prefix(RESTRICT).unwrap_or_default().trim_ascii_end();
        self.last_line = Some([UNRESTRICT, word].concat());
    }

    /// Drops `line`, whatever ends it, where it stands before all definitions of a dump of PostgreSQL. After [`DumpReader::head`].
    pub(super) fn drop_setting(&mut self, line: &[u8]) {
        let _ = self.drop_from_preamble(|one| one.trim_ascii_end() == line.trim_ascii_end());
    }

    /// Drops the first line that `is` it, and gives it, where that stands before all definitions. A row may be like any such line.
    fn drop_from_preamble(&mut self, is: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let is_first =
            |line: &&[u8]| line.ends_with(b"\n") && PREAMBLE.iter().any(|word| line.starts_with(word));
        let lines = || self.head.split_inclusive(|byte| *byte == b'\n').take_while(is_first);
        let start: usize = lines().take_while(|line| !is(line)).map(<[u8]>::len).sum();
        let length = lines().find(|line| is(line))?.len();
        Some(self.head.drain(start..start + length).collect())
    }

    /// Gives the end only where it has this line: as a file on somebody's disk a dump may have been cut.
    pub(super) fn must_end_with(&mut self, line: &'static [u8]) {
        self.ending = Some(line);
    }

    /// Makes what the dump says of its database by name be about the one in use.
    pub(super) fn drop_own_name(&mut self) {
        self.own_name = Some(OwnName::default());
    }

    /// The next piece; `None` at the end of a whole dump.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let piece = self.piece().await?;
            let Some(own_name) = &mut self.own_name else { return Ok(piece) };
            let is_last = piece.is_none();
            let given = match piece {
                Some(piece) => own_name.push(&piece)?,
                None => own_name.rest(),
            };
            if is_last || !given.is_empty() {
                return Ok((!given.is_empty()).then(|| Bytes::from(given)));
            }
        }
    }

    /// The next piece as it came.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.head.is_empty() {
            self.held = Some(Bytes::from(std::mem::take(&mut self.head)));
        }
        loop {
            match (self.receive().await?, self.held.take()) {
                (Some(piece), Some(held)) => {
                    let (given, kept) = parted(held, piece);
                    self.held = Some(kept);
                    if !given.is_empty() {
                        return Ok(Some(given));
                    }
                }
                (Some(piece), None) => self.held = Some(piece),
                (None, held) => return held.map(|piece| self.last(piece)).transpose(),
            }
        }
    }

    /// How much of the dump came so far, with what was dropped of it.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    fn last(&self, piece: Bytes) -> Result<Bytes, Error> {
        let holds = |line: &[u8]| piece.windows(line.len()).any(|window| window == line);
        match self.ending {
            Some(line) if !holds(line) => Err(Error::DumpRefused {
                tool: "the dump".to_owned(),
                reason: format!(
                    "its end is missing (`{}`): it was cut, or more than 4 KiB follow",
                    String::from_utf8_lossy(line).trim()
                ),
            }),
            _ => Ok(self.without_last_line(piece)),
        }
    }

    fn without_last_line(&self, piece: Bytes) -> Bytes {
        let Some(line) = &self.last_line else { return piece };
        match piece.trim_ascii_end().strip_suffix(line.as_slice()) {
            Some(rest) if rest.ends_with(b"\n") => piece.slice_ref(rest),
            _ => piece,
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        if self.finished {
            return Ok(None);
        }
        match self.receiver.recv().await {
            Some(Some(piece)) => {
                self.received += piece.len() as u64;
                Ok(Some(piece))
            }
            Some(None) => {
                self.finished = true;
                Ok(None)
            }
            None => Err(Error::Incomplete("the dump broke off while it was loaded".to_owned())),
        }
    }
}

/// What can be given of `held`, now that `piece` follows, and what is held then: [`TAIL`] at least, where there is so much.
fn parted(held: Bytes, piece: Bytes) -> (Bytes, Bytes) {
    if piece.len() >= TAIL {
        return (held, piece);
    }
    let mut given = Bytes::from([held, piece].concat());
    let kept = given.split_off(given.len().saturating_sub(TAIL));
    (given, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces that are not joined.
    fn long(letter: &str) -> Bytes {
        Bytes::from(letter.repeat(TAIL))
    }

    #[tokio::test]
    async fn the_last_piece_comes_only_when_the_dump_is_whole() {
        for whole in [true, false] {
            let (writer, mut reader) = dump_channel();
            for piece in [Bytes::from("sandbox\nab"), long("c"), long("e")] {
                writer.push(piece).await.unwrap();
            }
            if whole {
                writer.finished().await;
            } else {
                drop(writer);
            }
            assert_eq!(reader.head(5).await.unwrap(), b"sandbox\nab");
            reader.drop_first_line(b"sand");
            assert_eq!(reader.next().await.unwrap().unwrap(), "ab");
            assert_eq!(reader.next().await.unwrap().unwrap(), long("c"));
            if whole {
                assert_eq!(reader.next().await.unwrap().unwrap(), long("e"));
                assert_eq!(reader.next().await.unwrap(), None);
            } else {
                let error = reader.next().await.unwrap_err().to_string();
                assert_eq!(error, "incomplete: the dump broke off while it was loaded");
            }
        }
    }

    /// Of a dump that arrives in pieces of `size`.
    async fn unrestricted(dump: &str, size: usize) -> String {
        of_pieces(dump, size, 40, DumpReader::drop_restriction).await
    }

    /// As a server before 17 gets it.
    async fn dropped(dump: &str, size: usize) -> String {
        let change = |reader: &mut DumpReader| {
            reader.drop_restriction();
            reader.drop_setting(b"SET transaction_timeout = 0;");
        };
        of_pieces(dump, size, 4096, change).await
    }

    async fn of_pieces(dump: &str, size: usize, head: usize, change: impl Fn(&mut DumpReader)) -> String {
        let (writer, mut reader) = dump_channel();
        let dump = dump.to_owned();
        let pushed = tokio::spawn(async move {
            for piece in dump.into_bytes().chunks(size) {
                writer.push(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            writer.finished().await;
        });
        let _ = reader.head(head).await.unwrap();
        change(&mut reader);
        let mut given = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            given.extend_from_slice(&piece);
        }
        pushed.await.unwrap();
        String::from_utf8(given).unwrap()
    }

    #[tokio::test]
    async fn a_restriction_is_dropped_with_its_end_and_nothing_else_is() {
        let rows = "row\n".repeat(500);
        let cases = [
            (format!("--\n\\restrict Word\n{rows}\\unrestrict Word\n\n"), format!("--\n{rows}")),
            (format!("--\n\\restrict Word\n{rows}"), format!("--\n{rows}")),
            (format!("--\r\n\r\n\\restrict W\r\n{rows}\\unrestrict W\r\n"), format!("--\r\n\r\n{rows}")),
            (
                format!("\\restrict W\n\\unrestrict W\n{rows}\\unrestrict W\n"),
                format!("\\unrestrict W\n{rows}"),
            ),
            (format!("--\n{rows}\\unrestrict Word\n"), format!("--\n{rows}\\unrestrict Word\n")),
            (format!("\\restrict W\n{rows}x\\unrestrict W\n"), format!("{rows}x\\unrestrict W\n")),
        ];
        for (dump, expected) in &cases {
            for size in [1, 7, 300, 100_000] {
                assert_eq!(&unrestricted(dump, size).await, expected, "{size}");
            }
        }
        // Longer than what is looked at: the word is not known.
        let cut = format!("{}\n\\restrict Word\n{rows}\\unrestrict Word\n", "-".repeat(27));
        assert_eq!(unrestricted(&cut, 1).await, cut);
    }

    /// What a row, a definition and a preamble may be made of.
    const LIKE: [&str; 6] =
        ["\\restrict W\n", "\\unrestrict W\n", "SET transaction_timeout = 0;\n", "\n", "-- x\n", "row\n"];

    fn lines(from: &'static [&'static str]) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(from), 0..8).prop_map(|lines| lines.concat())
    }

    proptest! {
        /// Whatever follows the first definition comes as it is, its last line but for the end of a restriction.
        #[test]
        fn nothing_is_dropped_behind_the_preamble(
            before in lines(&["\n", "-- x\n", "BEGIN;\n", "SET lock_timeout = 0;\n"]),
            restricted in any::<bool>(),
            between in lines(&["\n", "-- y\n", "SELECT pg_catalog.set_config('search_path', '', false);\n"]),
            set in any::<bool>(),
            definition in proptest::sample::select(vec!["COPY public.t (a) FROM stdin;\n", "CREATE TABLE t (a text);\n"]),
            rows in lines(&LIKE),
            size in 1_usize..200,
        ) {
            let restriction = if restricted { "\\restrict W\n" } else { "" };
            let setting = if set { LIKE[2] } else { "" };
            let kept = format!("{definition}{rows}end\n");
            let end = if restricted { "\\unrestrict W\n" } else { "" };
            let dump = format!("{before}{restriction}{between}{setting}{kept}{end}");
            let given = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(dropped(&dump, size));
            prop_assert_eq!(given, format!("{before}{between}{kept}"));
        }
    }

    #[tokio::test]
    async fn a_setting_is_dropped_before_all_definitions_and_nowhere_else() {
        let line = "SET transaction_timeout = 0;\n";
        let head = "--\n-- PostgreSQL database dump\n--\n\nBEGIN;\n\nSET lock_timeout = 0;\n";
        let rest = "SELECT pg_catalog.set_config('search_path', '', false);\n\nCREATE TABLE t (a text);\n";
        for (dump, expected) in [
            (format!("{head}{line}{rest}{line}"), format!("{head}{rest}{line}")),
            (format!("{head}{rest}{line}"), format!("{head}{rest}{line}")),
            (format!("{line}{rest}"), rest.to_owned()),
            (head.to_owned(), head.to_owned()),
            (String::new(), String::new()),
        ] {
            let (writer, mut reader) = dump_channel();
            writer.push(Bytes::from(dump)).await.unwrap();
            writer.finished().await;
            let _ = reader.head(4096).await.unwrap();
            reader.drop_setting(line.as_bytes());
            let given = reader.next().await.unwrap().unwrap_or_default();
            assert_eq!(given, expected);
        }
    }
}
