//! Links below a site's content that lead outside of what is in the backup: seen while it is made.
//!
//! Where a link leads to depends on every link on its way, so the server is asked, about many at a time.

use std::collections::BTreeSet;

use xvault_core::EntryPath;
use xvault_core::entry::display_name;

use super::ask::{self, Found};
use super::paths::{is_of_system, is_within, leads_to};
use super::sites::Sites;
use crate::Error;
use crate::source::excludes::Excludes;
use crate::source::link::Link;

/// No more links than this are told one by one.
const MAX_TOLD: usize = 200;

/// The server is asked when what is known of links takes so many bytes.
const ROOM: usize = 512 << 10;

/// When it does not answer, links are kept to be asked about later, so many bytes of them.
const MAX_ROOM: usize = 8 << 20;

/// Bytes that a link takes beside its names.
const COST: usize = 128;

/// What is watched for, and what was seen.
pub(super) struct Watch {
    /// Document roots and folders beside them: as configured, and without links.
    roots: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is in the backup beside them, without links.
    elsewhere: Vec<Vec<u8>>,
    /// Directories of content, without links.
    content: BTreeSet<Vec<u8>>,
    /// Links that something was told of before.
    told: BTreeSet<Vec<u8>>,
    excludes: Excludes,
    /// Links that the server was not asked about yet, and how many bytes they take.
    pending: Vec<Seen>,
    taken: usize,
    room: usize,
    /// Links that lead outside, each with a sentence; and how many more.
    astray: Vec<(EntryPath, String)>,
    more: u64,
    /// The first link that could not be looked at, and how many.
    missed: Option<(EntryPath, u64)>,
}

/// A link, or what may be a second name of one.
struct Seen {
    entry: EntryPath,
    /// Without links in the directories above it.
    path: Vec<u8>,
    /// Where it leads to by its text, if that is outside of the backup.
    outside: Option<Vec<u8>>,
}

impl Watch {
    pub(super) fn of(sites: &Sites, excludes: Excludes) -> Self {
        let roots = sites.sites.iter().map(|site| (site.named.clone(), site.root.clone()));
        let folders: Vec<_> = sites.folders.iter().map(|it| (it.named.clone(), it.real.clone())).collect();
        let elsewhere: Vec<Vec<u8>> = sites.elsewhere().map(String::into_bytes).collect();
        let contents = || sites.sites.iter().map(|site| &site.content);
        let watched = contents().flat_map(|content| content.watched.iter().cloned());
        let named = folders.iter().map(|(_, real)| real.clone());
        Self {
            told: contents().flat_map(|content| content.told.iter().cloned()).collect(),
            content: watched.chain(named).chain(elsewhere.iter().cloned()).collect(),
            roots: roots.chain(folders).collect(),
            elsewhere,
            excludes,
            pending: Vec::new(),
            taken: 0,
            room: ROOM,
            astray: Vec::new(),
            more: 0,
            missed: None,
        }
    }

    /// A link at `entry` with this text; none: a second name of something, which may be a link.
    pub(super) fn see(&mut self, entry: &EntryPath, target: Option<&[u8]>) {
        let path = self.real(&[b"/", entry.as_bytes()].concat());
        let target = target.map(|target| leads_to(&path, target));
        let is_content = || above(&path).any(|folder| self.content.contains(folder));
        if !is_content() || self.told.contains(&path) || target.as_ref().is_some_and(|it| is_of_system(it)) {
            return;
        }
        let outside = target.filter(|target| !self.has(target));
        let seen = Seen { entry: entry.clone(), path, outside };
        if self.taken < MAX_ROOM {
            self.taken += seen.cost();
            self.pending.push(seen);
        } else {
            self.miss(seen);
        }
    }

    /// A path below a document root as configured, below its real one.
    fn real(&self, path: &[u8]) -> Vec<u8> {
        let below = self.roots.iter().find(|(named, _)| is_within(path, named));
        let real = below.and_then(|(named, real)| Some([real, path.get(named.len()..)?].concat()));
        real.unwrap_or_else(|| path.to_vec())
    }

    /// Whether that is in the backup.
    fn has(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|(named, real)| is_within(path, named) || is_within(path, real))
            || self.elsewhere.iter().any(|folder| is_within(path, folder))
    }

    /// Whether the server is to be asked before more is seen.
    pub(super) fn is_full(&self) -> bool {
        self.taken >= self.room
    }

    /// Asks the server about what was seen. What can't be asked is kept, and no reason to lose a backup.
    pub(super) async fn look(&mut self, link: &mut Link) {
        if self.pending.is_empty() {
            return;
        }
        let Ok(found) = self.ask(link).await else {
            self.room = self.room.saturating_mul(4);
            return;
        };
        (self.taken, self.room) = (0, ROOM);
        for (seen, found) in std::mem::take(&mut self.pending).into_iter().zip(found) {
            if let Some(end) = self.end_of(&seen, found) {
                self.tell(seen.entry, &end);
            }
        }
    }

    async fn ask(&self, link: &mut Link) -> Result<Vec<Found>, Error> {
        let paths: Vec<Vec<u8>> = self.pending.iter().map(|seen| seen.path.clone()).collect();
        let found = ask::found(&mut link.sftp().await?, &paths).await;
        // The connection would lie idle while the backup goes on.
        link.close().await;
        found
    }

    /// Where the link leads to, for people, if that is not in the backup.
    fn end_of(&self, seen: &Seen, found: Found) -> Option<String> {
        match found {
            Found::Special => None,
            // What is gone within the backup is lost to the site, too; what is outside may be away for a while.
            Found::Nothing => {
                let target = display_name(seen.outside.as_ref()?);
                Some(format!("`{target}`, where the account sees nothing"))
            }
            Found::Closed(said) => Some(format!("what the account can't look at ({said})")),
            Found::There { real, .. } if self.has(&real) => None,
            Found::There { is_directory: true, .. } if self.excludes(&seen.entry) => None,
            Found::There { real, .. } => Some(format!("`{}`", display_name(&real))),
        }
    }

    fn tell(&mut self, entry: EntryPath, end: &str) {
        if self.astray.len() < MAX_TOLD {
            let message = format!("a link that leads to {end}, which is not in the backup: {CURE}");
            self.astray.push((entry, message));
        } else {
            self.more += 1;
        }
    }

    fn miss(&mut self, seen: Seen) {
        match (seen.outside, &mut self.missed) {
            (Some(target), _) => {
                let end = format!("`{}`, as far as its text says", display_name(&target));
                self.tell(seen.entry, &end);
            }
            (None, Some((_, count))) => *count += 1,
            (None, none) => *none = Some((seen.entry, 1)),
        }
    }

    /// What is to be told of what was seen; what was not looked at by now is told as that.
    pub(super) fn warnings(mut self) -> Vec<(EntryPath, String)> {
        std::mem::take(&mut self.pending).into_iter().for_each(|seen| self.miss(seen));
        let last = self.astray.last().map(|(entry, _)| entry.clone());
        let more = last.filter(|_| self.more > 0).map(|entry| {
            let message = format!(
                "and {} more links in the content lead outside of what is in the backup, or seem to: {CURE}",
                self.more
            );
            (entry, message)
        });
        let missed = self.missed.map(|(entry, count)| {
            let message = format!(
                "of {count} links in the content, of which this is the first, the server could not be asked where they lead to: what \
                 they lead to may not be in the backup; {CURE}"
            );
            (entry, message)
        });
        self.astray.into_iter().chain(more).chain(missed).collect()
    }

    /// A link to a directory is left out by what leaves the directory out.
    fn excludes(&self, entry: &EntryPath) -> bool {
        let roots = self.roots.iter().map(|(named, _)| named).chain(&self.elsewhere);
        let mut roots = roots.filter_map(|root| EntryPath::from_source(root).ok());
        roots.any(|root| {
            root.as_ref().is_none_or(|root| entry.is_within(root))
                && self.excludes.excludes(root.as_ref(), entry, true)
        })
    }
}

impl Seen {
    fn cost(&self) -> usize {
        self.entry.as_bytes().len() + self.path.len() + self.outside.as_ref().map_or(0, Vec::len) + COST
    }
}

/// What helps whoever is told of a link.
const CURE: &str = "name what it leads to in `paths` beside the site, or exclude the link";

/// The directories that a path lies in.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let cuts = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(cut, _)| cut.max(1));
    cuts.filter_map(|cut| path.get(..cut))
}
