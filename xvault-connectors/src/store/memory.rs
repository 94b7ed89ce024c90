//! Snapshots in memory: for tests and for trying things out.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use opendal::{Operator, services};
use xvault_core::WorkerId;
use xvault_core::snapshot::Locator;

use super::objects::{Objects, StagedObjects, failed, put};
use super::{Staging, Store, StoreWriter, Swept};
use crate::Error;

/// A store that is gone with the process.
///
/// It behaves like an object store: staged objects lie under their final keys, and what makes the
/// set exist is that its last object is there.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    objects: Objects,
}

impl MemoryStore {
    /// An empty store.
    ///
    /// # Errors
    /// Never in practice.
    pub fn new() -> Result<Self, Error> {
        let operator = Operator::new(services::Memory::default());
        let operator = operator.map_err(|error| failed("open the store", "memory", error))?;
        Ok(Self { objects: Objects::new(operator) })
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn locator(&self, worker: &WorkerId, prefix: &str) -> Locator {
        Locator::LocalFs { worker_id: worker.clone(), local_path: format!("memory:{prefix}") }
    }

    fn lists_staged(&self) -> bool {
        true
    }

    async fn stage(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        if self.objects.list(prefix).await?.next().await.transpose()?.is_some() {
            let source =
                std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the snapshot exists already");
            return Err(Error::io(format!("stage {prefix}"))(source));
        }
        let objects = StagedObjects::new(self.objects.clone(), prefix.to_owned());
        Ok(Box::new(MemoryStaging { objects, is_shared: false }))
    }

    async fn stage_again(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        let objects = StagedObjects::new(self.objects.clone(), prefix.to_owned());
        Ok(Box::new(MemoryStaging { objects, is_shared: true }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.objects.read(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.objects.size(key).await
    }

    async fn locked_until(&self, _: &str) -> Result<Option<Timestamp>, Error> {
        Ok(None)
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        self.objects.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.objects.delete(key).await
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        self.objects.delete_all(prefix).await
    }

    /// Nothing outlives a crash here, so there is nothing to sweep.
    async fn sweep(&self, _: Duration) -> Result<Swept, Error> {
        Ok(Swept::default())
    }
}

#[derive(Debug)]
struct MemoryStaging {
    objects: StagedObjects,
    /// Others may be writing the same.
    is_shared: bool,
}

#[async_trait]
impl Staging for MemoryStaging {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        self.objects.writer(name).await
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.objects.read(name, range).await
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.objects.size(name).await
    }

    async fn commit(self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        put(&*self, name, last).await
    }

    async fn abandon(self: Box<Self>) -> Result<(), Error> {
        if self.is_shared { Ok(()) } else { self.objects.delete_all().await }
    }
}
