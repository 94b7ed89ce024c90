//! An encrypted file of a snapshot, as it lies in the store: whole or in part, without any key.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use xvault::Store;
use xvault::core::SnapshotKey;
use xvault::core::error::chain;
use xvault::core::protocol::{StoreAccess, StoredFile};
use xvault::core::snapshot::{ARTIFACT_NAME, INDEX_NAME};

use super::Stored;
use super::answer::Head;
use super::range::{Wanted, wanted};
use super::refusal::Refusal;
use crate::jobs::Tools;
use crate::jobs::fault::Fault;

/// What is read at a time.
const CHUNK: u64 = 512 << 10;

/// How long it is.
pub(super) async fn length(
    tools: &Tools,
    snapshot: &SnapshotKey,
    store: &StoreAccess,
    file: StoredFile,
) -> Result<u64, Refusal> {
    size_of(&*tools.open_store(store)?, &key(snapshot, file)).await
}

/// What is asked for of it.
pub(super) async fn answer(
    tools: &Tools,
    head: Head,
    stored: Stored,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let store = tools.open_store(&stored.store)?;
    let key = key(&stored.snapshot, stored.file);
    let length = size_of(&*store, &key).await?;
    let tag = format!("\"{}-{}\"", stored.snapshot.snapshot_id, name(stored.file));
    let asked = if head.single_use { Wanted::Whole } else { wanted(headers, length, &tag) };
    let head = head.ranged(length).tagged(&tag);
    let (head, range) = match asked {
        Wanted::Whole => (head, 0..length),
        Wanted::Part { first, last } => (head.part(first, last, length), first..last + 1),
        Wanted::OutOfRange => return Err(Refusal::out_of_range(length)),
    };
    Ok(head.with(Reading { store, key, range, _place: stored.place }.body()))
}

fn name(file: StoredFile) -> &'static str {
    match file {
        StoredFile::Artifact => ARTIFACT_NAME,
        StoredFile::Index => INDEX_NAME,
    }
}

fn key(snapshot: &SnapshotKey, file: StoredFile) -> String {
    format!("{}/{}", snapshot.prefix(), name(file))
}

async fn size_of(store: &dyn Store, key: &str) -> Result<u64, Refusal> {
    let size = store.size(key).await.map_err(|error| Fault::from(xvault::Error::Store(error)))?;
    let missing = || Fault::permanent("store_damaged", format!("{key} is missing in the worker's store"));
    Ok(size.ok_or_else(missing)?)
}

/// What is still to be sent.
struct Reading {
    store: Arc<dyn Store>,
    key: String,
    range: Range<u64>,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    fn body(self) -> Body {
        Body::from_stream(stream::unfold(Some(self), |reading| async {
            let mut reading = reading.filter(|reading| !reading.range.is_empty())?;
            match reading.next().await {
                Ok(chunk) => Some((Ok(chunk), Some(reading))),
                Err(error) => {
                    tracing::warn!(key = reading.key, error = chain(&error), "a download broke off");
                    Some((Err(error), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> io::Result<Bytes> {
        let until = self.range.end.min(self.range.start + CHUNK);
        let chunk = self.store.read(&self.key, self.range.start..until).await.map_err(io::Error::other)?;
        if chunk.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stored file has become shorter"));
        }
        self.range.start += chunk.len() as u64;
        Ok(chunk)
    }
}
