//! Looking at real trees, and holding them against what was written.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use xvault_core::{EntryKind, Metadata};

use crate::support::Item;

pub(crate) fn place(root: &Path, name: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(name))
}

/// Everything below `root`, sorted, as relative names; to see that nothing else appeared.
pub(crate) fn names(root: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec());
            if path.symlink_metadata().unwrap().is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether the tree at `root` is what was written: content, kind, mode, time, owner (as root) and links.
pub(crate) fn assert_tree(root: &Path, items: &[Item], with_owner: bool) {
    for (entry, body) in items {
        let path = place(root, entry.path.as_bytes());
        let found = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", entry.path));
        match &entry.kind {
            EntryKind::Directory => assert!(found.is_dir(), "{}", entry.path),
            EntryKind::File { .. } | EntryKind::Stream => {
                assert!(fs::read(&path).unwrap() == *body, "content of {}", entry.path);
            }
            EntryKind::Symlink { target } => {
                assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target, "{}", entry.path);
            }
            EntryKind::Hardlink { target } => {
                let other = place(root, target.as_bytes()).metadata().unwrap();
                assert_eq!((found.ino(), found.dev()), (other.ino(), other.dev()), "{}", entry.path);
                continue;
            }
        }
        assert_metadata(&found, &entry.metadata, with_owner, &entry.path.to_string());
    }
}

fn assert_metadata(found: &fs::Metadata, wanted: &Metadata, with_owner: bool, name: &str) {
    if !found.is_symlink() {
        let kept = if with_owner { 0o7777 } else { 0o1777 };
        assert_eq!(found.permissions().mode() & 0o7777, wanted.mode & kept, "mode of {name}");
    }
    let mtime = (found.mtime(), found.mtime_nsec());
    assert_eq!(mtime, (wanted.mtime.secs, i64::from(wanted.mtime.nanos)), "mtime of {name}");
    if with_owner {
        assert_eq!(
            (u64::from(found.uid()), u64::from(found.gid())),
            (wanted.uid, wanted.gid),
            "owner of {name}"
        );
    }
}
