//! A store that asks somebody before and after each call: what the faulty stores of tests are made of.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use xvault_core::WorkerId;
use xvault_core::snapshot::Locator;

use super::{Staging, Store, StoreWriter, Swept};
use crate::Error;

/// The calls that a [`Hook`] hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Store::stage`] and [`Store::stage_again`].
    Stage,
    /// [`Store::read`].
    Read,
    /// [`Store::list`].
    List,
    /// [`Store::delete`] and [`Store::delete_all`].
    Delete,
    /// [`Staging::writer`].
    Open,
    /// [`Staging::read`].
    StagedRead,
    /// [`Staging::size`].
    StagedSize,
    /// [`Staging::commit`].
    Commit,
    /// [`Staging::abandon`], of no object.
    Abandon,
    /// [`StoreWriter::write`].
    Write,
    /// [`StoreWriter::close`].
    Close,
    /// [`StoreWriter::abort`].
    Abort,
}

/// Who is asked.
#[async_trait]
pub trait Hook: Debug + Send + Sync {
    /// Before a call reaches the store. `object` is a key or prefix, or the name of what is staged.
    ///
    /// # Errors
    /// Are given in place of the call's answer; the store hears nothing of it.
    async fn before(&self, call: Call, object: &str) -> Result<(), Error>;

    /// After a close or a commit has worked; `key` is that of the object.
    ///
    /// # Errors
    /// Are given although it has worked.
    async fn after(&self, _call: Call, _key: &str) -> Result<(), Error> {
        Ok(())
    }

    /// What is written in place of `chunk`, which begins at `offset` of the staged object `name`.
    fn written(&self, _name: &str, _offset: u64, chunk: Bytes) -> Bytes {
        chunk
    }
}

/// `inner`, with a hook. Clones share both.
#[derive(Debug)]
pub struct HookedStore<H> {
    inner: Arc<dyn Store>,
    hook: Arc<H>,
}

impl<H> Clone for HookedStore<H> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), hook: Arc::clone(&self.hook) }
    }
}

impl<H: Hook> HookedStore<H> {
    /// Asks `hook` about each call of `inner`.
    pub fn with_hook(inner: impl Store + 'static, hook: H) -> Self {
        Self { inner: Arc::new(inner), hook: Arc::new(hook) }
    }

    /// Who is asked.
    #[must_use]
    pub fn hook(&self) -> &H {
        &self.hook
    }
}

#[async_trait]
impl<H: Hook + 'static> Store for HookedStore<H> {
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
        self.hook.before(Call::Stage, prefix).await?;
        let inner = self.inner.stage(prefix).await?;
        Ok(Box::new(HookedStaging { inner, prefix: prefix.to_owned(), hook: Arc::clone(&self.hook) }))
    }

    async fn stage_again(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        self.hook.before(Call::Stage, prefix).await?;
        let inner = self.inner.stage_again(prefix).await?;
        Ok(Box::new(HookedStaging { inner, prefix: prefix.to_owned(), hook: Arc::clone(&self.hook) }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.hook.before(Call::Read, key).await?;
        self.inner.read(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.inner.size(key).await
    }

    async fn locked_until(&self, key: &str) -> Result<Option<Timestamp>, Error> {
        self.inner.locked_until(key).await
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        self.hook.before(Call::List, prefix).await?;
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.hook.before(Call::Delete, key).await?;
        self.inner.delete(key).await
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        self.hook.before(Call::Delete, prefix).await?;
        self.inner.delete_all(prefix).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error> {
        self.inner.sweep(older_than).await
    }
}

#[derive(Debug)]
struct HookedStaging<H> {
    inner: Box<dyn Staging>,
    prefix: String,
    hook: Arc<H>,
}

#[async_trait]
impl<H: Hook + 'static> Staging for HookedStaging<H> {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        self.hook.before(Call::Open, name).await?;
        let inner = self.inner.writer(name).await?;
        let (prefix, hook) = (self.prefix.clone(), Arc::clone(&self.hook));
        Ok(Box::new(HookedWriter { inner, prefix, name: name.to_owned(), offset: 0, hook }))
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.hook.before(Call::StagedRead, name).await?;
        self.inner.read(name, range).await
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.hook.before(Call::StagedSize, name).await?;
        self.inner.size(name).await
    }

    async fn commit(self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        self.hook.before(Call::Commit, name).await?;
        self.inner.commit(name, last).await?;
        self.hook.after(Call::Commit, &format!("{}/{name}", self.prefix)).await
    }

    async fn abandon(self: Box<Self>) -> Result<(), Error> {
        self.hook.before(Call::Abandon, "").await?;
        self.inner.abandon().await
    }
}

struct HookedWriter<H> {
    inner: Box<dyn StoreWriter>,
    prefix: String,
    name: String,
    /// How many bytes were written.
    offset: u64,
    hook: Arc<H>,
}

#[async_trait]
impl<H: Hook + 'static> StoreWriter for HookedWriter<H> {
    fn expect(&mut self, bytes: u64) {
        self.inner.expect(bytes);
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.hook.before(Call::Write, &self.name).await?;
        let len = chunk.len() as u64;
        let chunk = self.hook.written(&self.name, self.offset, chunk);
        self.offset += len;
        self.inner.write(chunk).await
    }

    async fn close(self: Box<Self>) -> Result<(), Error> {
        self.hook.before(Call::Close, &self.name).await?;
        self.inner.close().await?;
        self.hook.after(Call::Close, &format!("{}/{}", self.prefix, self.name)).await
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        self.hook.before(Call::Abort, &self.name).await?;
        self.inner.abort().await
    }
}
