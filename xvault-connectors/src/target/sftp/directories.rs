//! Directories: made before what lies in them, never entered through a link, finished last.

use std::collections::{BTreeMap, HashMap, HashSet};

use xvault_core::{Entry, EntryKind, EntryPath, Overwrite};

use super::place::{Found, UNFINISHED, mode_and_time, owner};
use super::push::Push;
use crate::Error;
use crate::ssh::sftp::{Reply, Request, SetAttrs, StatusCode};

/// The mode of a directory that no entry speaks of; the server's umask narrows it.
const USUAL: u32 = 0o777;

impl Push {
    /// Makes the directories among `entries` and all on the way to them and to others, level by level.
    pub(super) async fn make_directories(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut told = HashMap::new();
        let mut levels: BTreeMap<usize, HashSet<EntryPath>> = BTreeMap::new();
        for entry in entries {
            let mut next = entry.path.parent();
            if entry.kind == EntryKind::Directory {
                told.insert(&entry.path, entry);
                next = Some(entry.path.clone());
            }
            while let Some(path) = next.filter(|path| !self.directories.contains(path)) {
                next = path.parent();
                if !levels.entry(path.components().count()).or_default().insert(path) {
                    break;
                }
            }
        }
        for level in levels.into_values() {
            let (own, others) = level.into_iter().partition(|path| told.contains_key(path));
            self.make_level(own, Some(&told)).await?;
            self.make_level(others, None).await?;
        }
        Ok(())
    }

    /// Makes directories whose parents are there. `told`: the entries that speak of them, where some do.
    async fn make_level(
        &mut self,
        paths: Vec<EntryPath>,
        told: Option<&HashMap<&EntryPath, &Entry>>,
    ) -> Result<(), Error> {
        let found = self.look_at(&paths.iter().collect::<Vec<_>>()).await?;
        let mut missing = Vec::new();
        for (path, found) in paths.into_iter().zip(found) {
            match found {
                Found::Nothing => missing.push(path),
                Found::Directory(_) => {
                    if told.and_then(|told| told.get(&path)).is_some_and(|entry| self.is_ours(found, entry)) {
                        self.unfinished.insert(path.clone());
                    }
                    self.directories.insert(path);
                }
                _ => {
                    let reason =
                        format!("{} is where a directory belongs; links are not followed", found.noun());
                    return Err(self.root.obstructed(&path, reason));
                }
            }
        }
        self.make_missing(missing, told.is_some()).await
    }

    /// Whether a directory that is there gets the snapshot's metadata at the end: one that has it keeps it, whatever we
    /// put into it.
    fn is_ours(&self, found: Found, entry: &Entry) -> bool {
        self.overwrite != Overwrite::Never
            || found.is_unfinished()
            || found.has_mode_and_time(mode_and_time(entry, self.owner))
    }

    async fn make_missing(&mut self, paths: Vec<EntryPath>, own: bool) -> Result<(), Error> {
        let mode = if own { UNFINISHED & 0o777 } else { USUAL };
        let places: Vec<_> = paths.iter().map(|path| self.root.place(path)).collect();
        let made = self.ask_all(places.iter().map(|place| Request::MkDir(place, mode))).await?;
        self.check_all("create", paths.iter(), &made)?;
        if own {
            // The mark that it is ours and not finished; MKDIR itself can't set it.
            let mark = SetAttrs::mode(UNFINISHED);
            let marked = self.ask_all(places.iter().map(|place| Request::SetStat(place, mark))).await?;
            self.check_all("set the mode of", paths.iter(), &marked)?;
        }
        for path in paths {
            if own {
                self.unfinished.insert(path.clone());
            }
            self.made.insert(path.clone());
            self.directories.insert(path);
        }
        Ok(())
    }

    /// That each was answered with success.
    pub(super) fn check_all<'p>(
        &self,
        op: &str,
        paths: impl Iterator<Item = &'p EntryPath>,
        replies: &[Reply],
    ) -> Result<(), Error> {
        for (path, reply) in paths.zip(replies) {
            match reply {
                Reply::Status(status) if status.code == StatusCode::Ok => {}
                Reply::Status(status) => return Err(self.root.failed(op, path, status)),
                _ => return Err(self.sftp.protocol(format!("another answer than {op} may have"))),
            }
        }
        Ok(())
    }

    /// Gives those of `entries` that are unfinished their metadata.
    pub(super) async fn finish_directories(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut open = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Directory) {
            if !self.unfinished.remove(&entry.path) {
                continue;
            }
            // One that its owner may not enter would lock us out of those in it.
            match entry.metadata.mode & 0o100 {
                0 => self.closed.push(entry.clone()),
                _ => open.push(entry),
            }
        }
        self.apply(&open).await
    }

    /// Those that nobody may enter, innermost first.
    pub(super) async fn finish_closed(&mut self) -> Result<(), Error> {
        while let Some(entry) = self.closed.pop() {
            self.apply(&[&entry]).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, entries: &[&Entry]) -> Result<(), Error> {
        let paths = || entries.iter().map(|entry| &entry.path);
        let places: Vec<_> = paths().map(|path| self.root.place(path)).collect();
        let requests = |attrs: fn(&Entry) -> SetAttrs| {
            places.iter().zip(entries).map(move |(place, entry)| Request::SetStat(place, attrs(entry)))
        };
        if self.owner {
            let replies = self.ask_all(requests(owner)).await?;
            self.check_all("set the owner of", paths(), &replies)?;
        }
        let attrs: fn(&Entry) -> SetAttrs =
            if self.owner { |entry| mode_and_time(entry, true) } else { |entry| mode_and_time(entry, false) };
        let replies = self.ask_all(requests(attrs)).await?;
        self.check_all("set the mode and time of", paths(), &replies)
    }
}
