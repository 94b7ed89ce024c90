//! The directory that a local snapshot is staged in, and the lock that tells a living run from a dead one.
//!
//! The lock is an exclusive `flock` on the directory itself: it goes with the process, and stays with the
//! directory through the rename that commits it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::durable;

/// How often a staging is made again after a sweep took it before it was locked.
const ATTEMPTS: u32 = 100;
/// A sweep that has locked a directory needs about this long to remove it.
const PAUSE: Duration = Duration::from_millis(10);

/// A directory that was made here and is locked since. Clones share the lock.
#[derive(Debug, Clone)]
pub(super) struct StagingDir {
    path: PathBuf,
    lock: Arc<File>,
}

impl StagingDir {
    /// Makes `path` for a snapshot that will lie in `target`.
    pub(super) fn make(target: &Path, path: PathBuf) -> io::Result<Self> {
        if target.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the snapshot exists already"));
        }
        if let Some(parent) = path.parent() {
            durable::create_dir_all(parent)?;
        }
        fs::create_dir(&path)?;
        let lock = Arc::new(lock_or_remake(&path)?);
        Ok(Self { path, lock })
    }

    /// That what lies at the path still is the directory that was made: somebody may have removed it, and a
    /// writer that makes missing directories would then begin another one.
    ///
    /// # Errors
    /// When it is gone or another one.
    pub(super) fn check(&self) -> io::Result<()> {
        if same_dir(&self.lock, &self.path)? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the staging directory was removed during the backup"))
    }

    /// Renames it to `target`, durably.
    pub(super) fn commit(&self, target: &Path) -> io::Result<()> {
        self.check()?;
        durable::rename_dir(&self.path, target)
    }

    /// Removes it with all that is in it, or what a writer made in its place. Fine when it is gone.
    pub(super) fn remove(&self) -> io::Result<()> {
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(found) if self.is_nobody_elses(&found)? => fs::remove_dir_all(&self.path),
            found => found.map(drop),
        }
    }

    fn is_nobody_elses(&self, found: &File) -> io::Result<bool> {
        Ok(same_dir(&self.lock, &self.path)? || try_lock(found)? == Lock::Free)
    }
}

/// Locks a directory that was just made, and makes it again when a sweep saw it before it was locked.
fn lock_or_remake(path: &Path) -> io::Result<File> {
    for _ in 0..ATTEMPTS {
        if let Some(lock) = lock_living(path)? {
            return Ok(lock);
        }
        std::thread::sleep(PAUSE);
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process keeps it locked"))
}

/// Locks a directory that was just made; `None` when a sweep was faster.
fn lock_living(path: &Path) -> io::Result<Option<File>> {
    let dir = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let held = matches!(try_lock(&dir)?, Lock::Held);
    Ok((!held && same_dir(&dir, path)?).then_some(dir))
}

/// What a try to lock a directory has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is locked now, by the one who tried.
    Free,
    /// Somebody else holds it.
    Held,
    /// The file system knows no locks.
    Unsupported,
}

pub(super) fn try_lock(dir: &File) -> io::Result<Lock> {
    match flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Free),
        Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(Errno::BADF | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::NOLCK) => {
            Ok(Lock::Unsupported)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether `path` still names the directory that was opened.
pub(super) fn same_dir(opened: &File, path: &Path) -> io::Result<bool> {
    let opened = opened.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_that_is_faster_than_the_lock_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".x.staging");
        fs::create_dir(&path).unwrap();
        let sweep = File::open(&path).unwrap();
        assert_eq!(try_lock(&sweep).unwrap(), Lock::Free);
        let swept = path.clone();
        let sweep = std::thread::spawn(move || {
            std::thread::sleep(PAUSE * 3);
            fs::remove_dir(&swept).unwrap();
            drop(sweep);
        });
        let lock = lock_or_remake(&path).unwrap();
        sweep.join().unwrap();
        assert!(same_dir(&lock, &path).unwrap());
        assert_eq!(try_lock(&File::open(&path).unwrap()).unwrap(), Lock::Held);
    }

    #[test]
    fn what_a_sweep_has_locked_or_removed_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".x.staging");
        assert!(lock_living(&path).unwrap().is_none(), "removed before it was opened");
        fs::create_dir(&path).unwrap();
        let sweep = File::open(&path).unwrap();
        assert_eq!(try_lock(&sweep).unwrap(), Lock::Free);
        assert!(lock_living(&path).unwrap().is_none(), "held by the sweep");
        drop(sweep);
        let ours = lock_living(&path).unwrap().expect("nobody holds it any more");
        assert!(same_dir(&ours, &path).unwrap());
        assert_eq!(try_lock(&File::open(&path).unwrap()).unwrap(), Lock::Held, "it is ours");
        drop(ours);
        assert_eq!(try_lock(&File::open(&path).unwrap()).unwrap(), Lock::Free, "it goes with us");
    }

    /// Between the last object's writer, which checks too, and the rename.
    #[test]
    fn a_directory_that_took_its_place_is_not_committed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("x"), dir.path().join(".x.staging"));
        let staging = StagingDir::make(&target, path.clone()).unwrap();
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        fs::create_dir(&path).unwrap();
        let error = staging.commit(&target).unwrap_err();
        assert!(error.to_string().contains("was removed during the backup"), "{error}");
        assert!(!target.exists() && path.exists());
    }
}
