//! The order of a walk: parents before children, siblings by the bytes of their names.
//!
//! GNU tar's `--sort=name` has the same order, so a walk can go on where a tar stream broke off.

use xvault_core::EntryPath;

/// A place in the order: places compare as the walk meets them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    root: usize,
    /// The path with NUL for `/`: no name holds one, and it sorts children right behind their parent.
    key: Vec<u8>,
}

/// How a place stands to the last one that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was delivered with all below it.
    Behind,
    /// It was delivered, but perhaps not all below it.
    Entered,
    /// It was not met yet.
    Ahead,
}

impl Place {
    /// `path` below the configured path number `root`; `None` is the file system's root.
    pub(crate) fn new(root: usize, path: Option<&EntryPath>) -> Self {
        let key = path.map(|path| path.as_bytes().to_vec()).unwrap_or_default();
        Self { root, key: key.into_iter().map(|b| if b == b'/' { 0 } else { b }).collect() }
    }

    /// How this stands to `last`.
    pub(crate) fn standing(&self, last: &Self) -> Standing {
        if self.root == last.root && self.contains(last) {
            Standing::Entered
        } else if self < last {
            Standing::Behind
        } else {
            Standing::Ahead
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match other.key.strip_prefix(self.key.as_slice()) {
            Some(rest) => self.key.is_empty() || rest.is_empty() || rest.starts_with(&[0]),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: usize, path: &str) -> Place {
        Place::new(root, Some(&EntryPath::new(path).unwrap()))
    }

    #[test]
    fn children_come_right_behind_their_parent() {
        let mut met = ["a-b", "a", "a/z", "a.b", "a/b/c", "a/b", "b"];
        met.sort_by_key(|path| place(0, path));
        assert_eq!(met, ["a", "a/b", "a/b/c", "a/z", "a-b", "a.b", "b"]);
        assert!(place(0, "z") < place(1, "a"));
    }

    #[test]
    fn what_was_delivered_is_behind_and_its_parents_are_entered() {
        let last = place(1, "srv/m/k");
        let standing = |root, path| place(root, path).standing(&last);
        assert_eq!(standing(0, "zzz"), Standing::Behind);
        assert_eq!(standing(1, "srv/a"), Standing::Behind);
        assert_eq!(standing(1, "srv/m/j"), Standing::Behind);
        assert_eq!(standing(1, "srv"), Standing::Entered);
        assert_eq!(standing(1, "srv/m"), Standing::Entered);
        assert_eq!(standing(1, "srv/m/k"), Standing::Entered);
        assert_eq!(standing(1, "srv/m/k2"), Standing::Ahead);
        assert_eq!(standing(1, "srv/m.x"), Standing::Ahead);
        assert_eq!(standing(2, "a"), Standing::Ahead);
        assert_eq!(Place::new(1, None).standing(&last), Standing::Entered);
    }
}
