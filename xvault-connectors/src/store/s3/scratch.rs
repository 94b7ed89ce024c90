//! Bytes that are too many for memory, in a file without a name: it is gone with whoever holds it, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream::try_unfold;
use xvault_core::SnapshotId;

use crate::Error;

/// How much is read at a time.
const STEP: u64 = 256 * 1024;

/// A file that is read while its clones are; only ciphertext is put into it.
#[derive(Debug, Clone)]
pub(super) struct Scratch {
    file: Arc<File>,
    dir: Arc<Path>,
}

/// Where it lies when nobody says: not in `/tmp`, which is memory on many systems.
pub(super) fn default_dir() -> PathBuf {
    std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/var/tmp".into()).into()
}

impl Scratch {
    /// An empty one on the file system of `dir`.
    pub(super) async fn new(dir: &Arc<Path>) -> Result<Self, Error> {
        let made = {
            let dir = dir.clone();
            blocking(move || nameless(&dir)).await
        };
        Ok(Self { file: made.map_err(failed(dir))?.into(), dir: dir.clone() })
    }

    pub(super) async fn write(&self, at: u64, chunk: Bytes) -> Result<(), Error> {
        let file = self.file.clone();
        blocking(move || file.write_all_at(&chunk, at)).await.map_err(failed(&self.dir))
    }

    /// Its first `len` bytes, in steps.
    pub(super) fn read(&self, len: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<> {
        let file = self.file.clone();
        try_unfold(0, move |at| {
            let (file, step) = (file.clone(), STEP.min(len - at));
            async move {
                if step == 0 {
                    return Ok(None);
                }
                let bytes = blocking(move || piece(&file, at, step)).await?;
                Ok(Some((bytes, at + step)))
            }
        })
    }
}

/// Whoever finds the name in the moment that it has one may not open it.
fn nameless(dir: &Path) -> io::Result<File> {
    // Any id will do: they are unique.
    let path = dir.join(format!(".xvault-{}", SnapshotId::generate()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn piece(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// Disks are waited for beside the tasks that serve the network.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn failed(dir: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(format!(
        "keep a part in {} until the server has it (a large upload needs room there: free some, or name another directory)",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    #[tokio::test]
    async fn what_was_written_is_read_and_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let place: Arc<Path> = dir.path().into();
        let scratch = Scratch::new(&place).await.unwrap();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(700_001).collect();
        for (index, chunk) in bytes.chunks(300_000).enumerate() {
            scratch.write(index as u64 * 300_000, Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it has a name");
        for _ in 0..2 {
            let read: Vec<Bytes> = scratch.read(bytes.len() as u64).try_collect().await.unwrap();
            assert!(read.iter().all(|piece| piece.len() as u64 <= STEP) && read.concat() == bytes);
        }
        let cut = scratch.read(bytes.len() as u64 + 1).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_named() {
        let place: Arc<Path> = Path::new("/no/such/directory").into();
        let error = Scratch::new(&place).await.unwrap_err();
        assert!(xvault_core::error::chain(&error).contains("keep a part in /no/such/directory"), "{error}");
    }
}
