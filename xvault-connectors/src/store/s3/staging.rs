//! Objects of a snapshot that is being made: they lie where they will be, and its manifest comes last.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::snapshot::ARTIFACT_NAME;

use super::body::Body;
use super::upload::{Target, Upload, put};
use super::written::Written;
use super::{S3Store, multipart};
use crate::Error;
use crate::store::{Staging, Store, StoreWriter};

/// The longest that what a failed backup wrote is removed: the server may be anybody's. The sweep finds the rest.
const LONGEST_REMOVAL: Duration = Duration::from_secs(900);
/// How long a staging that is dropped may take to remove what it wrote.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct S3Staging {
    store: S3Store,
    prefix: String,
    written: Written,
    /// Whether what was written is to stay, whatever happens.
    settled: bool,
}

impl S3Staging {
    pub(super) fn new(store: S3Store, prefix: &str) -> Self {
        Self { store, prefix: prefix.to_owned(), written: Written::default(), settled: false }
    }

    /// As [`S3Staging::new`], where others may be writing the same objects: what was closed is never removed.
    pub(super) fn shared(store: S3Store, prefix: &str) -> Self {
        let mut staging = Self::new(store, prefix);
        staging.settled = true;
        staging
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}

#[async_trait]
impl Staging for S3Staging {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        let target = Target {
            client: self.store.client.clone(),
            reader: self.store.reader.clone(),
            written: self.written.clone(),
            name: name.to_owned(),
            key: self.key(name),
            lock: self.store.lock,
        };
        Ok(Box::new(Upload::new(target, self.store.room.clone())))
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.store.reader.read(&self.key(name), range).await
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        match self.store.reader.look_at(&self.key(name)).await {
            // Whoever may only write can't look, but the server has checked the digest of every byte, and said that it has them.
            Err(denied @ Error::Denied { .. }) => self.written.size(name).map(Some).ok_or(denied),
            found => Ok(found?.map(|(size, _)| size)),
        }
    }

    async fn commit(mut self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        put(&self.store.client, &self.key(name), &Body::of(last), self.store.lock.as_ref()).await?;
        self.settled = true;
        self.store.tags.remember(&self.prefix, self.written.etag(ARTIFACT_NAME));
        Ok(())
    }

    async fn abandon(mut self: Box<Self>) -> Result<(), Error> {
        if std::mem::replace(&mut self.settled, true) {
            return Ok(());
        }
        let names = self.written.names();
        let removed = tokio::time::timeout(LONGEST_REMOVAL, remove(&self.store, &self.prefix, &names)).await;
        removed.unwrap_or_else(|_| {
            Err(Error::Timeout { what: format!("remove {}", self.prefix), after: LONGEST_REMOVAL })
        })
    }
}

/// What is known by name goes even where nothing may be listed.
async fn remove(store: &S3Store, prefix: &str, names: &[String]) -> Result<(), Error> {
    let ended = end_uploads(store, prefix).await;
    for name in names {
        store.delete(&format!("{prefix}/{name}")).await?;
    }
    // An object whose upload was finished, but who finished it does not know.
    store.delete_all(prefix).await?;
    ended
}

async fn end_uploads(store: &S3Store, prefix: &str) -> Result<(), Error> {
    // A snapshot has a few objects: what is on later pages was begun by no backup of ours.
    let page = multipart::list(&store.client, &format!("{prefix}/"), None).await?;
    for upload in page.uploads {
        multipart::end(&store.client, &upload.key, &upload.id).await?;
    }
    Ok(())
}

impl Drop for S3Staging {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // Dropped in mid-backup: what can't be removed now is for the sweep.
        let (store, prefix, names) =
            (self.store.clone(), std::mem::take(&mut self.prefix), self.written.names());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                drop(tokio::time::timeout(REMOVAL_PATIENCE, remove(&store, &prefix, &names)).await);
            });
        }
    }
}
