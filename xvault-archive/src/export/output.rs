//! Where an export goes: counts what was written.

use std::io::{self, Write};

use crate::error::Error;

/// Counts the bytes that `W` took.
pub(super) struct Output<'a, W> {
    inner: &'a mut W,
    bytes: u64,
}

impl<'a, W: Write> Output<'a, W> {
    pub(super) fn new(inner: &'a mut W) -> Self {
        Self { inner, bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes).map_err(Error::Output)
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.inner.flush().map_err(Error::Output)
    }
}

impl<W: Write> Write for Output<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
