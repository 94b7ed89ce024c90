//! Snapshots in a directory of this machine.
//!
//! A staging is the directory `.ID.staging` beside the snapshot's own, and holds a lock while its run lives
//! (`staging_dir`), so that the sweep (`sweep`) can tell the dead from the living. A deletion (`removal`) makes a snapshot
//! a dead staging first.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
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
use super::staging_dir::StagingDir;
use super::sweep::{self, STAGING_SUFFIX, is_staging};
use super::{Staging, Store, StoreWriter, Swept, durable, removal};
use crate::Error;

/// After how long a silent staging is dead on a file system whose locks tell nothing.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A store in a local directory.
#[derive(Debug, Clone)]
pub struct FsStore {
    root: PathBuf,
    objects: Objects,
}

impl FsStore {
    /// Opens the store in `root`; the directory is made when it is missing.
    ///
    /// # Errors
    /// When the directory can't be made, or its path is not UTF-8.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        let named = root.as_ref().display().to_string();
        let opened = durable::create_dir_all(root.as_ref()).and_then(|()| root.as_ref().canonicalize());
        let root = opened.map_err(Error::io(format!("open the store {named}")))?;
        let text = root.to_str().ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8");
            Error::io(format!("open the store {named}"))(source)
        })?;
        let operator = Operator::new(services::Fs::default().root(text));
        let operator = operator.map_err(|error| failed("open the store", text, error))?;
        Ok(Self { objects: Objects::new(operator), root })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }
}

/// Where the staging of `prefix` lies: beside it, under a name that no id can have.
fn staging_key(prefix: &str) -> String {
    match prefix.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.{name}{STAGING_SUFFIX}"),
        None => format!(".{prefix}{STAGING_SUFFIX}"),
    }
}

/// Runs file system calls where they may block.
async fn blocking<T: Send + 'static>(
    action: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(Error::io(action))
}

#[async_trait]
impl Store for FsStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn locator(&self, worker: &WorkerId, prefix: &str) -> Locator {
        let local_path = self.path(prefix).display().to_string();
        Locator::LocalFs { worker_id: worker.clone(), local_path }
    }

    fn lists_staged(&self) -> bool {
        false
    }

    async fn stage(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        let key = staging_key(prefix);
        let (target, path) = (self.path(prefix), self.path(&key));
        let objects = StagedObjects::new(self.objects.clone(), key);
        let staged = blocking(format!("stage {}", target.display()), move || {
            let dir = StagingDir::make(&target, path)?;
            // Made here, so that nothing is left when nobody waits for it any more.
            Ok(FsStaging { objects, dir, target, settled: false })
        });
        Ok(Box::new(staged.await?))
    }

    async fn stage_again(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        let left = self.path(&staging_key(prefix));
        let remove = move || match sweep::sweep_staging(&left, ABANDONED) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            swept => swept.map(drop),
        };
        blocking(format!("remove what was staged of {}", self.path(prefix).display()), remove).await?;
        self.stage(prefix).await
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
        let keys = self.objects.list(prefix).await?;
        let visible = |key: &Result<String, Error>| match key {
            Ok(key) => !key.split('/').any(is_staging),
            Err(_) => true,
        };
        Ok(keys.filter(move |key| std::future::ready(visible(key))).boxed())
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.objects.delete(key).await?;
        let path = self.path(key);
        blocking(format!("delete {}", path.display()), move || durable::sync_removed(&path)).await
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        let prefix = prefix.trim_end_matches('/');
        let (path, doomed) = (self.path(prefix), self.path(&staging_key(prefix)));
        blocking(format!("delete {}", path.display()), move || removal::remove(&path, &doomed)).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error> {
        // Nothing else in the store's directory (`lost+found`, say) is ours to look into.
        let tenants = self.path("tenants");
        blocking(format!("sweep {}", tenants.display()), move || sweep::sweep(&tenants, older_than)).await
    }
}

#[derive(Debug)]
struct FsStaging {
    objects: StagedObjects,
    dir: StagingDir,
    target: PathBuf,
    settled: bool,
}

impl FsStaging {
    /// Runs `work` on the directory where it may block.
    async fn on_dir(
        &self,
        action: String,
        work: impl FnOnce(&StagingDir) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let dir = self.dir.clone();
        blocking(action, move || work(&dir)).await
    }
}

#[async_trait]
impl Staging for FsStaging {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        // It would make the directory again, without the lock and without what was written before.
        self.on_dir(format!("stage {name} for {}", self.target.display()), StagingDir::check).await?;
        self.objects.writer(name).await
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.objects.read(name, range).await
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.objects.size(name).await
    }

    async fn commit(mut self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        put(&*self, name, last).await?;
        let target = self.target.clone();
        self.on_dir(format!("commit {}", target.display()), move |dir| dir.commit(&target)).await?;
        self.settled = true;
        Ok(())
    }

    async fn abandon(mut self: Box<Self>) -> Result<(), Error> {
        // The drop would do the same, but can't report.
        self.settled = true;
        self.on_dir(format!("remove the staging of {}", self.target.display()), StagingDir::remove).await
    }
}

impl Drop for FsStaging {
    fn drop(&mut self) {
        if !self.settled {
            // Dropped in mid-backup: what can't be removed now is for the sweep.
            drop(self.dir.remove());
        }
    }
}
