//! What extraction would refuse about the paths of a snapshot, found without a directory to extract into.

use xvault_core::{EntryKind, EntryPath};

use crate::error::Error;
use crate::index::{IndexEntry, Segment, closing_name};
use crate::seen::PathSet;

/// The paths of a snapshot so far.
#[derive(Default)]
pub(super) struct Names {
    seen: PathSet,
    /// Directories, and whatever an entry lies below.
    directories: PathSet,
}

impl Names {
    /// Every path is there once, nothing lies below anything but directories, and every hard link names an earlier file.
    pub(super) fn entry(&mut self, entry: &IndexEntry) -> Result<(), Error> {
        let (path, kind) = (&entry.entry.path, &entry.entry.kind);
        self.place(path, kind)?;
        if let EntryKind::Hardlink { target } = kind
            && !self.seen.contains_file(target)
        {
            return Err(hostile(path, "is a hard link to something that is no earlier file"));
        }
        match joined_name(path) {
            Some(name) if matches!(entry.segment, Some(Segment::Closing(_))) => self.place(&name, kind),
            _ => Ok(()),
        }
    }

    fn place(&mut self, path: &EntryPath, kind: &EntryKind) -> Result<(), Error> {
        if !self.seen.insert(path, matches!(kind, EntryKind::File { .. })) {
            return Err(hostile(path, "appears twice"));
        }
        self.above(path)?;
        if *kind == EntryKind::Directory {
            self.directories.insert(path, false);
        } else if self.directories.contains(path) {
            return Err(hostile(path, "is no directory, but an earlier entry lies below it"));
        }
        Ok(())
    }

    /// What is known as a directory has only directories above it.
    fn above(&mut self, path: &EntryPath) -> Result<(), Error> {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !self.directories.contains(directory)) {
            if self.seen.contains(&directory) {
                return Err(hostile(path, "lies below an entry that is no directory"));
            }
            self.directories.insert(&directory, false);
            above = directory.parent();
        }
        Ok(())
    }
}

fn hostile(path: &EntryPath, reason: &'static str) -> Error {
    Error::Hostile { path: path.to_string(), reason }
}

/// The name of the file that a closing entry closes.
fn joined_name(closing: &EntryPath) -> Option<EntryPath> {
    let name = closing.as_bytes().strip_suffix(closing_name(b"").as_slice())?;
    EntryPath::new(name).ok()
}
