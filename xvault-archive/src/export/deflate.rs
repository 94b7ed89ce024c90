//! The body of a file in a zip: deflated, with the checksum of what went in.

use std::io::Write;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::output::Output;
use crate::error::Error;

/// Above level 1, whose blocks let noise grow by an eighth; higher ones are slower than a snapshot is read.
const LEVEL: u32 = 2;
/// What is written at once.
const BUFFER: usize = 64 << 10;

/// Deflates one body after the other with the same memory.
pub(super) struct Deflater {
    compress: Compress,
    buffer: Vec<u8>,
    crc: Crc,
}

/// What became of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deflated {
    pub(super) crc32: u32,
    /// Bytes in the zip.
    pub(super) packed: u64,
}

impl Deflater {
    pub(super) fn new() -> Self {
        let compress = Compress::new(Compression::new(LEVEL), false);
        Self { compress, buffer: Vec::with_capacity(BUFFER), crc: Crc::new() }
    }

    pub(super) fn data<W: Write>(&mut self, mut data: &[u8], out: &mut Output<'_, W>) -> Result<(), Error> {
        self.crc.update(data);
        while !data.is_empty() {
            let taken = self.step(data, FlushCompress::None, out)?.0;
            data = data.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends the body, and is ready for the next.
    pub(super) fn finish<W: Write>(&mut self, out: &mut Output<'_, W>) -> Result<Deflated, Error> {
        while self.step(&[], FlushCompress::Finish, out)?.1 != Status::StreamEnd {}
        let deflated = Deflated { crc32: self.crc.sum(), packed: self.compress.total_out() };
        self.compress.reset();
        self.crc.reset();
        Ok(deflated)
    }

    /// How much was taken, and whether that was the end.
    fn step<W: Write>(
        &mut self,
        data: &[u8],
        flush: FlushCompress,
        out: &mut Output<'_, W>,
    ) -> Result<(usize, Status), Error> {
        self.buffer.clear();
        let before = self.compress.total_in();
        let status = self.compress.compress_vec(data, &mut self.buffer, flush);
        let status = status.map_err(|error| Error::Output(error.into()))?;
        out.put(&self.buffer)?;
        Ok((usize::try_from(self.compress.total_in() - before).unwrap_or(data.len()), status))
    }
}
