//! Writing age v1 files at the speed of `ring`.
//!
//! Header, key wrapping and nonce are the `age` crate's. Only the STREAM of 64 KiB chunks is ours, because
//! the crate's takes twice the time; tests hold it against the crate's reader and the `age` command.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Write};

use age_core::format::{FileKey, Stanza};
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use xvault_core::{Recipient, seal};
use zeroize::Zeroizing;

/// Plain bytes of a chunk; its tag comes on top.
pub(crate) const CHUNK_LEN: usize = 64 << 10;
const NONCE_LEN: usize = 16;
const TAG_LEN: usize = 16;

/// Encrypts what is written to it. Without [`AgeWriter::finish`] the file is truncated, and every reader says so.
pub(crate) struct AgeWriter<W> {
    inner: W,
    key: LessSafeKey,
    counter: u64,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> AgeWriter<W> {
    /// Writes the header to `inner`.
    pub(crate) fn new(recipients: &[Recipient], mut inner: W) -> Result<Self, AgeError> {
        let (header, key) = header_and_key(recipients)?;
        inner.write_all(&header).map_err(AgeError::Io)?;
        Ok(Self { inner, key, counter: 0, chunk: Zeroizing::new(Vec::with_capacity(CHUNK_LEN + TAG_LEN)) })
    }

    /// Writes the closing chunk and gives the inner writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.seal_chunk(true)?;
        Ok(self.inner)
    }

    fn seal_chunk(&mut self, last: bool) -> io::Result<()> {
        let nonce = Nonce::assume_unique_for_key(nonce_bytes(self.counter, last));
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.chunk)
            .map_err(|_| io::Error::other("encrypt a chunk"))?;
        self.counter += 1;
        self.inner.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for AgeWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // A full chunk waits until more comes: only then is it known not to be the last.
        if self.chunk.len() == CHUNK_LEN && !buf.is_empty() {
            self.seal_chunk(false)?;
        }
        let (taken, _) = buf.split_at(buf.len().min(CHUNK_LEN - self.chunk.len()));
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Why an age file could not be begun.
pub(crate) enum AgeError {
    Key(seal::Error),
    Io(io::Error),
}

/// 11 bytes of big-endian counter, then 1 for the last chunk.
fn nonce_bytes(counter: u64, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&counter.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

fn header_and_key(recipients: &[Recipient]) -> Result<(Vec<u8>, LessSafeKey), AgeError> {
    let keys =
        recipients.iter().map(Recipient::to_age).collect::<Result<Vec<_>, _>>().map_err(AgeError::Key)?;
    let seen = RefCell::new(None);
    let recording: Vec<_> = keys.iter().map(|inner| Recording { inner, seen: &seen }).collect();
    let encryptor = age::Encryptor::with_recipients(recording.iter().map(|r| r as &dyn age::Recipient))
        .map_err(|_| AgeError::Key(seal::Error::NoRecipient))?;
    let mut header = Vec::new();
    drop(encryptor.wrap_output(&mut header).map_err(AgeError::Io)?);
    let file_key = seen.take().ok_or(AgeError::Key(seal::Error::NoRecipient))?;
    let nonce = header.len().checked_sub(NONCE_LEN).and_then(|at| header.get(at..)).unwrap_or_default();
    let payload_key = Zeroizing::new(hkdf(nonce, b"payload", file_key.expose_secret()));
    let key = UnboundKey::new(&CHACHA20_POLY1305, payload_key.as_slice())
        .map_err(|_| AgeError::Io(io::Error::other("prepare the payload key")))?;
    Ok((header, LessSafeKey::new(key)))
}

/// A recipient that keeps a copy of the file key it wraps, from which the payload key is derived.
struct Recording<'a> {
    inner: &'a dyn age::Recipient,
    seen: &'a RefCell<Option<FileKey>>,
}

impl age::Recipient for Recording<'_> {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let copy = FileKey::init_with_mut(|bytes| bytes.copy_from_slice(key.expose_secret()));
        self.seen.replace(Some(copy));
        self.inner.wrap_file_key(key)
    }
}
