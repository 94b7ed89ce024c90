//! The order of the walk: fills the line from listings, and knows which directories are to be listed.

use std::collections::{BTreeMap, BTreeSet};

use xvault_core::entry::display_name;
use xvault_core::{Entry, EntryKind, EntryPath, WarningCode};

use super::line::{File, Line, Slot};
use super::list::{Dir, Listing, Outcome, Weight};
use super::scope::Scope;
use crate::Error;
use crate::ftp::{Kind, Listed};
use crate::source::sftp::order::Place;
use crate::source::sftp::scope::closed_directory;

/// Memory of listings that the walk has not reached yet, beyond which only the one it waits for is begun.
const ENOUGH_AHEAD: usize = 4 << 20;

/// Where the walk is, and what is listed ahead of it.
pub(super) struct Tree {
    next_root: usize,
    frames: Vec<Frame>,
    awaited: Option<Dir>,
    wanted: BTreeMap<Place, Dir>,
    asked: BTreeSet<Place>,
    done: BTreeMap<Place, Outcome>,
    ahead: usize,
    now: i64,
    /// How many listings came to their end.
    pub(super) finished: u64,
}

/// A directory that is being walked.
struct Frame {
    dir: Dir,
    rest: std::vec::IntoIter<Listed>,
    _weight: Weight,
}

impl Tree {
    pub(super) fn new(now: i64) -> Self {
        Self {
            next_root: 0,
            frames: Vec::new(),
            awaited: None,
            wanted: BTreeMap::new(),
            asked: BTreeSet::new(),
            done: BTreeMap::new(),
            ahead: 0,
            now,
            finished: 0,
        }
    }

    /// Fills the line as far as listings reach. `true` once there is no more.
    pub(super) fn advance(&mut self, scope: &Scope, line: &mut Line) -> Result<bool, Error> {
        while line.has_room() {
            if let Some(dir) = self.awaited.take() {
                match self.take(&dir) {
                    Some(outcome) => self.enter(dir, outcome, scope, line)?,
                    None => {
                        self.awaited = Some(dir);
                        return Ok(false);
                    }
                }
            } else if let Some(frame) = self.frames.last_mut() {
                match frame.rest.next() {
                    Some(child) => self.visit(child, scope, line)?,
                    None => drop(self.frames.pop()),
                }
            } else if !self.begin_root(scope, line) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory to list next: the one that is waited for, or the next one in order.
    pub(super) fn next_job(&mut self) -> Option<Dir> {
        let awaited = self.awaited.as_ref().map(Dir::place);
        let place = match awaited.filter(|place| self.wanted.contains_key(place)) {
            Some(place) => place,
            None if self.ahead < ENOUGH_AHEAD => self.wanted.first_key_value()?.0.clone(),
            None => return None,
        };
        let dir = self.wanted.remove(&place)?;
        self.asked.insert(place);
        Some(dir)
    }

    /// Whether the walk waits for a listing that nobody makes yet.
    pub(super) fn needs_listing(&self) -> bool {
        self.awaited.as_ref().is_some_and(|dir| self.wanted.contains_key(&dir.place()))
    }

    /// A listing that came.
    pub(super) fn listed(&mut self, dir: &Dir, outcome: Outcome, scope: &Scope) {
        let place = dir.place();
        if !self.asked.remove(&place) {
            return;
        }
        if let Outcome::Listed(listing) = &outcome {
            self.finished += 1;
            self.ahead += listing.weight.own();
            self.want_children(dir, &listing.children, scope);
        }
        self.done.insert(place, outcome);
    }

    fn take(&mut self, dir: &Dir) -> Option<Outcome> {
        let outcome = self.done.remove(&dir.place())?;
        if let Outcome::Listed(listing) = &outcome {
            self.ahead -= listing.weight.own();
        }
        Some(outcome)
    }

    fn want_children(&mut self, dir: &Dir, children: &[Listed], scope: &Scope) {
        for child in children.iter().filter(|child| child.kind == Kind::Directory) {
            let Ok(path) = dir.child(&child.name) else { continue };
            if !scope.excludes(dir.root, &path, true) && !dir.leads_back(child) {
                let child = Dir::new(dir.root, Some(path), child, Some(dir));
                self.wanted.insert(child.place(), child);
            }
        }
    }

    fn begin_root(&mut self, scope: &Scope, line: &mut Line) -> bool {
        let number = self.next_root;
        let Some(root) = scope.roots.get(number) else { return false };
        self.next_root += 1;
        if root.listed.kind == Kind::Directory {
            let dir = Dir::new(number, root.path.clone(), &root.listed, None);
            self.wanted.insert(dir.place(), dir.clone());
            // Its entry waits for its listing, which may tell more of it.
            self.awaited = Some(dir);
        } else if let Some(path) = &root.path {
            self.place(path.clone(), root.listed.clone(), line);
        }
        true
    }

    fn enter(&mut self, dir: Dir, outcome: Outcome, scope: &Scope, line: &mut Line) -> Result<(), Error> {
        let Listing { children, bad_names, weight, itself, .. } = match outcome {
            Outcome::Listed(listing) => listing,
            Outcome::Refused(code, message) => {
                let is_root = scope.is_root(dir.path.as_ref());
                let (path, code, message) = closed_directory(dir.path.as_ref(), is_root, (code, message))?;
                line.push(Slot::Warning(path, code, message));
                return Ok(());
            }
        };
        if let (true, Some(path), Some(root)) = (self.frames.is_empty(), &dir.path, scope.roots.get(dir.root))
        {
            let told = itself.filter(|_| root.listed.mode.is_none());
            let told = told.map_or_else(|| root.listed.clone(), |itself| *itself);
            self.place(path.clone(), Listed { kind: Kind::Directory, ..told }, line);
        }
        let told_at = dir.path.clone().or_else(|| scope.roots.get(dir.root)?.told_at());
        for (path, code, message) in bad_names.into_warnings(told_at) {
            line.push(Slot::Warning(path, code, message));
        }
        self.frames.push(Frame { dir, rest: children.into_iter(), _weight: weight });
        Ok(())
    }

    fn visit(&mut self, child: Listed, scope: &Scope, line: &mut Line) -> Result<(), Error> {
        let Some(Frame { dir, .. }) = self.frames.last() else { return Ok(()) };
        // Names were checked when they were listed.
        let Ok(path) = dir.child(&child.name) else { return Ok(()) };
        if scope.excludes(dir.root, &path, child.kind == Kind::Directory) {
            return Ok(());
        }
        match child.kind {
            Kind::Directory if dir.leads_back(&child) => {
                let message = "leads back to a directory that it lies in, and is left out";
                line.push(Slot::Warning(path, WarningCode::Other, message.into()));
                return Ok(());
            }
            Kind::Directory => self.awaited = Some(Dir::new(dir.root, Some(path.clone()), &child, Some(dir))),
            Kind::Symlink => scope.check_link(&path)?,
            _ => {}
        }
        self.place(path, child, line);
        Ok(())
    }

    /// Puts an entry into the line.
    fn place(&self, path: EntryPath, listed: Listed, line: &mut Line) {
        let metadata = listed.metadata(self.now);
        line.push(match listed.kind {
            Kind::Directory => Slot::Whole(Entry { path, kind: EntryKind::Directory, metadata }),
            Kind::File => Slot::File(Box::new(File { path, listed, pieces: None, begun: false })),
            Kind::Symlink => match link_target(&listed) {
                Ok(target) => Slot::Whole(Entry { path, kind: EntryKind::Symlink { target }, metadata }),
                Err((code, message)) => Slot::Warning(path, code, message),
            },
            Kind::Special | Kind::Itself | Kind::Above => Slot::Special,
        });
    }
}

fn link_target(listed: &Listed) -> Result<Vec<u8>, (WarningCode, String)> {
    match listed.target.as_deref() {
        Some(target) if target.len() <= xvault_core::entry::MAX_PATH_LEN && !target.contains(&0) => {
            Ok(target.to_vec())
        }
        Some(target) => {
            let target: String = display_name(target).chars().take(100).collect();
            Err((WarningCode::BadName, format!("points to what can be no path: {target}")))
        }
        None => {
            let message = "is a symbolic link, and the server does not tell where it leads";
            Err((WarningCode::Unreadable, message.into()))
        }
    }
}
