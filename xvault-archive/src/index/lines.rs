//! The plain lines of an encrypted index, whatever they say.

use std::io::{BufRead, BufReader, Read};

use age::stream::StreamReader;
use xvault_core::Identity;

use super::MAX_LINE_LEN;
use crate::error::{ArchiveFile, Error};
use crate::input::{Input, classify, decrypt};

/// A hostile index must not make us hold more than 8 MiB of window.
const MAX_WINDOW_LOG: u32 = 23;
/// What is decompressed at a time: a few hundred lines.
const BUFFER_LEN: usize = 64 << 10;

type Decoder<R> = zstd::stream::read::Decoder<'static, BufReader<StreamReader<Input<R>>>>;

/// The lines of an index, in order, none longer than [`MAX_LINE_LEN`]. What they say is not looked at.
pub(crate) struct Lines<R: Read> {
    plain: BufReader<Decoder<R>>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads the age header.
    pub(crate) fn open(index: R, identities: &[Identity]) -> Result<Self, Error> {
        let stream = decrypt(ArchiveFile::Index, index, identities)?;
        let fault = |error| classify(ArchiveFile::Index, error, "its zstd stream");
        let mut decoder = zstd::stream::read::Decoder::new(stream).map_err(fault)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(fault)?;
        Ok(Self { plain: BufReader::with_capacity(BUFFER_LEN, decoder), line: Vec::new() })
    }

    /// Reads the next line; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        self.line.clear();
        let read = self.plain.by_ref().take(MAX_LINE_LEN as u64).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| classify(ArchiveFile::Index, error, "its lines"))?;
        match self.line.last() {
            None => Ok(false),
            Some(b'\n') => Ok(true),
            _ if read == MAX_LINE_LEN => {
                Err(Error::damaged(ArchiveFile::Index, "a line is longer than 1 MiB"))
            }
            _ => Err(Error::Truncated { file: ArchiveFile::Index, reason: "it ends within a line".into() }),
        }
    }

    /// The line that was read last, without its newline.
    pub(crate) fn line(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    /// The same with its newline.
    pub(crate) fn whole_line(&self) -> &[u8] {
        &self.line
    }

    /// Refuses anything after the line that was read last.
    pub(crate) fn expect_end(&mut self) -> Result<(), Error> {
        let rest = self.plain.fill_buf().map_err(|e| classify(ArchiveFile::Index, e, "its end"))?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Error::damaged(ArchiveFile::Index, "something follows its last line"))
        }
    }
}
