//! What changed from one snapshot to another.

use std::io::{Read, Seek};

use xvault_core::EntryPath;

use super::list::below;
use super::skim::{Found, Skim};
use super::table::{MAX_ENTRIES, Share, State, Table};
use super::window::Window;
use super::{Page, Range};
use crate::error::Error;
use crate::listing::{ArchiveEntry, ArchiveIndex};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second snapshot has it.
    Added(Box<ArchiveEntry>),
    /// Only the first one has it.
    Removed(Box<ArchiveEntry>),
    /// Kind, size, content, mode, owner, time or link target differ.
    Changed {
        /// In the first snapshot.
        before: Box<ArchiveEntry>,
        /// In the second one.
        after: Box<ArchiveEntry>,
    },
}

impl Change {
    /// What it is about.
    #[must_use]
    pub fn path(&self) -> &EntryPath {
        match self {
            Self::Added(entry) | Self::Removed(entry) | Self::Changed { after: entry, .. } => {
                &entry.entry.path
            }
        }
    }
}

/// What is different in `after`, below `directory` or everywhere.
///
/// Neither index is in the order of names, so the entries of `before` are held as hashes, 16 bytes each, at most four million
/// at a time: each such share takes two passes over `before` and one over `after`.
///
/// # Errors
/// When an index is damaged or truncated.
pub fn diff<A: Read + Seek, B: Read + Seek>(
    before: &mut ArchiveIndex<A>,
    after: &mut ArchiveIndex<B>,
    directory: Option<&EntryPath>,
    range: &Range,
) -> Result<Page<Change>, Error> {
    diff_within(before, after, directory, range, MAX_ENTRIES)
}

fn diff_within<A: Read + Seek, B: Read + Seek>(
    before: &mut ArchiveIndex<A>,
    after: &mut ArchiveIndex<B>,
    directory: Option<&EntryPath>,
    range: &Range,
    held: usize,
) -> Result<Page<Change>, Error> {
    let mut work = Diff { directory, window: Window::new(range), table: Table::new(), held };
    let mut shares = vec![Share::ALL];
    while let Some(share) = shares.pop() {
        let share = work.hold(before, share, &mut shares)?;
        work.compare(after, share)?;
        if work.table.has_differences() {
            work.complete(before, share)?;
        }
    }
    Ok(work.window.finish(|_, seen| seen.change()))
}

/// What is known of a path in the window.
enum Seen {
    Done(Change),
    /// In both, and different as it seems; the first one was not seen yet.
    After(Box<ArchiveEntry>),
}

impl Seen {
    fn change(self) -> Option<Change> {
        match self {
            Self::Done(change) => Some(change),
            Self::After(_) => None,
        }
    }
}

struct Diff<'d> {
    directory: Option<&'d EntryPath>,
    window: Window<Seen>,
    table: Table,
    held: usize,
}

impl Diff<'_> {
    /// Takes up the first snapshot's entries of this share. When they are too many it takes a smaller one, and leaves the rest
    /// to `shares`.
    fn hold<A: Read + Seek>(
        &mut self,
        before: &mut ArchiveIndex<A>,
        mut share: Share,
        shares: &mut Vec<Share>,
    ) -> Result<Share, Error> {
        self.table.clear();
        let mut skim = Skim::<&mut A>::of(before)?;
        while let Some(found) = skim.next()? {
            let place = self.table.place(found.path());
            if !share.holds(place) || !self.wants(&found) {
                continue;
            }
            self.table.push(place, &found)?;
            while self.table.is_fuller_than(self.held) {
                let (mine, other) = share.halves();
                shares.push(other);
                share = mine;
                self.table.keep(share);
            }
        }
        self.table.settle();
        Ok(share)
    }

    /// Goes through the second snapshot.
    fn compare<B: Read + Seek>(&mut self, after: &mut ArchiveIndex<B>, share: Share) -> Result<(), Error> {
        let mut skim = Skim::<&mut B>::of(after)?;
        while let Some(found) = skim.next()? {
            let place = self.table.place(found.path());
            if !share.holds(place) || !self.wants(&found) {
                continue;
            }
            match self.table.meet(place, &found)? {
                State::Alone => self.put(&found, |entry| Seen::Done(Change::Added(entry)))?,
                State::Different => self.put(&found, Seen::After)?,
                State::Same => {}
            }
        }
        Ok(())
    }

    /// Goes through the first snapshot again, for the entries that the second one has not, or has otherwise.
    fn complete<A: Read + Seek>(&mut self, before: &mut ArchiveIndex<A>, share: Share) -> Result<(), Error> {
        let mut skim = Skim::<&mut A>::of(before)?;
        while let Some(found) = skim.next()? {
            let place = self.table.place(found.path());
            if !share.holds(place) || !self.wants(&found) {
                continue;
            }
            match self.table.state(place) {
                State::Alone => self.put(&found, |entry| Seen::Done(Change::Removed(entry)))?,
                State::Different => self.pair(&found)?,
                State::Same => {}
            }
        }
        Ok(())
    }

    fn wants(&self, found: &Found<'_>) -> bool {
        below(self.directory, found.path()).is_some() && self.window.wants(found.path())
    }

    fn put(&mut self, found: &Found<'_>, seen: impl Fn(Box<ArchiveEntry>) -> Seen) -> Result<(), Error> {
        if self.window.get(found.path()).is_none() {
            let entry = found.entry()?;
            let bytes = super::cost(&entry);
            self.window.put(found.path(), seen(Box::new(entry)), bytes);
        }
        Ok(())
    }

    /// Completes a change with the first snapshot's entry, unless only the texts of the two lines differ.
    fn pair(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let Some(Seen::After(after)) = self.window.get(found.path()) else { return Ok(()) };
        let (before, after) = (Box::new(found.entry()?), after.clone());
        if is_same(&before, &after) {
            self.window.remove(found.path());
        } else {
            let bytes = super::cost(&before) + super::cost(&after);
            self.window.put(found.path(), Seen::Done(Change::Changed { before, after }), bytes);
        }
        Ok(())
    }
}

/// Whether two entries of one path are the same thing, wherever it lies.
fn is_same(before: &ArchiveEntry, after: &ArchiveEntry) -> bool {
    before.entry == after.entry && before.blake3 == after.blake3
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{ArchiveWriter, WriterOptions};
    use xvault_core::snapshot::SnapshotKey;
    use xvault_core::{Entry, EntryKind, Identity, Metadata, SnapshotId, SourceId, TenantId};

    fn index(names: impl Iterator<Item = u32>, mode: impl Fn(u32) -> u32) -> ArchiveIndex<Cursor<Vec<u8>>> {
        let identity = Identity::generate();
        let (tenant_id, source_id) = (TenantId::local(), SourceId::derive("x"));
        let key = SnapshotKey { tenant_id, source_id, snapshot_id: SnapshotId::generate() };
        let options = WriterOptions::new(key, vec![identity.recipient()]);
        let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), options).unwrap();
        for number in names {
            let path = EntryPath::new(format!("d{number:03}")).unwrap();
            let metadata = Metadata { mode: mode(number), ..Metadata::default() };
            writer.begin(&Entry { path, kind: EntryKind::Directory, metadata }).unwrap();
        }
        ArchiveIndex::open(Cursor::new(writer.finish().unwrap().index), &[identity]).unwrap()
    }

    #[test]
    fn snapshots_that_are_too_large_for_the_table_are_compared_in_shares() {
        let (mut before, mut after) = (index(0..200, |_| 0o755), index(50..260, |n| 0o700 + n % 3));
        for held in [7, 50, 1000] {
            let range = Range::first(1000);
            let page = diff_within(&mut before, &mut after, None, &range, held).unwrap();
            let count = |is: fn(&Change) -> bool| page.items.iter().filter(|change| is(change)).count();
            let counts = (
                count(|change| matches!(change, Change::Removed(_))),
                count(|change| matches!(change, Change::Changed { .. })),
                count(|change| matches!(change, Change::Added(_))),
            );
            assert_eq!(counts, (50, 150, 60), "{held} held");
        }
    }
}
