//! A snapshot as it is, into a second store: ciphertext only, without a key.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use xvault_archive::RunningDigest;
use xvault_connectors::{Control, Error as ConnectorError, Staging, Store, StoreWriter, snapshot};
use xvault_core::snapshot::{ARTIFACT_NAME, FileDigest, INDEX_NAME, MANIFEST_NAME, META_NAME};
use xvault_core::{Manifest, Phase, SnapshotKey};

use crate::Error;
use crate::backup::{put, remove};
use crate::objects::{Stored, same_size};
use crate::read_back::check_sizes;
use crate::verify::checked_meta;

/// What is read at a time.
const CHUNK: u64 = 4 << 20;
/// How many reads are under way while one chunk is written.
const READ_AHEAD: usize = 3;
/// How long a store that failed, or hangs, may take to give an object up.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Whether it was there before, with the same manifest, its meta file and files of the right lengths: then nothing was written.
    pub was_there: bool,
    /// Bytes that were written.
    pub bytes: u64,
}

/// Copies the snapshot `key` from one store into another: the same four files, byte for byte, the manifest last. No key is
/// needed. Length and SHA-256 of all that is read are compared with the manifest before it counts as written, so
/// no copy of a damaged snapshot comes into being. A copy that is there already, with the same manifest, its meta file and files of the
/// right lengths, is left as it is, and their bytes are not read (see [`verify`](crate::verify)); what a run that was killed left of one is written over.
///
/// Some 16 MiB, and what the stores themselves hold, serve a snapshot of any size.
///
/// # Errors
/// [`Error::Store`] names the file of the original that is missing or damaged, [`Error::SecondStore`] is the other store's.
/// There is no copy then. A copy that *lacks a file or has one of another length*, or another snapshot of the same key, is never replaced: it is named, and to be
/// deleted first.
pub async fn copy(
    from: &dyn Store,
    to: &dyn Store,
    key: &SnapshotKey,
    control: &Control,
) -> Result<CopyReport, Error> {
    let (manifest, file) = control.run(snapshot::manifest_file(from, key)).await.map_err(Error::Store)?;
    if is_there(to, &manifest, &file, control).await? {
        return Ok(CopyReport { was_there: true, bytes: 0 });
    }
    let total = manifest.artifact.size_bytes.saturating_add(manifest.index.size_bytes);
    control.progress().phase(Phase::Copy, Some(total));
    let staging = control.run(to.stage_again(&key.prefix())).await.map_err(Error::SecondStore)?;
    let meta = match fill(from, &*staging, &manifest, control).await {
        Ok(meta) => meta,
        Err(error) => {
            remove(staging.abandon()).await;
            return Err(error);
        }
    };
    let bytes = total.saturating_add(meta).saturating_add(file.len() as u64);
    // After an error it may exist all the same: then it is whole, and the next run finds it.
    staging.commit(MANIFEST_NAME, file).await.map_err(Error::SecondStore)?;
    Ok(CopyReport { was_there: false, bytes })
}

/// Whether the copy exists, as far as lengths and the small files tell. One that is not whole, or not the same, is an error.
async fn is_there(
    to: &dyn Store,
    manifest: &Manifest,
    file: &Bytes,
    control: &Control,
) -> Result<bool, Error> {
    let key = manifest.key();
    match control.run(snapshot::manifest_file(to, &key)).await {
        // Whoever may only write can't look. Writing the same once more does no harm.
        Err(ConnectorError::NotFound(_) | ConnectorError::Denied { .. }) => return Ok(false),
        Err(error) => return Err(Error::SecondStore(error)),
        Ok((_, found)) if found == *file => {}
        Ok(_) => {
            let file = format!("{}/{MANIFEST_NAME}", key.prefix());
            let reason =
                format!("{} holds another snapshot of this id; nothing was written over", to.describe());
            return Err(Error::SecondStore(ConnectorError::Damaged { file, reason }));
        }
    }
    for (name, digest) in [(ARTIFACT_NAME, &manifest.artifact), (INDEX_NAME, &manifest.index)] {
        let name = format!("{}/{name}", key.prefix());
        same_size(&name, control.run(to.size(&name)).await, digest.size_bytes).map_err(of_target)?;
    }
    // The manifest knows neither its length nor its digest.
    checked_meta(to, manifest, control).await.map_err(of_target)?;
    Ok(true)
}

/// Copies everything but the manifest; gives the length of the meta file. The small files go first: whatever is wrong with them
/// shows before the artifact has passed.
async fn fill(
    from: &dyn Store,
    staging: &dyn Staging,
    manifest: &Manifest,
    control: &Control,
) -> Result<u64, Error> {
    let key = manifest.key();
    let meta = checked_meta(from, manifest, control).await?;
    let meta_size = meta.len() as u64;
    let files = [(INDEX_NAME, &manifest.index), (ARTIFACT_NAME, &manifest.artifact)];
    for (name, digest) in files {
        Stored::open(from, &key, name, digest, control).await?;
    }
    control.run(put(staging, META_NAME, meta)).await.map_err(Error::SecondStore)?;
    for (name, digest) in files {
        file(from, &format!("{}/{name}", key.prefix()), (staging, name), digest, control).await?;
    }
    let sizes =
        [(META_NAME, meta_size), (INDEX_NAME, files[0].1.size_bytes), (ARTIFACT_NAME, files[1].1.size_bytes)];
    check_sizes(staging, sizes, control).await?;
    control.check().map_err(Error::Store)?;
    Ok(meta_size)
}

/// Copies one file; it is closed only if its digest is the expected one.
async fn file(
    from: &dyn Store,
    key: &str,
    (staging, name): (&dyn Staging, &str),
    expected: &FileDigest,
    control: &Control,
) -> Result<(), Error> {
    let mut writer = control.run(staging.writer(name)).await.map_err(Error::SecondStore)?;
    writer.expect(expected.size_bytes);
    match carry(from, key, &mut *writer, expected, control).await {
        Ok(()) => control.run(writer.close()).await.map_err(Error::SecondStore),
        Err(error) => {
            // The first error is the one to tell; what is left behind is for the sweep.
            drop(tokio::time::timeout(ABORT_PATIENCE, writer.abort()).await);
            Err(error)
        }
    }
}

/// Reads ahead of what is written.
async fn carry(
    from: &dyn Store,
    key: &str,
    writer: &mut dyn StoreWriter,
    expected: &FileDigest,
    control: &Control,
) -> Result<(), Error> {
    let reads = stream::iter(chunks(expected.size_bytes)).map(|range| from.read(key, range));
    let mut reads = reads.buffered(READ_AHEAD);
    let mut digest = RunningDigest::default();
    while let Some(chunk) = control.run(reads.try_next()).await.map_err(Error::Store)? {
        let count = chunk.len() as u64;
        control.throttle(count).await.map_err(Error::Store)?;
        digest = hashed(digest, chunk.clone()).await?;
        control.run(writer.write(chunk)).await.map_err(Error::SecondStore)?;
        control.progress().bytes(count);
    }
    same_digest(key, &digest.finish(), expected)
}

/// A file in ranges of [`CHUNK`] bytes.
fn chunks(size: u64) -> impl Iterator<Item = Range<u64>> + Send {
    (0..size.div_ceil(CHUNK)).map(move |number| {
        let start = number.saturating_mul(CHUNK);
        start..start.saturating_add(CHUNK).min(size)
    })
}

/// Where it holds up nobody else.
async fn hashed(mut digest: RunningDigest, chunk: Bytes) -> Result<RunningDigest, Error> {
    let work = move || {
        digest.update(&chunk);
        digest
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Thread(std::io::Error::other(error)))
}

fn same_digest(key: &str, found: &FileDigest, expected: &FileDigest) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let (file, sha256) = (key.to_owned(), &expected.sha256);
    let reason =
        format!("its SHA-256 is {} instead of {sha256}: it is damaged, and was not copied", found.sha256);
    Err(Error::Store(ConnectorError::Damaged { file, reason }))
}

/// Trouble with what was found or written in the copy's store.
fn of_target(error: Error) -> Error {
    match error {
        Error::Store(error) => Error::SecondStore(error),
        other => other,
    }
}
