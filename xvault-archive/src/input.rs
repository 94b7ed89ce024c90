//! Opening the two encrypted files, and telling a failing disk from a damaged file.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use age::stream::StreamReader;
use age::{DecryptError, Decryptor};
use xvault_core::Identity;

use crate::error::{ArchiveFile, Error};

/// The longest age header that is read: some 300 recipients.
const MAX_HEADER_LEN: u64 = 64 << 10;

/// Marks errors of the reader that was given to us, so that they are not taken for damage.
#[derive(Debug)]
struct Underlying(io::Error);

impl std::fmt::Display for Underlying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Underlying {}

fn mark(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        error
    } else {
        io::Error::new(error.kind(), Underlying(error))
    }
}

/// Names an error of the age or zstd stream of `file`.
pub(crate) fn classify(file: ArchiveFile, error: io::Error, place: &str) -> Error {
    let kind = error.kind();
    let text = error.to_string();
    match error.into_inner().map(<dyn std::error::Error + Send + Sync>::downcast::<Underlying>) {
        Some(Ok(underlying)) => Error::Io { op: "read", file, source: underlying.0 },
        _ if kind == io::ErrorKind::UnexpectedEof => {
            Error::Truncated { file, reason: format!("it ends within {place}") }
        }
        _ => Error::damaged(file, format!("{place} can't be read: {text}")),
    }
}

/// A reader whose errors are marked, and whose length can be limited while a header is parsed.
pub(crate) struct Input<R> {
    inner: R,
    budget: Arc<AtomicU64>,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.load(Ordering::Relaxed);
        if budget == u64::MAX {
            return self.inner.read(buf).map_err(mark);
        }
        let room = usize::try_from(budget).unwrap_or(usize::MAX).min(buf.len());
        if room == 0 && !buf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its header does not end"));
        }
        let (buf, _) = buf.split_at_mut(room);
        let read = self.inner.read(buf).map_err(mark)?;
        self.budget.fetch_sub(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Input<R> {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.inner.seek(pos).map_err(mark)
    }
}

/// The decrypted stream of `file`, which begins where `inner` stands.
pub(crate) fn decrypt<R: Read>(
    file: ArchiveFile,
    inner: R,
    identities: &[Identity],
) -> Result<StreamReader<Input<R>>, Error> {
    let budget = Arc::new(AtomicU64::new(MAX_HEADER_LEN));
    let input = Input { inner, budget: Arc::clone(&budget) };
    let decryptor = Decryptor::new(input).map_err(|error| open_error(file, error))?;
    budget.store(u64::MAX, Ordering::Relaxed);
    let keys = identities.iter().map(|identity| identity.as_age() as &dyn age::Identity);
    decryptor.decrypt(keys).map_err(|error| open_error(file, error))
}

fn open_error(file: ArchiveFile, error: DecryptError) -> Error {
    match error {
        DecryptError::NoMatchingKeys => Error::WrongIdentity { file },
        DecryptError::Io(error) => classify(file, error, "its age header"),
        other => Error::damaged(file, format!("its age header can't be read: {other}")),
    }
}
