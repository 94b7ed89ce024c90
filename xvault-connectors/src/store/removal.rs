//! Removing a snapshot's directory so that no half of it is ever seen.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use super::{durable, sweep};

/// Removes the directory `path`: renames it to `doomed`, the name of its staging, durably and in one step, and then
/// removes that. Whatever stops it in between leaves a dead staging, which the next removal or sweep takes. Fine when
/// there is none.
///
/// # Errors
/// When something is still there, or a living backup has the staging.
pub(super) fn remove(path: &Path, doomed: &Path) -> io::Result<()> {
    clear(doomed)?;
    match durable::rename_dir(path, doomed) {
        // A backup may have begun to stage since: that is not ours.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        renamed => {
            renamed?;
            gone(fs::remove_dir_all(doomed))?;
        }
    }
    // Whoever is told that it is gone forgets that it was there.
    durable::sync_removed(path)
}

/// Removes what an earlier removal left.
fn clear(doomed: &Path) -> io::Result<()> {
    match sweep::sweep_staging(doomed, Duration::ZERO) {
        Ok(swept) if swept.in_use > 0 => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "a backup or a sweep has its staging"))
        }
        swept => gone(swept.map(drop)),
    }
}

/// A sweep may have been faster.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(path: &Path) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("backup.tar.zst.enc"), "content").unwrap();
    }

    #[test]
    fn what_a_killed_removal_left_goes_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (path, doomed) = (dir.path().join("x"), dir.path().join(".x.staging"));
        snapshot(&doomed);
        remove(&path, &doomed).unwrap();
        assert!(!doomed.exists(), "although the snapshot itself is gone already");
        snapshot(&doomed);
        snapshot(&path);
        remove(&path, &doomed).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove(&path, &doomed).unwrap();
    }

    #[test]
    fn a_living_staging_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, doomed) = (dir.path().join("x"), dir.path().join(".x.staging"));
        let living = super::super::staging_dir::StagingDir::make(&path, doomed.clone()).unwrap();
        let error = remove(&path, &doomed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(doomed.exists());
        living.commit(&path).unwrap();
        remove(&path, &doomed).unwrap();
        assert!(!path.exists() && !doomed.exists());
    }
}
