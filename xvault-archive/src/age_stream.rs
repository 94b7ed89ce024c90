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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Read, Seek, SeekFrom};
    use xvault_core::Identity;

    fn encrypt(identity: &Identity, plain: &[u8], step: usize) -> Vec<u8> {
        let Ok(mut writer) = AgeWriter::new(&[identity.recipient()], Vec::new()) else { panic!("no header") };
        for chunk in plain.chunks(step) {
            writer.write_all(chunk).unwrap();
        }
        writer.finish().unwrap()
    }

    fn stream(identity: &Identity, sealed: &[u8]) -> age::stream::StreamReader<Cursor<Vec<u8>>> {
        let decryptor = age::Decryptor::new(Cursor::new(sealed.to_vec())).unwrap();
        decryptor.decrypt(std::iter::once(identity.as_age() as &dyn age::Identity)).unwrap()
    }

    fn decrypt(identity: &Identity, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        stream(identity, sealed).read_to_end(&mut plain).map(|_| plain)
    }

    #[test]
    fn the_age_crate_reads_every_chunk_border() {
        let identity = Identity::generate();
        for len in [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 196_608, 300_000] {
            let plain: Vec<u8> = (0..=250).cycle().take(len).collect();
            let sealed = encrypt(&identity, &plain, 1000);
            assert_eq!(decrypt(&identity, &sealed).unwrap(), plain, "{len} bytes");
            if len > 0 {
                let mut last = [0];
                let mut reader = stream(&identity, &sealed);
                reader.seek(SeekFrom::End(-1)).unwrap();
                reader.read_exact(&mut last).unwrap();
                assert_eq!(last[0], plain[len - 1]);
            }
        }
    }

    #[test]
    fn a_writer_that_was_not_finished_leaves_a_truncated_file() {
        let identity = Identity::generate();
        let mut out = Vec::new();
        let Ok(mut writer) = AgeWriter::new(&[identity.recipient()], &mut out) else { panic!("no header") };
        writer.write_all(&vec![7; 200_000]).unwrap();
        drop(writer);
        assert!(decrypt(&identity, &out).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_written_is_read(
            chunks in 0usize..4, around in -3i32..4, step in 1usize..100_000, seed: u8,
        ) {
            let len = usize::try_from(i32::try_from(chunks * CHUNK_LEN).unwrap() + around).unwrap_or(0);
            let plain: Vec<u8> = (seed..=255).chain(0..seed).cycle().take(len).collect();
            let identity = Identity::generate();
            prop_assert_eq!(decrypt(&identity, &encrypt(&identity, &plain, step)).unwrap(), plain);
        }

        #[test]
        fn no_cut_and_no_flipped_bit_passes(at: prop::sample::Index, bit in 0u8..8, chunks in 0usize..3) {
            let identity = Identity::generate();
            let mut sealed = encrypt(&identity, &vec![1; chunks * CHUNK_LEN], 1 << 20);
            let header = sealed.len() - (chunks.max(1) * (CHUNK_LEN + TAG_LEN)).min(sealed.len());
            let at = header + at.index(sealed.len() - header);
            let cut = sealed[..at].to_vec();
            sealed[at] ^= 1 << bit;
            for broken in [cut, sealed] {
                let Ok(decryptor) = age::Decryptor::new(broken.as_slice()) else { continue };
                let keys = std::iter::once(identity.as_age() as &dyn age::Identity);
                let Ok(mut reader) = decryptor.decrypt(keys) else { continue };
                prop_assert!(reader.read_to_end(&mut Vec::new()).is_err());
            }
        }
    }
}
