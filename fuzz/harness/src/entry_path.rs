//! Path rules: whatever bytes a source names, no accepted path leads out of a target directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use xvault_core::entry::MAX_PATH_LEN;
use xvault_core::{Entry, EntryKind, EntryPath, Metadata};

use crate::Verdict;

/// Feeds `data` to [`EntryPath::new`] and [`EntryPath::from_source`].
///
/// # Panics
/// When an accepted path could escape, or when the rules contradict each other.
pub fn entry_path(data: &[u8]) -> Verdict {
    let exact = EntryPath::new(data);
    if let Ok(path) = &exact {
        assert_eq!(path.as_bytes(), data, "a path is taken as it is");
        assert_stays_inside(path);
        assert_parts_fit(path);
        assert_shown_on_one_line(path);
    }
    let cleaned = EntryPath::from_source(data);
    if let Ok(Some(path)) = &cleaned {
        assert_stays_inside(path);
        assert_cleaning_is_idempotent(path);
    }
    assert_only_danger_is_refused(data, &cleaned);
    if exact.is_ok() {
        assert_eq!(
            cleaned.as_ref().ok().cloned().flatten(),
            exact.clone().ok(),
            "a clean path needs no cleaning"
        );
    }
    assert_join_takes_one_component(data);
    Verdict::of(&exact)
}

/// By the eyes of the standard library, which is what opens files.
fn assert_stays_inside(path: &EntryPath) {
    let bytes = path.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= MAX_PATH_LEN && !bytes.contains(&0), "{path:?}");
    let all_normal =
        Path::new(OsStr::from_bytes(bytes)).components().all(|c| matches!(c, Component::Normal(_)));
    assert!(all_normal, "{path:?} has a component that is no plain name");
    let target = Path::new("/target");
    let joined = target.join(OsStr::from_bytes(bytes));
    assert!(joined.starts_with(target) && joined != target, "{path:?} leads to {}", joined.display());
}

fn assert_parts_fit(path: &EntryPath) {
    assert_eq!(path.components().last(), Some(path.name()));
    assert!(path.is_within(path));
    match path.parent() {
        None => assert_eq!(path.name(), path.as_bytes()),
        Some(parent) => {
            assert_stays_inside(&parent);
            assert!(path.is_within(&parent) && !parent.is_within(path));
            assert_eq!(parent.join(path.name()).as_ref(), Ok(path));
        }
    }
}

fn assert_shown_on_one_line(path: &EntryPath) {
    let shown = path.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?} would write to a terminal");
    // Debug output of an entry is logged.
    let entry = Entry { path: path.clone(), kind: EntryKind::Directory, metadata: Metadata::default() };
    assert!(!format!("{entry:?}").chars().any(char::is_control));
}

fn assert_cleaning_is_idempotent(path: &EntryPath) {
    let decorated = [b"//./", path.as_bytes(), b"/./"].concat();
    for again in [path.as_bytes(), &decorated] {
        assert_eq!(EntryPath::from_source(again).ok().flatten().as_ref(), Some(path));
    }
}

/// `from_source` may not refuse a path that a file at a source can have.
fn assert_only_danger_is_refused(data: &[u8], cleaned: &Result<Option<EntryPath>, impl Sized>) {
    let dangerous = data.contains(&0) || data.split(|b| *b == b'/').any(|component| component == b"..");
    match cleaned {
        Ok(_) => assert!(!dangerous, "{} was accepted", data.escape_ascii()),
        Err(_) => assert!(dangerous || data.len() > MAX_PATH_LEN, "{} was refused", data.escape_ascii()),
    }
}

fn assert_join_takes_one_component(name: &[u8]) {
    let Ok(directory) = EntryPath::new(*b"srv") else { return };
    if let Ok(joined) = directory.join(name) {
        assert_eq!((joined.name(), joined.parent().as_ref()), (name, Some(&directory)));
        assert_stays_inside(&joined);
    }
}
