//! Reading an index as a stream, with every line checked against those before it.

use std::io::{BufRead, BufReader, Read};

use age::stream::StreamReader;
use xvault_core::Identity;

use super::check::Checker;
use super::{IndexHeader, MAX_LINE_LEN, Record, Totals};
use crate::error::{ArchiveFile, Error};
use crate::input::{Input, classify, decrypt};

/// A hostile index must not make us hold more than 8 MiB of window.
const MAX_WINDOW_LOG: u32 = 23;

type Decoder<R> = zstd::stream::read::Decoder<'static, BufReader<StreamReader<Input<R>>>>;

/// The lines of an index, in order. Needs no artifact and no seeking; memory does not grow.
///
/// What it returns was checked against all lines before: entries and frames follow each other without a gap,
/// parts are complete, totals add up. A missing last line is an error, not an end.
pub struct IndexReader<R: Read> {
    lines: BufReader<Decoder<R>>,
    line: Vec<u8>,
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
        let stream = decrypt(ArchiveFile::Index, index, identities)?;
        let fault = |error| classify(ArchiveFile::Index, error, "its zstd stream");
        let mut decoder = zstd::stream::read::Decoder::new(stream).map_err(fault)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(fault)?;
        let (mut lines, mut line, mut plain) = (BufReader::new(decoder), Vec::new(), blake3::Hasher::new());
        let first = read_line(&mut lines, &mut line, &mut plain)?.then(|| parse(&line)).transpose()?;
        let Some(Record::Header(header)) = first else {
            return Err(Error::damaged(ArchiveFile::Index, "its first line is no header"));
        };
        let checker = Checker::new(&header).map_err(|reason| Error::damaged(ArchiveFile::Index, reason))?;
        Ok(Self { lines, line, header, checker, plain, totals: None })
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
        if !read_line(&mut self.lines, &mut self.line, &mut self.plain)? {
            let reason = "its last line is missing".into();
            return Err(Error::Truncated { file: ArchiveFile::Index, reason });
        }
        let record = parse(&self.line)?;
        self.checker.check(&record).map_err(|reason| Error::damaged(ArchiveFile::Index, reason))?;
        if let Record::End(totals) = &record {
            self.totals = Some(*totals);
            self.expect_end()?;
        }
        Ok(Some(record))
    }

    fn expect_end(&mut self) -> Result<(), Error> {
        let rest = self.lines.fill_buf().map_err(|e| classify(ArchiveFile::Index, e, "its end"))?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Error::damaged(ArchiveFile::Index, "something follows its last line"))
        }
    }
}

/// Reads a line without its newline; `false` at the end.
fn read_line(
    lines: &mut impl BufRead,
    line: &mut Vec<u8>,
    plain: &mut blake3::Hasher,
) -> Result<bool, Error> {
    line.clear();
    let read = lines.take(MAX_LINE_LEN as u64).read_until(b'\n', line);
    let read = read.map_err(|error| classify(ArchiveFile::Index, error, "its lines"))?;
    plain.update(line);
    if read == 0 {
        return Ok(false);
    }
    match line.pop() {
        Some(b'\n') => Ok(true),
        _ if read == MAX_LINE_LEN => Err(Error::damaged(ArchiveFile::Index, "a line is longer than 1 MiB")),
        _ => Err(Error::Truncated { file: ArchiveFile::Index, reason: "it ends within a line".into() }),
    }
}

fn parse(line: &[u8]) -> Result<Record, Error> {
    Record::parse(line).map_err(|error| Error::damaged(ArchiveFile::Index, error.to_string()))
}
