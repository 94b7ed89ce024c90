//! The content of one entry, out of the frames that hold it, checked against the index.

use std::io::{self, Read, Seek};

use bytes::{Buf, Bytes};
use xvault_core::snapshot::hex;
use xvault_core::tar::{Event, TarEntry, TarKind, TarParser};
use xvault_core::{Entry, EntryKind, EntryPath};

use crate::error::{ArchiveFile, Error};
use crate::frames::{FrameSource, FrameTable};
use crate::index::{Joined, closing_name, part_name};
use crate::listing::ArchiveEntry;
use crate::writer::PartsFile;

/// The longest `NAME.parts.json` that is read.
const MAX_PARTS_FILE: usize = 4096;

/// Reads the content of an entry, chunk by chunk or as [`Read`].
///
/// The last chunk is followed by a check of length and content hash: whoever has not seen `Ok(None)` (or `Ok(0)`) has not
/// got the whole content. Reads only the frames that hold the entry.
pub struct EntryReader<'a, A> {
    frames: &'a mut FrameSource<A>,
    table: &'a FrameTable,
    entry: ArchiveEntry,
    parser: TarParser,
    /// Where in the tar stream the next bytes come from.
    position: u64,
    input: Bytes,
    hasher: blake3::Hasher,
    length: u64,
    /// Tar headers seen so far.
    headers: u64,
    parts_file: Vec<u8>,
    /// What [`Read`] has not given out yet.
    rest: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Done,
    Failed,
}

impl<'a, A: Read + Seek> EntryReader<'a, A> {
    pub(crate) fn new(frames: &'a mut FrameSource<A>, table: &'a FrameTable, entry: ArchiveEntry) -> Self {
        Self {
            frames,
            table,
            parser: TarParser::new(),
            position: entry.offset,
            entry,
            input: Bytes::new(),
            hasher: blake3::Hasher::new(),
            length: 0,
            headers: 0,
            parts_file: Vec::new(),
            rest: Bytes::new(),
            state: State::Reading,
        }
    }

    /// The entry that is read.
    #[must_use]
    pub fn entry(&self) -> &ArchiveEntry {
        &self.entry
    }

    /// The next piece of content, never empty; `None` after the last, when everything agreed with the index.
    ///
    /// # Errors
    /// When the artifact is damaged, says something else than the index, or can't be read.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match self.state {
            State::Done => return Ok(None),
            State::Failed => return Err(Error::Failed),
            State::Reading => {}
        }
        let chunk = self.advance();
        match &chunk {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Done,
            Err(_) => self.state = State::Failed,
        }
        chunk
    }

    fn advance(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.parser.next(&mut self.input) {
                Ok(Some(Event::Header(header))) => self.header(&header)?,
                Ok(Some(Event::Data(data))) => {
                    if let Some(content) = self.data(data)? {
                        return Ok(Some(content));
                    }
                }
                Ok(Some(Event::EntryEnd)) => {}
                Ok(Some(Event::ArchiveEnd)) => {
                    return Err(self.disagrees("the archive's end comes too early"));
                }
                Ok(None) if self.position == self.entry.end => return self.finish().map(|()| None),
                Ok(None) => self.fill()?,
                Err(error) => return Err(self.disagrees(&error.to_string())),
            }
        }
    }

    /// Gets the next bytes of the tar stream, up to the entry's end.
    fn fill(&mut self) -> Result<(), Error> {
        // Lets go of the frame, so that its memory serves for the next.
        self.input = Bytes::new();
        let (number, frame) =
            self.table.at(self.position).ok_or_else(|| self.disagrees("the index has no frame for it"))?;
        let tar = self.frames.load(self.table, number, self.entry.end).map_err(|error| self.named(error))?;
        let cut =
            |offset: u64| usize::try_from(offset - frame.offset).map_or(tar.len(), |at| at.min(tar.len()));
        let (start, end) = (cut(self.position), cut(self.entry.end.min(frame.offset + frame.size)));
        self.input = tar.slice(start..end.max(start));
        self.position += self.input.len() as u64;
        if self.input.is_empty() {
            Err(self.disagrees("a frame is shorter than the index says"))
        } else {
            Ok(())
        }
    }

    fn header(&mut self, header: &TarEntry) -> Result<(), Error> {
        self.headers += 1;
        let expected = self.expected(header.size)?;
        if agrees(header, &expected) {
            Ok(())
        } else {
            Err(self.disagrees("the tar header says something else than the index"))
        }
    }

    /// What the header that was just read must say.
    fn expected(&self, size: u64) -> Result<Entry, Error> {
        let ArchiveEntry { entry, parts, .. } = &self.entry;
        let name = match self.headers {
            1 if *parts == 0 => return Ok(entry.clone()),
            number if number <= *parts => part_name(entry.path.as_bytes(), number),
            number if *parts > 0 && number == *parts + 1 => closing_name(entry.path.as_bytes()),
            _ => return Err(self.disagrees("more tar entries than the index says")),
        };
        let path = EntryPath::new(name).map_err(|_| self.disagrees("the name of a part is too long"))?;
        Ok(Entry { path, kind: EntryKind::File { size }, metadata: entry.metadata.clone() })
    }

    /// Takes what belongs to the closing entry away, and hashes the rest.
    fn data(&mut self, data: Bytes) -> Result<Option<Bytes>, Error> {
        if self.entry.parts > 0 && self.headers > self.entry.parts {
            self.parts_file.extend_from_slice(&data);
            if self.parts_file.len() > MAX_PARTS_FILE {
                return Err(self.disagrees("its closing entry is too long"));
            }
            return Ok(None);
        }
        self.length += data.len() as u64;
        if self.length > self.entry.size() {
            return Err(self.disagrees("it is longer than the index says"));
        }
        self.hasher.update(&data);
        Ok(Some(data))
    }

    fn finish(&mut self) -> Result<(), Error> {
        let whole = if self.entry.parts > 0 { self.entry.parts + 1 } else { 1 };
        if self.headers != whole || self.parser.offset() != self.entry.end - self.entry.offset {
            return Err(self.disagrees("it does not end where the index says"));
        }
        if self.length != self.entry.size() {
            return Err(self.disagrees("it is shorter than the index says"));
        }
        let found: [u8; 32] = self.hasher.finalize().into();
        if self.entry.blake3.is_some_and(|expected| expected != found) {
            return Err(self.disagrees("its content hash is not that of the index"));
        }
        if self.entry.parts > 0 { self.check_parts_file(found) } else { Ok(()) }
    }

    fn check_parts_file(&self, blake3: [u8; 32]) -> Result<(), Error> {
        let joined = Joined { parts: self.entry.parts, length: self.length, blake3 };
        match serde_json::from_slice::<PartsFile>(&self.parts_file) {
            Ok(file) if file == PartsFile::from(&joined) => Ok(()),
            _ => Err(self.disagrees(&format!(
                "its closing entry does not say {} parts, {} bytes, BLAKE3 {}",
                joined.parts,
                joined.length,
                hex(&joined.blake3)
            ))),
        }
    }

    fn disagrees(&self, reason: &str) -> Error {
        Error::damaged(ArchiveFile::Artifact, format!("{}: {reason}", self.place()))
    }

    /// A frame that can't be read is told with the entry that needed it.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::Damaged { file, reason } => Error::damaged(file, format!("{}: {reason}", self.place())),
            Error::Truncated { file, reason } => {
                Error::Truncated { file, reason: format!("{}: {reason}", self.place()) }
            }
            other => other,
        }
    }

    fn place(&self) -> String {
        let ArchiveEntry { entry, offset, .. } = &self.entry;
        format!("entry `{}` at byte {offset} of the tar stream", entry.path)
    }
}

/// Whether a tar header says the same as an index line.
fn agrees(header: &TarEntry, expected: &Entry) -> bool {
    let path = expected.path.as_bytes();
    let (same_kind, size, path_end) = match (&header.kind, &expected.kind) {
        (TarKind::Directory, EntryKind::Directory) => (true, 0, &b"/"[..]),
        (TarKind::File, EntryKind::File { size }) => (true, *size, &b""[..]),
        (TarKind::Symlink { target: a }, EntryKind::Symlink { target: b }) => (a == b, 0, &b""[..]),
        (TarKind::Hardlink { target: a }, EntryKind::Hardlink { target: b }) => {
            (a == b.as_bytes(), 0, &b""[..])
        }
        _ => (false, 0, &b""[..]),
    };
    same_kind
        && header.size == size
        && header.path.strip_prefix(path) == Some(path_end)
        && header.metadata == expected.metadata
}

impl<A: Read + Seek> Read for EntryReader<'_, A> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.rest.is_empty() {
            match self.next_chunk()? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buf.len());
        self.rest.copy_to_slice(buf.get_mut(..count).unwrap_or_default());
        if self.rest.is_empty() {
            self.rest = Bytes::new();
        }
        Ok(count)
    }
}
