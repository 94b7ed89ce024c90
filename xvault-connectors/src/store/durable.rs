//! Making changes to a local directory tree survive a power failure: the only place that knows how.
//!
//! A file's bytes are durable after `fsync` of the file, its name after `fsync` of its directory.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Makes `path` and all its missing parents, each durable.
pub(super) fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    create_dir_all(parent)?;
    match fs::create_dir(path) {
        Ok(()) => sync_dir(parent),
        // Another backup was faster, and syncs it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in the directory `path` durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes it durable that `path` is gone. That its directory is gone as well is fine.
pub(super) fn sync_removed(path: &Path) -> io::Result<()> {
    match sync_dir(parent(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// Renames the directory `from` to `to`, which must not exist, and makes that durable.
pub(super) fn rename_dir(from: &Path, to: &Path) -> io::Result<()> {
    sync_dir(from)?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // File systems without NOREPLACE (some network ones): a plain rename still never replaces a directory
        // that holds anything.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(from, to)?,
        Err(error) => return Err(error.into()),
    }
    if parent(from) != parent(to) {
        sync_dir(parent(from))?;
    }
    sync_dir(parent(to))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        create_dir_all(&path("a/b/c")).unwrap();
        create_dir_all(&path("taken")).unwrap();
        assert_eq!(rename_dir(&path("a"), &path("taken")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        rename_dir(&path("a"), &path("new")).unwrap();
        assert!(path("new/b/c").is_dir() && !path("a").exists());
    }

    #[test]
    fn what_is_gone_with_its_directory_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        sync_removed(&dir.path().join("gone")).unwrap();
        sync_removed(&dir.path().join("gone/too")).unwrap();
    }
}
