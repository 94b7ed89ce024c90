//! Compares two trees and says in words how they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How exactly modification times must agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MtimeMatch {
    /// To the nanosecond.
    #[default]
    Exact,
    /// To the second, counted down.
    WholeSeconds,
    /// To the second, in 32 unsigned bits: what SFTP version 3 carries.
    Seconds32,
    /// Not at all.
    Ignore,
}

/// What [`assert_same_tree`] looks at beside names, kinds, content, modes and link targets.
#[derive(Debug, Clone)]
pub struct TreeOptions {
    /// Modification times.
    pub mtime: MtimeMatch,
    /// Numeric owner and group.
    pub owner: bool,
    /// Which names are the same file.
    pub hard_links: bool,
    /// Pipes, sockets and devices must be there too; else they are left out of account.
    pub special: bool,
    /// Relative paths that are left out of account, with all below.
    pub except: Vec<PathBuf>,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self { mtime: MtimeMatch::Exact, owner: false, hard_links: true, special: false, except: Vec::new() }
    }
}

/// Compares `left` and `right`, the directories themselves included.
///
/// # Panics
/// When they differ, with one line for each difference.
pub fn assert_same_tree(left: &Path, right: &Path, options: &TreeOptions) {
    let differences = differences(left, right, options);
    let shown = differences.iter().take(40).fold(String::new(), |text, line| text + "\n  " + line);
    let count = differences.len();
    assert!(count == 0, "{} and {} differ in {count} places:{shown}", left.display(), right.display());
}

fn differences(left: &Path, right: &Path, options: &TreeOptions) -> Vec<String> {
    let (a, b) = (Tree::read(left, options), Tree::read(right, options));
    let mut found = Vec::new();
    for path in a.nodes.keys().chain(b.nodes.keys()).collect::<BTreeSet<_>>() {
        match (a.nodes.get(path), b.nodes.get(path)) {
            (Some(l), Some(r)) => compare(path, (left, l), (right, r), options, &mut found),
            (Some(l), None) => found.push(format!("{path:?} ({}) is missing on the right", kind(l))),
            (None, Some(r)) => found.push(format!("{path:?} ({}) is only on the right", kind(r))),
            (None, None) => {}
        }
    }
    if options.hard_links && a.links() != b.links() {
        found.push(format!("hard links: {:?} against {:?}", a.links(), b.links()));
    }
    found
}

struct Tree {
    nodes: BTreeMap<PathBuf, Metadata>,
}

impl Tree {
    fn read(root: &Path, options: &TreeOptions) -> Self {
        let mut tree = Self { nodes: BTreeMap::new() };
        tree.add(root, Path::new(""), options);
        tree
    }

    fn add(&mut self, root: &Path, relative: &Path, options: &TreeOptions) {
        if options.except.iter().any(|path| path == relative) {
            return;
        }
        let metadata = fs::symlink_metadata(root.join(relative))
            .unwrap_or_else(|error| panic!("look at {:?}: {error}", root.join(relative)));
        if metadata.is_dir() {
            for entry in fs::read_dir(root.join(relative)).unwrap() {
                self.add(root, &relative.join(entry.unwrap().file_name()), options);
            }
        }
        if options.special || kind(&metadata) != "special" {
            self.nodes.insert(relative.to_owned(), metadata);
        }
    }

    /// The names of each file that has several.
    fn links(&self) -> BTreeSet<Vec<&Path>> {
        let mut groups: BTreeMap<(u64, u64), Vec<&Path>> = BTreeMap::new();
        for (path, metadata) in self.nodes.iter().filter(|(_, metadata)| metadata.is_file()) {
            groups.entry((metadata.dev(), metadata.ino())).or_default().push(path);
        }
        groups.into_values().filter(|names| names.len() > 1).collect()
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "directory"
    } else if kind.is_file() {
        "file"
    } else if kind.is_symlink() {
        "symlink"
    } else {
        debug_assert!(kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device());
        "special"
    }
}

fn compare(
    path: &Path,
    (left, a): (&Path, &Metadata),
    (right, b): (&Path, &Metadata),
    options: &TreeOptions,
    found: &mut Vec<String>,
) {
    let mut differ = |what: &str, a: String, b: String| {
        if a != b {
            found.push(format!("{path:?} {what}: {a} against {b}"));
        }
    };
    differ("kind", kind(a).into(), kind(b).into());
    // Links have no mode of their own.
    if !a.is_symlink() {
        differ("mode", format!("{:04o}", a.mode() & 0o7777), format!("{:04o}", b.mode() & 0o7777));
    }
    differ("mtime", mtime(a, options.mtime), mtime(b, options.mtime));
    if options.owner {
        differ("owner", format!("{}:{}", a.uid(), a.gid()), format!("{}:{}", b.uid(), b.gid()));
    }
    if a.is_symlink() && b.is_symlink() {
        differ("target", target(&left.join(path)), target(&right.join(path)));
    }
    if a.is_file() && b.is_file() {
        differ("size", a.len().to_string(), b.len().to_string());
        if let Some(at) = first_difference(&left.join(path), &right.join(path)) {
            found.push(format!("{path:?} content differs at byte {at}"));
        }
    }
}

fn mtime(metadata: &Metadata, how: MtimeMatch) -> String {
    match how {
        MtimeMatch::Exact => format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()),
        MtimeMatch::WholeSeconds => metadata.mtime().to_string(),
        MtimeMatch::Seconds32 => metadata.mtime().rem_euclid(1 << 32).to_string(),
        MtimeMatch::Ignore => String::new(),
    }
}

fn target(path: &Path) -> String {
    let target = fs::read_link(path).unwrap();
    let shown: &OsStr = target.as_os_str();
    shown.as_bytes().escape_ascii().to_string()
}

/// Reads both in step, so that large files cost no memory.
fn first_difference(left: &Path, right: &Path) -> Option<u64> {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("open {path:?}: {error}"));
    let (mut left, mut right) = (open(left), open(right));
    let mut at = 0;
    loop {
        let (a, b) = (block(&mut left), block(&mut right));
        if a != b {
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            return Some(at + u64::try_from(same).unwrap());
        }
        if a.is_empty() {
            return None;
        }
        at += u64::try_from(a.len()).unwrap();
    }
}

fn block(file: &mut File) -> Vec<u8> {
    let mut block = Vec::new();
    file.take(1 << 20).read_to_end(&mut block).unwrap();
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// What `change` does to a copy of a small tree, as the comparison tells it.
    fn told(change: impl Fn(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let sides = ["a", "b"].map(|name| dir.path().join(name));
        for side in &sides {
            fs::create_dir(side).unwrap();
            fs::write(side.join("file"), "content").unwrap();
            fs::hard_link(side.join("file"), side.join("hard")).unwrap();
            symlink("file", side.join("link")).unwrap();
        }
        change(&sides[1]);
        for side in &sides {
            for name in ["file", "link", ""] {
                trees::set_mtime(&side.join(name), 1, 0);
            }
        }
        differences(&sides[0], &sides[1], &TreeOptions { special: true, ..TreeOptions::default() }).join("\n")
    }

    #[test]
    fn equal_trees_have_no_difference() {
        assert_eq!(told(|_| ()), "");
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        type Change = dyn Fn(&Path);
        let cases: [(&Change, &str); 6] = [
            (&|b| fs::write(b.join("file"), "conTent").unwrap(), "content differs at byte 3"),
            (&|b| fs::write(b.join("new"), "").unwrap(), "\"new\" (file) is only on the right"),
            (&|b| fs::remove_file(b.join("hard")).unwrap(), "\"hard\" (file) is missing on the right"),
            (&|b| relink(b, "file2"), "target: file against file2"),
            (
                &|b| fs::set_permissions(b.join("file"), fs::Permissions::from_mode(0o600)).unwrap(),
                "against 0600",
            ),
            (&|b| unlink_and_copy(b), "hard links: "),
        ];
        for (change, expected) in cases {
            let told = told(change);
            assert!(told.contains(expected), "{told} lacks {expected}");
        }
    }

    fn relink(dir: &Path, target: &str) {
        fs::remove_file(dir.join("link")).unwrap();
        symlink(target, dir.join("link")).unwrap();
    }

    fn unlink_and_copy(dir: &Path) {
        fs::remove_file(dir.join("hard")).unwrap();
        fs::write(dir.join("hard"), "content").unwrap();
        trees::set_mtime(&dir.join("hard"), 1, 0);
    }

    #[test]
    fn times_are_compared_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for (side, secs, nanos) in [(&a, -1, 0), (&b, (1 << 32) - 1, 5)] {
            fs::create_dir(side).unwrap();
            trees::set_mtime(side, secs, nanos);
        }
        let count = |mtime| differences(&a, &b, &TreeOptions { mtime, ..TreeOptions::default() }).len();
        assert_eq!(count(MtimeMatch::Exact), 1);
        assert_eq!(count(MtimeMatch::WholeSeconds), 1);
        assert_eq!(count(MtimeMatch::Seconds32), 0);
        assert_eq!(count(MtimeMatch::Ignore), 0);
    }
}
