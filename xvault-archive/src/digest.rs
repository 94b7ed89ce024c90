//! Length and SHA-256 of what passes by.

use std::io::{self, Write};

use sha2::{Digest, Sha256};
use xvault_core::snapshot::{FileDigest, hex};

/// Passes bytes on and hashes them.
pub(crate) struct DigestWriter<W> {
    inner: W,
    digest: RunningDigest,
}

impl<W> DigestWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, digest: RunningDigest::default() }
    }

    pub(crate) fn finish(self) -> (W, FileDigest) {
        (self.inner, self.digest.finish())
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.digest.update(buf.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A [`FileDigest`] in the making.
#[derive(Debug, Default)]
pub struct RunningDigest {
    sha256: Sha256,
    size_bytes: u64,
}

impl RunningDigest {
    /// Takes in what follows.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    /// Length and SHA-256 of all that was taken in.
    #[must_use]
    pub fn finish(self) -> FileDigest {
        FileDigest { size_bytes: self.size_bytes, sha256: hex(&self.sha256.finalize()) }
    }
}
