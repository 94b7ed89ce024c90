//! A store that fails when it is told to: for the tests of whatever stands on stores.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use xvault_core::snapshot::Locator;
use xvault_core::{Disposition, WorkerId};

use super::{Staging, Store, StoreWriter, Swept};
use crate::Error;

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Store::stage`].
    Stage,
    /// [`StoreWriter::write`].
    Write,
    /// [`StoreWriter::close`].
    Close,
    /// [`Store::read`] and [`Staging::read`].
    Read,
    /// [`Staging::commit`].
    Commit,
    /// [`Store::list`].
    List,
    /// [`Store::delete`] and [`Store::delete_all`].
    Delete,
}

const CALLS: usize = 7;

/// Wraps a store: fails its first calls of a kind, or silently changes a byte of what is written.
#[derive(Debug, Clone)]
pub struct UnreliableStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    remaining: [AtomicU64; CALLS],
    flip: Mutex<Option<Flip>>,
}

#[derive(Debug, Clone)]
struct Flip {
    object: String,
    offset: u64,
}

impl Faults {
    fn pass(&self, call: Call, what: &str) -> Result<(), Error> {
        let Some(remaining) = self.remaining.get(call as usize) else { return Ok(()) };
        let took = remaining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match took {
            Err(_) => Ok(()),
            Ok(_) => Err(Error::Store {
                action: format!("{call:?} {what}"),
                disposition: Disposition::Transient,
                source: "the store was told to fail".into(),
            }),
        }
    }

    fn flip_of(&self, object: &str) -> Option<u64> {
        let flip = self.flip.lock().unwrap_or_else(PoisonError::into_inner);
        flip.as_ref().filter(|flip| flip.object == object).map(|flip| flip.offset)
    }
}

impl UnreliableStore {
    /// As reliable as `inner`, until told otherwise.
    pub fn new(inner: impl Store + 'static) -> Self {
        Self { inner: Arc::new(inner), faults: Arc::default() }
    }

    /// Lets the next `count` calls of this kind fail with a transient error.
    #[must_use]
    pub fn failing(self, call: Call, count: u64) -> Self {
        if let Some(remaining) = self.faults.remaining.get(call as usize) {
            remaining.store(count, Ordering::SeqCst);
        }
        self
    }

    /// Silently flips a bit of the byte at `offset` of each staged object `name` as it is written.
    #[must_use]
    pub fn corrupting(self, name: &str, offset: u64) -> Self {
        let flip = Flip { object: name.to_owned(), offset };
        *self.faults.flip.lock().unwrap_or_else(PoisonError::into_inner) = Some(flip);
        self
    }
}

#[async_trait]
impl Store for UnreliableStore {
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
        self.faults.pass(Call::Stage, prefix)?;
        let inner = self.inner.stage(prefix).await?;
        Ok(Box::new(UnreliableStaging { inner, faults: Arc::clone(&self.faults) }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.faults.pass(Call::Read, key)?;
        self.inner.read(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.inner.size(key).await
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        self.faults.pass(Call::List, prefix)?;
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.faults.pass(Call::Delete, key)?;
        self.inner.delete(key).await
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        self.faults.pass(Call::Delete, prefix)?;
        self.inner.delete_all(prefix).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error> {
        self.inner.sweep(older_than).await
    }
}

#[derive(Debug)]
struct UnreliableStaging {
    inner: Box<dyn Staging>,
    faults: Arc<Faults>,
}

#[async_trait]
impl Staging for UnreliableStaging {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        let inner = self.inner.writer(name).await?;
        let faults = Arc::clone(&self.faults);
        Ok(Box::new(UnreliableWriter { inner, flip: faults.flip_of(name), name: name.to_owned(), faults }))
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.faults.pass(Call::Read, name)?;
        self.inner.read(name, range).await
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.inner.size(name).await
    }

    async fn commit(self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        self.faults.pass(Call::Commit, name)?;
        self.inner.commit(name, last).await
    }

    async fn abandon(self: Box<Self>) -> Result<(), Error> {
        self.inner.abandon().await
    }
}

struct UnreliableWriter {
    inner: Box<dyn StoreWriter>,
    faults: Arc<Faults>,
    name: String,
    /// How many bytes are left until the one to change.
    flip: Option<u64>,
}

impl UnreliableWriter {
    fn corrupt(&mut self, chunk: Bytes) -> Bytes {
        let Some(ahead) = self.flip else { return chunk };
        let Some(at) = usize::try_from(ahead).ok().filter(|at| *at < chunk.len()) else {
            self.flip = Some(ahead - chunk.len() as u64);
            return chunk;
        };
        self.flip = None;
        let mut changed = BytesMut::from(&chunk[..]);
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        changed.freeze()
    }
}

#[async_trait]
impl StoreWriter for UnreliableWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.faults.pass(Call::Write, &self.name)?;
        let chunk = self.corrupt(chunk);
        self.inner.write(chunk).await
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.faults.pass(Call::Close, &self.name)?;
        self.inner.close().await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.inner.abort().await
    }
}
