//! What extraction does to a disk: the target holds what the index promised, and nothing beside it changes.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xvault_archive::{ArchiveEntry, ExtractOptions, extract};
use xvault_core::EntryKind;

use crate::Verdict;

use super::{Reader, assert_is_promised, unique};

const SECRET: &[u8] = b"nobody may read or write this";

/// Names of files that are not complete begin so.
const TEMPORARY: &[u8] = b".xvault-";

/// Extracts everything into `target` beside a file and a directory that must stay as they are.
#[expect(clippy::expect_used, reason = "without a temporary directory nothing can be tried")]
pub(super) fn check(reader: &mut Reader, entries: &[ArchiveEntry]) -> Verdict {
    let place = tempfile::tempdir().expect("make a temporary directory");
    prepare(place.path()).expect("fill a temporary directory");
    let target = place.path().join("target");
    let extracted = extract(reader, &target, &ExtractOptions::default());
    assert_neighbours_are_untouched(place.path());
    if !entries.iter().any(|entry| entry.entry.path.components().any(|name| name.starts_with(TEMPORARY))) {
        assert_no_half_file(&target);
    }
    if extracted.is_ok() {
        unique(entries).for_each(|entry| assert_is_there(&target, entry));
    }
    Verdict::of(&extracted)
}

fn prepare(place: &Path) -> io::Result<()> {
    std::fs::write(place.join("secret"), SECRET)?;
    std::fs::create_dir(place.join("empty"))
}

fn assert_neighbours_are_untouched(place: &Path) {
    let mut names = names(place);
    names.retain(|name| name != "target");
    names.sort();
    assert_eq!(names, ["empty", "secret"], "something appeared beside the target");
    assert_eq!(std::fs::read(place.join("secret")).ok().as_deref(), Some(SECRET));
    assert!(self::names(&place.join("empty")).is_empty(), "something was written beside the target");
}

/// What a directory holds; nothing, if it can't be read.
fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

fn assert_no_half_file(directory: &Path) {
    for name in names(directory) {
        assert!(!name.as_bytes().starts_with(TEMPORARY), "{} was left behind", name.display());
        let path = directory.join(name);
        if path.is_dir() && !path.is_symlink() {
            assert_no_half_file(&path);
        }
    }
}

fn assert_is_there(target: &Path, entry: &ArchiveEntry) {
    let path: PathBuf = target.join(OsStr::from_bytes(entry.entry.path.as_bytes()));
    match &entry.entry.kind {
        EntryKind::Directory => assert!(path.is_dir() && !path.is_symlink(), "{:?}", entry.entry),
        EntryKind::Symlink { target } => {
            let link = std::fs::read_link(&path).ok();
            assert_eq!(link.as_deref().map(|link| link.as_os_str().as_bytes()), Some(target.as_slice()));
        }
        EntryKind::File { .. } => {
            let content = std::fs::read(&path).ok();
            assert!(content.is_some() && !path.is_symlink(), "{:?} is missing", entry.entry);
            assert_is_promised(entry, &content.unwrap_or_default());
        }
        EntryKind::Hardlink { .. } | EntryKind::Stream => assert!(path.is_file(), "{:?}", entry.entry),
    }
}
