//! Index lines on their way out: zstd, age, digest, all as a stream.

use std::io::{self, Write};

use xvault_core::Recipient;
use xvault_core::snapshot::FileDigest;

use crate::age_stream::{AgeError, AgeWriter};
use crate::digest::DigestWriter;

/// Names compress well at any level; this one keeps up with the packer.
const LEVEL: i32 = 3;

pub(crate) struct IndexWriter<W: Write> {
    encoder: zstd::stream::write::Encoder<'static, AgeWriter<DigestWriter<W>>>,
    plain: blake3::Hasher,
}

/// What a finished index leaves behind.
pub(crate) struct IndexSeal<W> {
    pub(crate) inner: W,
    pub(crate) digest: FileDigest,
    /// BLAKE3 of the plain lines.
    pub(crate) content_digest: [u8; 32],
}

impl<W: Write> IndexWriter<W> {
    pub(crate) fn new(recipients: &[Recipient], inner: W) -> Result<Self, AgeError> {
        let age = AgeWriter::new(recipients, DigestWriter::new(inner))?;
        let mut encoder = zstd::stream::write::Encoder::new(age, LEVEL).map_err(AgeError::Io)?;
        encoder.include_checksum(true).map_err(AgeError::Io)?;
        Ok(Self { encoder, plain: blake3::Hasher::new() })
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.plain.update(lines);
        self.encoder.write_all(lines)
    }

    pub(crate) fn finish(self) -> io::Result<IndexSeal<W>> {
        let mut age = self.encoder.finish()?.finish()?;
        age.flush()?;
        let (inner, digest) = age.finish();
        Ok(IndexSeal { inner, digest, content_digest: self.plain.finalize().into() })
    }
}
