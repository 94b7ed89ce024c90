//! Snapshots in a directory of this machine.
//!
//! A staging is the directory `.ID.staging` beside the snapshot's own, and holds an exclusive
//! `flock` on it: a run that dies loses the lock with its process, so [`Store::sweep`] can tell the
//! dead from the living. The lock stays with the directory through the rename that commits it.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use opendal::{Operator, services};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use xvault_core::WorkerId;
use xvault_core::snapshot::Locator;

use super::objects::{Objects, failed};
use super::{Staging, Store, StoreWriter, Swept, durable};
use crate::Error;

const STAGING_SUFFIX: &str = ".staging";

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

fn is_staging(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STAGING_SUFFIX)
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

    async fn stage(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        let key = staging_key(prefix);
        let (target, staging) = (self.path(prefix), self.path(&key));
        let action = format!("stage {}", target.display());
        let lock = {
            let (target, staging) = (target.clone(), staging.clone());
            blocking(action, move || make_staging(&target, &staging)).await?
        };
        Ok(Box::new(FsStaging { objects: self.objects.clone(), key, staging, target, lock, settled: false }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.objects.read(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.objects.size(key).await
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
        self.objects.delete(key).await
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        self.objects.delete_all(prefix).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error> {
        // Nothing else in the store's directory (`lost+found`, say) is ours to look into.
        let tenants = self.path("tenants");
        blocking(format!("sweep {}", tenants.display()), move || sweep_dir(&tenants, older_than)).await
    }
}

/// Makes the staging directory and locks it.
fn make_staging(target: &Path, staging: &Path) -> io::Result<File> {
    if target.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the snapshot exists already"));
    }
    if let Some(parent) = staging.parent() {
        durable::create_dir_all(parent)?;
    }
    // A sweep may take the directory between its making and its locking: make it again then.
    loop {
        fs::create_dir(staging)?;
        let lock = File::open(staging)?;
        match try_lock(&lock)? {
            Lock::Free | Lock::Unsupported if lock.metadata()?.nlink() > 0 => return Ok(lock),
            Lock::Free | Lock::Unsupported => {}
            Lock::Held => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is being staged")),
        }
    }
}

enum Lock {
    Free,
    Held,
    /// Some network file systems: age decides there.
    Unsupported,
}

fn try_lock(dir: &File) -> io::Result<Lock> {
    match flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Free),
        Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(Errno::BADF | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::NOLCK) => {
            Ok(Lock::Unsupported)
        }
        Err(error) => Err(error.into()),
    }
}

/// Stagings lie beside snapshots, so only directories that are no snapshot are looked into.
fn sweep_dir(dir: &Path, older_than: Duration) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let entries = match fs::read_dir(dir) {
        // Never made, or deleted since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let below = match entry.file_name().to_str() {
            Some(name) if is_staging(name) => sweep_staging(&entry.path(), older_than)?,
            _ if is_snapshot_list(dir) => Swept::default(),
            _ => sweep_dir(&entry.path(), older_than)?,
        };
        swept.removed += below.removed;
        swept.in_use += below.in_use;
    }
    Ok(swept)
}

fn is_snapshot_list(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name == "snapshots")
}

fn sweep_staging(path: &Path, older_than: Duration) -> io::Result<Swept> {
    let opened = match File::open(path) {
        // Committed or removed since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Swept::default()),
        opened => opened?,
    };
    let dead = match try_lock(&opened)? {
        // Whoever committed it meanwhile has renamed it: the lock is then on a snapshot, and the path is gone.
        Lock::Free => path.exists(),
        Lock::Held => false,
        Lock::Unsupported => is_older(&opened, older_than)?,
    };
    if !dead {
        return Ok(Swept { removed: 0, in_use: u64::from(path.exists()) });
    }
    fs::remove_dir_all(path)?;
    Ok(Swept { removed: 1, in_use: 0 })
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with times that the file system took from the same clock"
)]
fn is_older(dir: &File, older_than: Duration) -> io::Result<bool> {
    let modified = dir.metadata()?.modified()?;
    Ok(SystemTime::now().duration_since(modified).is_ok_and(|age| age > older_than))
}

#[derive(Debug)]
struct FsStaging {
    objects: Objects,
    key: String,
    staging: PathBuf,
    target: PathBuf,
    /// Held until the staging is committed or gone.
    lock: File,
    settled: bool,
}

impl FsStaging {
    fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.key)
    }
}

#[async_trait]
impl Staging for FsStaging {
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        self.objects.writer(&self.object(name)).await
    }

    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.objects.read(&self.object(name), range).await
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.objects.size(&self.object(name)).await
    }

    async fn commit(mut self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error> {
        let mut writer = self.writer(name).await?;
        writer.write(last).await?;
        writer.close().await?;
        let (from, to) = (self.staging.clone(), self.target.clone());
        let action = format!("commit {}", to.display());
        blocking(action, move || durable::rename_dir(&from, &to)).await?;
        self.settled = true;
        Ok(())
    }

    async fn abandon(mut self: Box<Self>) -> Result<(), Error> {
        // The drop would do the same, but can't report.
        let staging = self.staging.clone();
        let action = format!("remove {}", staging.display());
        let lock = self.lock.try_clone().map_err(Error::io(action.clone()))?;
        self.settled = true;
        blocking(action, move || {
            fs::remove_dir_all(&staging)?;
            drop(lock);
            Ok(())
        })
        .await
    }
}

impl Drop for FsStaging {
    fn drop(&mut self) {
        if !self.settled {
            // Dropped in mid-backup: what can't be removed now is for the sweep.
            drop(fs::remove_dir_all(&self.staging));
        }
    }
}
