//! Reading an index as a stream, with every line checked against those before it.

use std::io::Read;

use xvault_core::Identity;

use super::check::Checker;
use super::lines::Lines;
use super::{IndexHeader, Record, Totals};
use crate::error::{ArchiveFile, Error};

/// The lines of an index, in order. Needs no artifact and no seeking; memory does not grow.
///
/// What it returns was checked against all lines before: entries and frames follow each other without a gap,
/// parts are complete, totals add up. A missing last line is an error, not an end.
pub struct IndexReader<R: Read> {
    lines: Lines<R>,
    header: IndexHeader,
    checker: Checker,
    plain: blake3::Hasher,
    totals: Option<Totals>,
}

impl<R: Read> IndexReader<R> {
    /// Reads the age header and the first line.
    ///
    /// # Errors
    /// When no identity fits, or this is no index of this format version.
    pub fn open(index: R, identities: &[Identity]) -> Result<Self, Error> {
        let mut lines = Lines::open(index, identities)?;
        let header = read_header(&mut lines)?;
        let mut plain = blake3::Hasher::new();
        plain.update(lines.whole_line());
        let checker = Checker::new(&header).map_err(|reason| Error::damaged(ArchiveFile::Index, reason))?;
        Ok(Self { lines, header, checker, plain, totals: None })
    }

    /// The first line.
    #[must_use]
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The last line, once it was read.
    #[must_use]
    pub fn totals(&self) -> Option<&Totals> {
        self.totals.as_ref()
    }

    /// BLAKE3 of all plain lines read so far; after the last line the same as
    /// [`ArchiveStats::content_digest`](crate::ArchiveStats::content_digest).
    #[must_use]
    pub fn content_digest(&self) -> [u8; 32] {
        self.plain.finalize().into()
    }

    /// The next line after the header; `None` after the last.
    ///
    /// # Errors
    /// When the index is damaged, truncated, or contradicts itself.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        if self.totals.is_some() {
            return Ok(None);
        }
        if !self.lines.advance()? {
            return Err(no_end());
        }
        self.plain.update(self.lines.whole_line());
        let record = parse(self.lines.line())?;
        self.checker.check(&record).map_err(|reason| Error::damaged(ArchiveFile::Index, reason))?;
        if let Record::End(totals) = &record {
            self.totals = Some(*totals);
            self.lines.expect_end()?;
        }
        Ok(Some(record))
    }
}

/// The first line, which says whose index this is.
pub(crate) fn read_header<R: Read>(lines: &mut Lines<R>) -> Result<IndexHeader, Error> {
    let first = lines.advance()?.then(|| parse(lines.line())).transpose()?;
    match first {
        Some(Record::Header(header)) => Ok(header),
        _ => Err(Error::damaged(ArchiveFile::Index, "its first line is no header")),
    }
}

/// What an index without its last line is.
pub(crate) fn no_end() -> Error {
    Error::Truncated { file: ArchiveFile::Index, reason: "its last line is missing".into() }
}

pub(crate) fn parse(line: &[u8]) -> Result<Record, Error> {
    Record::parse(line).map_err(|error| Error::damaged(ArchiveFile::Index, error.to_string()))
}
