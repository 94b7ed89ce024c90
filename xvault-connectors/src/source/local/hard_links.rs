//! Remembers files with several names until all their names were met.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use xvault_core::EntryPath;

/// Its size follows the number of files that have names still to come.
#[derive(Debug, Default)]
pub(super) struct HardLinks(HashMap<(u64, u64), First>);

#[derive(Debug)]
struct First {
    path: EntryPath,
    names_to_come: u64,
    version: Version,
}

/// Tells a file from another one that got the number of a deleted one.
type Version = (u64, i64, i64);

fn version(stat: &Metadata) -> Version {
    (stat.len(), stat.mtime(), stat.mtime_nsec())
}

impl HardLinks {
    /// The earlier name of the same file, as it was handed on.
    pub(super) fn earlier_name(&mut self, stat: &Metadata) -> Option<EntryPath> {
        if stat.nlink() < 2 {
            return None;
        }
        let key = (stat.dev(), stat.ino());
        let first = self.0.get_mut(&key)?;
        if first.version != version(stat) {
            self.0.remove(&key);
            return None;
        }
        first.names_to_come = first.names_to_come.saturating_sub(1);
        let path = first.path.clone();
        if first.names_to_come == 0 {
            self.0.remove(&key);
        }
        Some(path)
    }

    /// A file was handed on under `path`.
    pub(super) fn handed_on(&mut self, stat: &Metadata, path: &EntryPath) {
        if stat.nlink() > 1 {
            let first = First { path: path.clone(), names_to_come: stat.nlink() - 1, version: version(stat) };
            self.0.insert((stat.dev(), stat.ino()), first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_are_remembered_until_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), "x").unwrap();
        let (a, b) = (EntryPath::new(*b"a").unwrap(), EntryPath::new(*b"b").unwrap());
        let mut links = HardLinks::default();
        links.handed_on(&fs::metadata(path("a")).unwrap(), &a);
        assert!(links.0.is_empty());
        for name in ["b", "c"] {
            fs::hard_link(path("a"), path(name)).unwrap();
        }
        let stat = fs::metadata(path("a")).unwrap();
        links.handed_on(&stat, &a);
        assert_eq!(links.earlier_name(&stat), Some(a.clone()));
        assert_eq!(links.earlier_name(&stat), Some(a.clone()));
        assert!(links.0.is_empty());

        links.handed_on(&stat, &b);
        fs::write(path("a"), "other content").unwrap();
        assert_eq!(links.earlier_name(&fs::metadata(path("a")).unwrap()), None);
    }
}
