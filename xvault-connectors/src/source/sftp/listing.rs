//! Lists directories ahead of the walk.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use xvault_core::entry::display_name;
use xvault_core::{EntryPath, WarningCode};

use super::order::{Place, Standing};
use super::requests::{Purpose, Requests};
use super::scope::{Scope, remote_path};
use crate::Error;
use crate::source::bad_names::BadNames;
use crate::ssh::sftp::{Attrs, FileType, Name, Reply, Request, Status, StatusCode};

/// Directories that are being listed at once.
const MAX_ACTIVE: usize = 64;

/// Memory of listings that the walk has not reached yet, beyond which only the one it waits for goes on.
const ENOUGH_AHEAD: usize = 4 << 20;

/// Memory of all listings together: those being read, those read, and those of the directories
/// from a configured path down to where the walk is. What lists more is taken for an endless
/// listing. It is room for some 600,000 files of one directory.
const MAX_HELD: usize = 64 << 20;

/// What the allocator adds to a name, about.
const ALLOCATION: usize = 16;

/// READDIRs in flight for one directory: the second mostly brings the end. One more for every
/// hundred entries, which is what OpenSSH gives at once, so that large directories take few round trips.
const MIN_READS: usize = 2;
const MAX_READS: usize = 32;
const ENTRIES_PER_READ: usize = 100;

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
    /// Its entries in order, what is wrong with others, and what both weigh.
    Listed { children: Vec<Child>, bad_names: BadNames, weight: usize },
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
    bad_names: BadNames,
    /// Bytes of memory for every name that came, kept or not, so that no name comes for nothing.
    weight: usize,
}

/// The directories that are wanted, being listed, and listed.
#[derive(Default)]
pub(super) struct Listings {
    wanted: BTreeMap<Place, Dir>,
    active: HashMap<u64, Active>,
    done: BTreeMap<Place, Outcome>,
    next: u64,
    /// Weight of what is being listed and listed, and of what the walk took and has not given back.
    ahead: usize,
    taken: usize,
    /// How many listings came to their end.
    pub(super) finished: u64,
}

impl Listings {
    /// Lists `dir` when its turn comes.
    pub(super) fn want(&mut self, dir: Dir) {
        self.wanted.insert(dir.place(), dir);
    }

    /// Hands a listing over, if it is at its end. Its weight counts until it is given back.
    pub(super) fn take(&mut self, place: &Place) -> Option<Outcome> {
        let outcome = self.done.remove(place)?;
        if let Outcome::Listed { weight, .. } = &outcome {
            self.ahead -= weight;
            self.taken += weight;
        }
        Some(outcome)
    }

    /// The walk is through with a listing of this weight.
    pub(super) fn give_back(&mut self, weight: usize) {
        self.taken -= weight;
    }

    /// Begins listings in the order of the walk and goes on with them; with that of `needed`,
    /// which the walk waits for, at once.
    pub(super) fn start(&mut self, requests: &mut Requests, needed: Option<&Place>) {
        self.begin(requests, needed);
        let has_room = self.ahead < ENOUGH_AHEAD;
        for (number, active) in &mut self.active {
            if has_room || needed.is_some_and(|needed| *needed == active.dir.place()) {
                active.read_ahead(*number, requests);
            }
        }
    }

    fn begin(&mut self, requests: &mut Requests, needed: Option<&Place>) {
        while let Some((place, _)) = self.wanted.first_key_value() {
            let may_wait = needed != Some(place);
            let busy =
                self.active.len() >= MAX_ACTIVE || self.ahead >= ENOUGH_AHEAD || !requests.has_free_handle();
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
                bad_names: BadNames::default(),
                weight: 0,
            };
            self.active.insert(self.next, active);
        }
    }

    /// The connection is gone: what was being listed is wanted again.
    pub(super) fn restart(&mut self) {
        for (_, active) in self.active.drain() {
            self.ahead -= active.weight;
            self.wanted.insert(active.dir.place(), active.dir);
        }
    }

    pub(super) fn opened(&mut self, number: u64, reply: Reply, requests: &mut Requests) -> Result<(), Error> {
        let Some(active) = self.active.get_mut(&number) else { return Ok(()) };
        match reply {
            Reply::Handle(handle) => {
                active.handle = Some(handle);
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
                self.ahead += active.add(number, names, requests);
                if self.ahead + self.taken > MAX_HELD {
                    let shown = active.shown();
                    let detail =
                        format!("with {shown} its listings take more than {MAX_HELD} bytes of memory");
                    return Err(requests.protocol(detail));
                }
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
        let (place, weight) = (active.dir.place(), active.weight);
        let (mut children, mut bad_names) = (active.children, active.bad_names);
        children.shrink_to_fit();
        bad_names.sort(&mut children, |child| &child.name);
        self.finished += 1;
        self.want_children(&active.dir, &children, scope);
        self.done.insert(place, Outcome::Listed { children, bad_names, weight });
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

    /// Returns what they weigh.
    fn add(&mut self, number: u64, names: Vec<Name>, requests: &mut Requests) -> usize {
        let before = self.weight;
        for Name { name, attrs } in names {
            self.weight += self.weight_of(&name, &attrs);
            match self.dir.child(&name) {
                _ if matches!(&name[..], b"." | b"..") => {}
                Err(error) => self.bad_names.add(|| error.to_string()),
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
        self.weight - before
    }

    /// A directory's path stands twice among those that are wanted, and a name without a type is asked for by its path.
    fn weight_of(&self, name: &[u8], attrs: &Attrs) -> usize {
        let entry = size_of::<Child>() + ALLOCATION + name.len();
        let path = self.dir.path.as_ref().map_or(0, |path| path.as_bytes().len()) + 1 + name.len();
        match attrs.file_type() {
            Some(FileType::Directory) => entry + 2 * (path + ALLOCATION) + size_of::<(Place, Dir)>(),
            None => entry + path + ALLOCATION + size_of::<(u32, Purpose)>(),
            Some(_) => entry,
        }
    }

    fn shown(&self) -> String {
        format!("`{}`", display_name(&remote_path(self.dir.path.as_ref())))
    }
}

/// What a refused request means for the thing it was about.
pub(super) fn refusal(status: &Status, what: &str) -> (WarningCode, String) {
    match status.code {
        StatusCode::NoSuchFile => (WarningCode::Vanished, "is gone since its directory was listed".into()),
        StatusCode::PermissionDenied => (WarningCode::Unreadable, format!("{what}: permission denied")),
        _ => (WarningCode::Unreadable, format!("{what}: {}", status.message)),
    }
}
