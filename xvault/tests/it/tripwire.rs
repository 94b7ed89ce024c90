//! A store that fails, or never answers, at one kind of call for one object.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use xvault::connectors::{Error, Staging, StoreWriter, Swept};
use xvault::core::WorkerId;
use xvault::core::snapshot::Locator;
use xvault::{MemoryStore, Store};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Fail,
    Hang,
    /// It works, and the object is gone right after.
    Lose,
}

/// Which call of which object, whose name ends in this, meets which fate.
#[derive(Debug, Clone)]
pub(crate) struct Trap {
    pub(crate) call: &'static str,
    pub(crate) object: &'static str,
    pub(crate) fate: Fate,
}

impl Trap {
    async fn pass(&self, call: &str, object: &str) -> Result<(), Error> {
        match self.fate {
            _ if self.call != call || !object.ends_with(self.object) => Ok(()),
            Fate::Fail => Err(Error::Incomplete(format!("{call} {object} went wrong"))),
            Fate::Hang => std::future::pending().await,
            Fate::Lose => Ok(()),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Tripwire {
    pub(crate) inner: MemoryStore,
    pub(crate) trap: Arc<Trap>,
}

impl Tripwire {
    pub(crate) fn new(call: &'static str, object: &'static str, fate: Fate) -> Self {
        Self { inner: MemoryStore::new().unwrap(), trap: Arc::new(Trap { call, object, fate }) }
    }
}

#[async_trait]
impl Store for Tripwire {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn locator(&self, worker: &WorkerId, prefix: &str) -> Locator {
        self.inner.locator(worker, prefix)
    }
    fn lists_staged(&self) -> bool {
        self.inner.lists_staged()
    }
    async fn stage(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        self.trap.pass("stage", prefix).await?;
        let (inner, store) = (self.inner.stage(prefix).await?, self.inner.clone());
        Ok(Box::new(Staged { inner, store, prefix: prefix.to_owned(), trap: self.trap.clone() }))
    }
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.trap.pass("read", key).await?;
        self.inner.read(key, range).await
    }
    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.inner.size(key).await
    }
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.inner.delete(key).await
    }
    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        self.inner.delete_all(prefix).await
    }
    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error> {
        self.inner.sweep(older_than).await
    }
}

#[derive(Debug)]
struct Staged {
    inner: Box<dyn Staging>,
    store: MemoryStore,
    prefix: String,
    trap: Arc<Trap>,
}

#[async_trait]
impl Staging for Staged {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        self.trap.pass("open", name).await?;
        let inner = self.inner.writer(name).await?;
        let (store, key) = (self.store.clone(), format!("{}/{name}", self.prefix));
        Ok(Box::new(Writer { inner, store, key, name: name.to_owned(), trap: self.trap.clone() }))
    }
    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.trap.pass("staged read", name).await?;
        self.inner.read(name, range).await
    }
    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.trap.pass("size", name).await?;
        self.inner.size(name).await
    }
    async fn commit(self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        // After the fact: the worst moment to fail.
        self.inner.commit(name, last).await?;
        self.trap.pass("commit", name).await
    }
    async fn abandon(self: Box<Self>) -> Result<(), Error> {
        self.trap.pass("abandon", "").await?;
        self.inner.abandon().await
    }
}

struct Writer {
    inner: Box<dyn StoreWriter>,
    store: MemoryStore,
    key: String,
    name: String,
    trap: Arc<Trap>,
}

#[async_trait]
impl StoreWriter for Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.trap.pass("write", &self.name).await?;
        self.inner.write(chunk).await
    }
    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.trap.pass("close", &self.name).await?;
        self.inner.close().await?;
        let lost = self.trap.fate == Fate::Lose && self.name == self.trap.object;
        if lost { self.store.delete(&self.key).await } else { Ok(()) }
    }
    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.trap.pass("abort", &self.name).await?;
        self.inner.abort().await
    }
}
