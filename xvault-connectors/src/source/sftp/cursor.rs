//! Runs ahead of the sink through the tree and fills the line.

use std::collections::VecDeque;

use xvault_core::{Entry, EntryKind, EntryPath, WarningCode};

use super::file::File;
use super::line::{Line, Slot};
use super::listing::{Child, Dir, Listings, Outcome};
use super::order::{Place, Standing};
use super::scope::{Scope, closed_directory};
use crate::Error;
use crate::ssh::sftp::{Attrs, FileType};

/// Where the walk is.
pub(super) struct Cursor {
    next_root: usize,
    frames: Vec<Frame>,
    awaited: Option<Dir>,
    /// Seconds since 1970 when the walk began.
    now: i64,
}

/// A directory that is being walked.
struct Frame {
    dir: Dir,
    rest: VecDeque<Child>,
    /// What the listing weighs.
    weight: usize,
}

impl Cursor {
    pub(super) fn new(now: i64) -> Self {
        Self { next_root: 0, frames: Vec::new(), awaited: None, now }
    }

    /// The directory whose listing the walk waits for.
    pub(super) fn awaited(&self) -> Option<Place> {
        self.awaited.as_ref().map(Dir::place)
    }

    /// Fills the line as far as listings reach. `true` once there is no more.
    pub(super) fn advance(
        &mut self,
        scope: &Scope,
        listings: &mut Listings,
        line: &mut Line,
    ) -> Result<bool, Error> {
        while line.has_room() {
            if let Some(dir) = self.awaited.take() {
                match listings.take(&dir.place()) {
                    Some(outcome) => self.enter(dir, outcome, scope, line)?,
                    None => {
                        self.awaited = Some(dir);
                        return Ok(false);
                    }
                }
            } else if let Some(frame) = self.frames.last_mut() {
                match frame.rest.pop_front() {
                    Some(child) => self.visit(&child, scope, line),
                    None => self.leave(listings),
                }
            } else if !self.begin_root(scope, listings, line) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn leave(&mut self, listings: &mut Listings) {
        if let Some(frame) = self.frames.pop() {
            listings.give_back(frame.weight);
        }
    }

    fn begin_root(&mut self, scope: &Scope, listings: &mut Listings, line: &mut Line) -> bool {
        let number = self.next_root;
        let Some(root) = scope.roots.get(number) else { return false };
        self.next_root += 1;
        let standing = scope.standing(&Place::new(number, root.path.as_ref()));
        if standing == Standing::Behind {
            return true;
        }
        if root.attrs.file_type() == Some(FileType::Directory) {
            listings.want(Dir { root: number, path: root.path.clone() });
        }
        match &root.path {
            Some(path) => self.place(number, path.clone(), &root.attrs, standing, line),
            None => self.awaited = Some(Dir { root: number, path: None }),
        }
        true
    }

    fn enter(&mut self, dir: Dir, outcome: Outcome, scope: &Scope, line: &mut Line) -> Result<(), Error> {
        match outcome {
            Outcome::Refused(code, message) => {
                let is_root = scope.is_root(dir.path.as_ref());
                line.warn(closed_directory(dir.path.as_ref(), is_root, (code, message))?);
            }
            Outcome::Listed { children, bad_names, weight } => {
                let path = dir.path.clone().or_else(|| scope.roots.get(dir.root)?.told_at());
                bad_names.into_warnings(path).for_each(|warning| line.warn(warning));
                self.frames.push(Frame { dir, rest: children.into(), weight });
            }
        }
        Ok(())
    }

    fn visit(&mut self, child: &Child, scope: &Scope, line: &mut Line) {
        let Some(frame) = self.frames.last() else { return };
        let root = frame.dir.root;
        // Names were checked when they were listed.
        let Ok(path) = frame.dir.child(&child.name) else { return };
        let is_dir = child.attrs.file_type() == Some(FileType::Directory);
        if scope.excludes(root, &path, is_dir) {
            return;
        }
        let standing = match &scope.delivered {
            Some(_) => scope.standing(&Place::new(root, Some(&path))),
            None => Standing::Ahead,
        };
        if standing != Standing::Behind {
            self.place(root, path, &child.attrs, standing, line);
        }
    }

    /// Puts an entry into the line, unless it was delivered before, and goes into a directory.
    fn place(&mut self, root: usize, path: EntryPath, attrs: &Attrs, standing: Standing, line: &mut Line) {
        let kind = attrs.file_type();
        if kind == Some(FileType::Directory) {
            self.awaited = Some(Dir { root, path: Some(path.clone()) });
        }
        if standing != Standing::Ahead {
            return;
        }
        line.push(match kind {
            Some(FileType::Directory) => {
                let metadata = attrs.metadata(self.now);
                Slot::Whole(Entry { path, kind: EntryKind::Directory, metadata })
            }
            Some(FileType::File) => Slot::File(Box::new(File::new(path, attrs, self.now))),
            Some(FileType::Symlink) => Slot::Link { path, metadata: attrs.metadata(self.now), target: None },
            Some(FileType::Special) => Slot::Special,
            None => Slot::Warning(path, WarningCode::Unreadable, "its attributes could not be read".into()),
        });
    }
}

impl Line {
    fn warn(&mut self, (path, code, message): (EntryPath, WarningCode, String)) {
        self.push(Slot::Warning(path, code, message));
    }
}
