//! What a snapshot holds, from its index alone.

use std::io::{Read, Seek, SeekFrom};

use xvault_core::snapshot::SnapshotKey;
use xvault_core::{Entry, EntryKind, EntryPath, Identity, Warning};

use crate::error::{ArchiveFile, Error};
use crate::frames::FrameTable;
use crate::index::{
    IndexEntry, IndexHeader, IndexReader, Joined, Lines, Record, Segment, Totals, part_name, read_header,
};

/// One thing in a snapshot as it was at the source: a stream that was stored in parts is one file again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Path, kind and metadata; never of kind `Stream`.
    pub entry: Entry,
    /// BLAKE3 of the content; for files only.
    pub blake3: Option<[u8; 32]>,
    /// Where it begins in the tar stream.
    pub offset: u64,
    /// Where it ends in the tar stream, padding included.
    pub end: u64,
    /// How many parts it was stored in; 0 for everything that is one tar entry.
    pub parts: u64,
}

impl ArchiveEntry {
    /// Bytes of content; 0 for what has none.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.entry.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}

impl From<IndexEntry> for ArchiveEntry {
    /// The tar entry as it is, parts not joined.
    fn from(from: IndexEntry) -> Self {
        let end = from.end();
        Self { blake3: from.blake3, offset: from.offset, end, parts: 0, entry: from.entry }
    }
}

/// The index of a snapshot, to be looked through as often as needed.
pub struct ArchiveIndex<I> {
    index: I,
    identities: Vec<Identity>,
    header: IndexHeader,
}

impl<I: Read + Seek> ArchiveIndex<I> {
    /// Opens an index; reads its first line.
    ///
    /// # Errors
    /// When no identity fits, or this is no index of this format version.
    pub fn open(mut index: I, identities: &[Identity]) -> Result<Self, Error> {
        let header = IndexReader::open(&mut index, identities)?.header().clone();
        Ok(Self { index, identities: identities.to_vec(), header })
    }

    /// The first line.
    #[must_use]
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// Refuses the index of another snapshot.
    ///
    /// # Errors
    /// When the index is not that of `key`.
    pub fn expect_key(&self, key: &SnapshotKey) -> Result<(), Error> {
        if self.header.key == *key {
            return Ok(());
        }
        Err(Error::Mismatch {
            file: ArchiveFile::Index,
            what: "the snapshot it belongs to",
            expected: key.prefix(),
            found: self.header.key.prefix(),
        })
    }

    /// All lines from the start.
    ///
    /// # Errors
    /// As [`ArchiveIndex::open`].
    pub fn records(&mut self) -> Result<IndexReader<&mut I>, Error> {
        self.rewind()?;
        let reader = IndexReader::open(&mut self.index, &self.identities)?;
        check_header(reader.header(), &self.header)?;
        Ok(reader)
    }

    /// The lines after the header, from the start, as they are.
    pub(crate) fn lines(&mut self) -> Result<Lines<&mut I>, Error> {
        self.rewind()?;
        let mut lines = Lines::open(&mut self.index, &self.identities)?;
        check_header(&read_header(&mut lines)?, &self.header)?;
        Ok(lines)
    }

    fn rewind(&mut self) -> Result<(), Error> {
        let rewind = self.index.seek(SeekFrom::Start(0));
        rewind.map(drop).map_err(|source| Error::Io { op: "read", file: ArchiveFile::Index, source })
    }

    /// All entries from the start, in the order in which they were written.
    ///
    /// # Errors
    /// As [`ArchiveIndex::open`]; the iterator's items as [`IndexReader::next_record`]. It ends after its first error.
    pub fn entries(&mut self) -> Result<Entries<&mut I>, Error> {
        Ok(Entries { records: self.records()?, joining: None, failed: false })
    }

    /// All warnings, in the order in which they were written.
    ///
    /// # Errors
    /// As [`ArchiveIndex::entries`].
    pub fn warnings(&mut self) -> Result<impl Iterator<Item = Result<Warning, Error>>, Error> {
        let mut records = self.records()?;
        let next = move || records.next_record().transpose();
        Ok(std::iter::from_fn(next).filter_map(|record| match record {
            Ok(Record::Warning(warning)) => Some(Ok(warning)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// The last line: reads everything, and so checks that the index is whole.
    ///
    /// # Errors
    /// As [`IndexReader::next_record`].
    pub fn totals(&mut self) -> Result<Totals, Error> {
        self.scan(|_| {}).map(|(_, totals)| totals)
    }

    /// The entry of that path.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Hostile`] when it is there twice; or as [`IndexReader::next_record`]: the whole
    /// index is read and checked.
    pub fn find(&mut self, path: &EntryPath) -> Result<ArchiveEntry, Error> {
        self.find_in_layout(path).map(|(entry, _)| entry)
    }

    /// The entry of that path, and what the rest of the index says about the artifact.
    pub(crate) fn find_in_layout(
        &mut self,
        path: &EntryPath,
    ) -> Result<(ArchiveEntry, (FrameTable, Totals)), Error> {
        let (mut found, mut twice) = (None, false);
        let layout = self.scan(|entry| {
            if entry.entry.path == *path {
                twice |= found.replace(entry).is_some();
            }
        })?;
        if twice {
            return Err(Error::Hostile { path: path.to_string(), reason: "appears twice" });
        }
        found.map(|entry| (entry, layout)).ok_or_else(|| Error::NotFound { path: path.clone() })
    }

    /// Goes through everything once.
    pub(crate) fn scan(
        &mut self,
        mut visit: impl FnMut(ArchiveEntry),
    ) -> Result<(FrameTable, Totals), Error> {
        let (mut table, mut totals) = (FrameTable::new(self.header.frame_size), Totals::default());
        let (mut records, mut joining) = (self.records()?, None);
        while let Some(record) = records.next_record()? {
            match record {
                Record::Entry(entry) => {
                    if let Some(entry) = join(&mut joining, entry) {
                        visit(entry);
                    }
                }
                Record::Frame(frame) => table.push(&frame),
                Record::End(end) => totals = end,
                Record::Header(_) | Record::Warning(_) => {}
            }
        }
        Ok((table, totals))
    }
}

fn check_header(found: &IndexHeader, expected: &IndexHeader) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::damaged(ArchiveFile::Index, "it changed while it was read"))
}

/// The entries of an index, read as a stream. See [`ArchiveIndex::entries`].
pub struct Entries<R: Read> {
    records: IndexReader<R>,
    joining: Option<ArchiveEntry>,
    failed: bool,
}

impl<R: Read> Entries<R> {
    /// The entries of an index that can't seek.
    #[must_use]
    pub fn new(records: IndexReader<R>) -> Self {
        Self { records, joining: None, failed: false }
    }

    fn advance(&mut self) -> Result<Option<ArchiveEntry>, Error> {
        while let Some(record) = self.records.next_record()? {
            if let Record::Entry(entry) = record
                && let Some(entry) = join(&mut self.joining, entry)
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Entries<R> {
    type Item = Result<ArchiveEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// Gathers parts until their closing entry; the index reader has checked that they are complete and in order.
pub(crate) fn join(joining: &mut Option<ArchiveEntry>, entry: IndexEntry) -> Option<ArchiveEntry> {
    match entry.segment {
        None => Some(entry.into()),
        Some(Segment::Part { number: 1 }) => {
            *joining = first_part(entry);
            None
        }
        Some(Segment::Part { .. }) => None,
        Some(Segment::Closing(Joined { parts, length, blake3 })) => {
            let mut whole = joining.take()?;
            whole.entry.kind = EntryKind::File { size: length };
            (whole.blake3, whole.end, whole.parts) = (Some(blake3), entry.end(), parts);
            Some(whole)
        }
    }
}

fn first_part(part: IndexEntry) -> Option<ArchiveEntry> {
    let mut whole = ArchiveEntry::from(part);
    let name = whole.entry.path.as_bytes().strip_suffix(part_name(b"", 1).as_slice())?;
    whole.entry.path = EntryPath::new(name).ok()?;
    Some(whole)
}
