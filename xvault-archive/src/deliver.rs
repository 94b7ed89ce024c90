//! Handing the entries of a snapshot, or a part of it, to somebody else who restores them.

use std::io::{Read, Seek};

use bytes::Bytes;
use xvault_core::{Entry, EntryKind, EntryPath, Phase};

use crate::error::Error;
use crate::extract::ExtractStats;
use crate::linked::LinkedFiles;
use crate::listing::ArchiveIndex;
use crate::reader::{ArchiveReader, Bodies};
use crate::seen::PathSet;
use crate::select::{Selected, Selection};
use crate::watch::Watch;

/// How many entries are planned at once.
const BATCH: usize = 1024;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is taken.
    Yes,
    /// What stands there stays.
    No {
        /// Whether that is the entry itself, so that hard links may lead to it.
        same: bool,
    },
}

/// Who takes what is delivered. Its errors end the delivery as [`Error::Output`].
pub trait Recipient {
    /// Which of these entries are wanted; hard links come as the files they lead to.
    ///
    /// # Errors
    /// When nothing more is taken.
    fn plan(&mut self, entries: Vec<Entry>) -> std::io::Result<Vec<Wanted>>;

    /// An entry that is wanted; directories and links are complete with it.
    ///
    /// # Errors
    /// When nothing more is taken.
    fn begin(&mut self, entry: Entry) -> std::io::Result<()>;

    /// Content of a file.
    ///
    /// # Errors
    /// When nothing more is taken.
    fn data(&mut self, chunk: Bytes) -> std::io::Result<()>;

    /// The file is whole, and its content hash was right. A file without this call must not be kept.
    ///
    /// # Errors
    /// When nothing more is taken.
    fn end(&mut self) -> std::io::Result<()>;

    /// Directories that everything was put into by now.
    ///
    /// # Errors
    /// When nothing more is taken.
    fn directories(&mut self, entries: Vec<Entry>) -> std::io::Result<()>;
}

/// Delivers the entries at or below `paths` (none: all) in their order, planned in batches; at the end all directories once
/// more. With `hard_links` a link stays one where its file was taken or is the same; else it becomes a copy.
///
/// Memory: as [`ArchiveReader`], one batch of entries, 9 to 18 bytes for each entry and 300 for each file with hard links.
///
/// # Errors
/// A damaged or hostile archive, [`Error::NotFound`], or the recipient takes no more.
pub fn deliver<A: Read + Seek, I: Read + Seek>(
    reader: &mut ArchiveReader<A, I>,
    paths: &[EntryPath],
    hard_links: bool,
    recipient: &mut dyn Recipient,
    watch: &Watch,
) -> Result<ExtractStats, Error> {
    let (index, mut bodies) = reader.split()?;
    let selection = Selection::new(paths, index)?;
    bodies.frames.expect_all(selection.is_everything());
    let total = selection.is_everything().then_some(bodies.totals.content.bytes);
    watch.progress.phase(Phase::Restore, total);
    let links = LinkedFiles::find(&selection, index)?;
    let delivery = Delivery {
        recipient,
        watch,
        hard_links,
        links,
        seen: PathSet::default(),
        other: PathSet::default(),
        done: ExtractStats::default(),
    };
    delivery.run(&selection, index, &mut bodies)
}

struct Delivery<'a> {
    recipient: &'a mut dyn Recipient,
    watch: &'a Watch,
    hard_links: bool,
    links: LinkedFiles,
    seen: PathSet,
    /// Files that stood there and are others than the snapshot's.
    other: PathSet,
    done: ExtractStats,
}

/// An entry, and what it is without hard links.
struct Planned {
    shown: Entry,
    copy: Selected,
}

impl Delivery<'_> {
    fn run<A: Read + Seek, I: Read + Seek>(
        mut self,
        selection: &Selection,
        index: &mut ArchiveIndex<I>,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<ExtractStats, Error> {
        let mut batch = Vec::new();
        for entry in index.entries()? {
            self.watch.check()?;
            let Some(selected) = selection.resolve(entry?)? else { continue };
            let shown = selected.shown.clone();
            if !self.seen.insert(&shown.path, selected.content.is_some()) {
                return Err(Error::Hostile { path: shown.path.to_string(), reason: "appears twice" });
            }
            batch.push(Planned { shown, copy: self.links.resolve(selected)? });
            if batch.len() >= BATCH {
                self.batch(std::mem::take(&mut batch), bodies)?;
            }
        }
        self.batch(batch, bodies)?;
        self.finish_directories(selection, index)?;
        Ok(self.done)
    }

    fn batch<A: Read + Seek>(
        &mut self,
        batch: Vec<Planned>,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        let entries = batch.iter().map(|planned| planned.copy.shown.clone()).collect();
        let wanted = self.recipient.plan(entries).map_err(Error::Output)?;
        if wanted.len() != batch.len() {
            return Err(Error::Failed);
        }
        for (planned, wanted) in batch.into_iter().zip(wanted) {
            self.watch.check()?;
            self.watch.progress.entry(&planned.shown.path);
            match wanted {
                Wanted::Yes => self.entry(planned, bodies)?,
                Wanted::No { same } => self.keep(&planned, same),
            }
        }
        Ok(())
    }

    fn keep(&mut self, planned: &Planned, same: bool) {
        self.done.kept += 1;
        if !same {
            self.other.insert(&planned.shown.path, true);
        }
        if let Some(content) = &planned.copy.content
            && !matches!(planned.shown.kind, EntryKind::Hardlink { .. })
        {
            self.watch.progress.bytes(content.size());
        }
    }

    fn entry<A: Read + Seek>(&mut self, planned: Planned, bodies: &mut Bodies<'_, A>) -> Result<(), Error> {
        let Planned { shown, copy } = planned;
        let is_link = matches!(&shown.kind, EntryKind::Hardlink { target } if self.hard_links && !self.other.contains(target));
        if is_link {
            self.done.hardlinks += 1;
            return self.recipient.begin(shown).map_err(Error::Output);
        }
        let Some(content) = copy.content else {
            match shown.kind {
                EntryKind::Directory => self.done.directories += 1,
                _ => self.done.symlinks += 1,
            }
            return self.recipient.begin(shown).map_err(Error::Output);
        };
        let is_copy = matches!(shown.kind, EntryKind::Hardlink { .. });
        self.recipient.begin(copy.shown).map_err(Error::Output)?;
        let mut body = bodies.open(content);
        while let Some(chunk) = body.next_chunk()? {
            self.watch.check()?;
            self.done.bytes += chunk.len() as u64;
            let len = if is_copy { 0 } else { chunk.len() as u64 };
            self.recipient.data(chunk).map_err(Error::Output)?;
            self.watch.progress.bytes(len);
        }
        self.done.files += 1;
        self.recipient.end().map_err(Error::Output)
    }

    fn finish_directories<I: Read + Seek>(
        &mut self,
        selection: &Selection,
        index: &mut ArchiveIndex<I>,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        for entry in index.entries()? {
            self.watch.check()?;
            let Some(selected) = selection.resolve(entry?)? else { continue };
            if selected.shown.kind == EntryKind::Directory {
                batch.push(selected.shown);
            }
            if batch.len() >= BATCH {
                self.recipient.directories(std::mem::take(&mut batch)).map_err(Error::Output)?;
            }
        }
        self.recipient.directories(batch).map_err(Error::Output)
    }
}
