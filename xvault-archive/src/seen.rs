//! Which paths were seen, in a few bytes for each.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use xvault_core::EntryPath;

/// A set of paths as 63-bit hashes under a random key: 9 to 18 bytes for each path, its length no matter.
///
/// Two different paths are taken for one with odds of n²/2⁶⁴ among n: 1 in 180,000 for ten million. Nobody who
/// does not know the key can make it happen.
#[derive(Default)]
pub(crate) struct PathSet {
    key: RandomState,
    hashes: HashSet<u64, PassThrough>,
}

impl PathSet {
    /// `false`: it was there before.
    pub(crate) fn insert(&mut self, path: &EntryPath, is_file: bool) -> bool {
        !self.contains(path) && self.hashes.insert(self.hash(path) ^ u64::from(is_file))
    }

    pub(crate) fn contains(&self, path: &EntryPath) -> bool {
        let hash = self.hash(path);
        self.hashes.contains(&hash) || self.hashes.contains(&(hash ^ 1))
    }

    /// Whether it was put in as a file.
    pub(crate) fn contains_file(&self, path: &EntryPath) -> bool {
        self.hashes.contains(&(self.hash(path) ^ 1))
    }

    /// The lowest bit is left for "is a file".
    fn hash(&self, path: &EntryPath) -> u64 {
        self.key.hash_one(path.as_bytes()) & !1
    }
}

/// Uses a number that is a hash already as it is, its low bits mixed in from the high ones.
#[derive(Default, Clone, Copy)]
pub(crate) struct PassThrough;

#[derive(Default)]
pub(crate) struct Hashed(u64);

impl BuildHasher for PassThrough {
    type Hasher = Hashed;

    fn build_hasher(&self) -> Hashed {
        Hashed::default()
    }
}

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0.rotate_right(7)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_once_whatever_it_was() {
        let path = |text: &str| EntryPath::new(text).unwrap();
        let mut set = PathSet::default();
        assert!(set.insert(&path("a"), true) && set.insert(&path("b"), false));
        for again in ["a", "b"] {
            assert!(!set.insert(&path(again), true) && !set.insert(&path(again), false));
        }
        assert!(set.contains(&path("a")) && set.contains(&path("b")) && !set.contains(&path("c")));
        assert!(set.contains_file(&path("a")) && !set.contains_file(&path("b")));
    }
}
