//! Lists directories ahead of the walk.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use xvault_core::entry::display_name;
use xvault_core::{EntryPath, WarningCode};

use super::order::{Place, Standing};
use super::requests::{Purpose, Requests};
use super::scope::{Scope, remote_path};
use crate::Error;
use crate::ssh::sftp::{Attrs, FileType, Name, Reply, Request, Status, StatusCode};

/// Directories that are being listed at once.
const MAX_ACTIVE: usize = 64;

/// Entries that may lie in listings the walk has not reached yet.
const MAX_HELD: usize = 16_384;

/// READDIRs in flight for one directory: the second mostly brings the end. One more for every
/// hundred entries, which is what OpenSSH gives at once, so that large directories take few round trips.
const MIN_READS: usize = 2;
const MAX_READS: usize = 32;
const ENTRIES_PER_READ: usize = 100;

/// More entries than this in one directory are taken for an endless listing.
const MAX_ENTRIES: usize = 4_000_000;

/// A directory to be listed.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub(super) root: usize,
    pub(super) path: Option<EntryPath>,
}

impl Dir {
    pub(super) fn place(&self) -> Place {
        Place::new(self.root, self.path.as_ref())
    }

    /// The path of one of its entries.
    pub(super) fn child(&self, name: &[u8]) -> Result<EntryPath, xvault_core::entry::InvalidPath> {
        match &self.path {
            Some(path) => path.join(name),
            None => EntryPath::new(name),
        }
    }
}

/// An entry of a directory; the name has been checked.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: Box<[u8]>,
    pub(super) attrs: Attrs,
}

/// What listing a directory brought.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its entries in order, and what is wrong with others.
    Listed { children: Vec<Child>, bad_names: Vec<String> },
    /// It could not be opened.
    Refused(WarningCode, String),
}

struct Active {
    dir: Dir,
    handle: Option<Bytes>,
    reads: usize,
    lstats: usize,
    at_end: bool,
    children: Vec<Child>,
    bad_names: Vec<String>,
}

/// The directories that are wanted, being listed, and listed.
#[derive(Default)]
pub(super) struct Listings {
    wanted: BTreeMap<Place, Dir>,
    active: HashMap<u64, Active>,
    done: BTreeMap<Place, Outcome>,
    next: u64,
    held: usize,
    /// How many listings came to their end.
    pub(super) finished: u64,
}

impl Listings {
    /// Lists `dir` when its turn comes.
    pub(super) fn want(&mut self, dir: Dir) {
        self.wanted.insert(dir.place(), dir);
    }

    /// Whether some are listed and not taken yet, or being listed.
    pub(super) fn take(&mut self, place: &Place) -> Option<Outcome> {
        let outcome = self.done.remove(place)?;
        if let Outcome::Listed { children, .. } = &outcome {
            self.held -= children.len();
        }
        Some(outcome)
    }

    /// Begins listings in the order of the walk; that of `needed`, which the walk waits for, at once.
    pub(super) fn start(&mut self, requests: &mut Requests, needed: Option<&Place>) {
        while let Some((place, _)) = self.wanted.first_key_value() {
            let may_wait = needed != Some(place);
            let busy =
                self.active.len() >= MAX_ACTIVE || self.held >= MAX_HELD || !requests.has_free_handle();
            if may_wait && busy {
                return;
            }
            let Some((_, dir)) = self.wanted.pop_first() else { return };
            self.next += 1;
            requests.ask(Purpose::OpenDir(self.next), &Request::OpenDir(&remote_path(dir.path.as_ref())));
            let active = Active {
                dir,
                handle: None,
                reads: 0,
                lstats: 0,
                at_end: false,
                children: Vec::new(),
                bad_names: Vec::new(),
            };
            self.active.insert(self.next, active);
        }
    }

    /// The connection is gone: what was being listed is wanted again.
    pub(super) fn restart(&mut self) {
        for (_, active) in self.active.drain() {
            self.held -= active.children.len();
            self.wanted.insert(active.dir.place(), active.dir);
        }
    }

    pub(super) fn opened(&mut self, number: u64, reply: Reply, requests: &mut Requests) -> Result<(), Error> {
        let Some(active) = self.active.get_mut(&number) else { return Ok(()) };
        match reply {
            Reply::Handle(handle) => {
                active.handle = Some(handle);
                active.read_ahead(number, requests);
                Ok(())
            }
            Reply::Status(status) if status.code != StatusCode::Ok => {
                requests.forget_handle();
                if let Some(active) = self.active.remove(&number) {
                    let (code, message) = refusal(&status, "could not be listed");
                    self.done.insert(active.dir.place(), Outcome::Refused(code, message));
                }
                Ok(())
            }
            _ => Err(requests.protocol("OPENDIR was answered with something else")),
        }
    }

    pub(super) fn read(
        &mut self,
        number: u64,
        reply: Reply,
        requests: &mut Requests,
        scope: &Scope,
    ) -> Result<(), Error> {
        let Some(active) = self.active.get_mut(&number) else { return Ok(()) };
        active.reads -= 1;
        match reply {
            Reply::Names(names) if names.is_empty() => {
                return Err(requests.protocol("READDIR brought no names"));
            }
            Reply::Names(names) => {
                self.held += active.add(number, names, requests);
                if active.children.len() > MAX_ENTRIES {
                    let detail = format!("it lists more than {MAX_ENTRIES} entries in {}", active.shown());
                    return Err(requests.protocol(detail));
                }
                active.read_ahead(number, requests);
            }
            Reply::Status(status) if status.code == StatusCode::Eof => active.end(requests),
            Reply::Status(_) if active.at_end => {}
            Reply::Status(status) => {
                return Err(Error::Incomplete(format!("list {}: {}", active.shown(), status.message)));
            }
            _ => return Err(requests.protocol("READDIR was answered with something else")),
        }
        self.finish_if_whole(number, scope);
        Ok(())
    }

    /// A server that lists names without types was asked for each.
    pub(super) fn lstat(&mut self, number: u64, child: usize, reply: Reply, scope: &Scope) {
        let Some(active) = self.active.get_mut(&number) else { return };
        active.lstats -= 1;
        if let (Reply::Attrs(attrs), Some(child)) = (reply, active.children.get_mut(child)) {
            child.attrs = attrs;
        }
        self.finish_if_whole(number, scope);
    }

    fn finish_if_whole(&mut self, number: u64, scope: &Scope) {
        let whole = |a: &Active| a.at_end && a.reads == 0 && a.lstats == 0;
        if !self.active.get(&number).is_some_and(whole) {
            return;
        }
        let Some(active) = self.active.remove(&number) else { return };
        let before = active.children.len();
        let place = active.dir.place();
        let (children, bad_names) = sorted(active.children, active.bad_names);
        self.held -= before - children.len();
        self.finished += 1;
        self.want_children(&active.dir, &children, scope);
        self.done.insert(place, Outcome::Listed { children, bad_names });
    }

    fn want_children(&mut self, dir: &Dir, children: &[Child], scope: &Scope) {
        for child in children.iter().filter(|child| child.attrs.file_type() == Some(FileType::Directory)) {
            let Ok(path) = dir.child(&child.name) else { continue };
            let behind = scope.standing(&Place::new(dir.root, Some(&path))) == Standing::Behind;
            if !behind && !scope.excludes(dir.root, &path, true) {
                self.want(Dir { root: dir.root, path: Some(path) });
            }
        }
    }
}

impl Active {
    fn read_ahead(&mut self, number: u64, requests: &mut Requests) {
        let Some(handle) = &self.handle else { return };
        let ahead = (MIN_READS + self.children.len() / ENTRIES_PER_READ).min(MAX_READS);
        while self.reads < ahead && !self.at_end {
            requests.ask(Purpose::ReadDir(number), &Request::ReadDir(handle));
            self.reads += 1;
        }
    }

    fn end(&mut self, requests: &mut Requests) {
        self.at_end = true;
        if let Some(handle) = self.handle.take() {
            requests.close(&handle);
        }
    }

    /// Returns how many were added.
    fn add(&mut self, number: u64, names: Vec<Name>, requests: &mut Requests) -> usize {
        let before = self.children.len();
        for Name { name, attrs } in names {
            match self.dir.child(&name) {
                _ if matches!(&name[..], b"." | b"..") => {}
                Err(error) => self.bad_names.push(error.to_string()),
                Ok(path) => {
                    if attrs.file_type().is_none() {
                        let purpose = Purpose::LstatChild(number, self.children.len());
                        requests.ask(purpose, &Request::Lstat(&remote_path(Some(&path))));
                        self.lstats += 1;
                    }
                    self.children.push(Child { name: name.to_vec().into(), attrs });
                }
            }
        }
        self.children.len() - before
    }

    fn shown(&self) -> String {
        format!("`{}`", display_name(&remote_path(self.dir.path.as_ref())))
    }
}

fn sorted(mut children: Vec<Child>, mut bad_names: Vec<String>) -> (Vec<Child>, Vec<String>) {
    children.shrink_to_fit();
    children.sort_by(|a, b| a.name.cmp(&b.name));
    children.dedup_by(|later, kept| {
        let same = later.name == kept.name;
        if same {
            bad_names.push(format!("`{}` is listed twice", display_name(&later.name)));
        }
        same
    });
    (children, bad_names)
}

/// What a refused request means for the thing it was about.
pub(super) fn refusal(status: &Status, what: &str) -> (WarningCode, String) {
    match status.code {
        StatusCode::NoSuchFile => (WarningCode::Vanished, "is gone since its directory was listed".into()),
        StatusCode::PermissionDenied => (WarningCode::Unreadable, format!("{what}: permission denied")),
        _ => (WarningCode::Unreadable, format!("{what}: {}", status.message)),
    }
}
