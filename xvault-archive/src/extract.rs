//! Writing a snapshot, or a part of it, to a directory, so that nothing outside it is ever touched.

mod late;
mod litter;
mod place;
mod target;

use std::io::{Read, Seek};
use std::path::Path;

use xvault_core::{Entry, EntryKind, EntryPath, Overwrite, Phase};

use crate::error::Error;
use crate::listing::{ArchiveEntry, ArchiveIndex};
use crate::reader::{ArchiveReader, Bodies};
use crate::seen::PathSet;
use crate::select::{Selected, Selection};
use crate::watch::Watch;
use late::LateLinks;
use place::{Ownership, Placed, Placing};
use target::{Target, is_unfinished};

/// How to extract.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// What to extract: these entries and all below them. None: everything.
    pub paths: Vec<EntryPath>,
    /// What happens to what exists.
    ///
    /// With [`Overwrite::Never`] a hard link to a file that was kept becomes a link to it only when that file is the one
    /// of the snapshot: same size, time, mode and content hash. Otherwise it becomes a file of its own, so that it has
    /// the snapshot's content.
    pub overwrite: Overwrite,
    /// Whether owner and group are restored, by number. Without it set-id bits are dropped.
    pub owner: bool,
    /// Progress and cancellation.
    pub watch: Watch,
}

impl Default for ExtractOptions {
    /// Everything, overwriting nothing, owners only when we are root.
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            overwrite: Overwrite::Never,
            owner: rustix::process::geteuid().is_root(),
            watch: Watch::default(),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractStats {
    /// Files written, hard links that became files of their own included.
    pub files: u64,
    /// Directories created or merged.
    pub directories: u64,
    /// Symbolic links made.
    pub symlinks: u64,
    /// Hard links made.
    pub hardlinks: u64,
    /// Content written, in bytes.
    pub bytes: u64,
    /// Files and links that existed, or had not changed, and were left alone.
    pub kept: u64,
}

/// Extracts into `target_dir`, which is made when it is missing.
///
/// Each entry is reached from the target's file descriptor, component by component, following no symbolic
/// link; a file has a temporary name (`.xvault-…`) until its content hash was checked. Symbolic links are made as
/// they are, wherever they point. Directories get their owner, time and mode at the end; until then they have mode 1700.
/// Only the frames that hold selected entries are read.
///
/// A run that was cancelled, killed or failed for a reason outside the archive is completed by running it again: whole
/// files are there, unfinished directories are known by their mode and get their metadata, and temporary files of
/// processes that no longer run are removed from every directory that is entered. Process ids are those of this
/// machine: two machines must not extract into one shared directory at the same time.
///
/// Memory: as [`ArchiveReader`], and 9 to 18 bytes for each entry, each directory and each kept file.
///
/// # Errors
/// The first thing that is wrong stops it: a damaged or hostile archive, something in the way
/// ([`Error::Obstructed`]), a path that selects nothing, a full disk. What was extracted before stays, and is
/// whole; of a bad archive also its directories.
pub fn extract<A: Read + Seek, I: Read + Seek>(
    reader: &mut ArchiveReader<A, I>,
    target_dir: &Path,
    options: &ExtractOptions,
) -> Result<ExtractStats, Error> {
    let (index, mut bodies) = reader.split()?;
    let selection = Selection::new(&options.paths, index)?;
    bodies.frames.expect_all(selection.is_everything());
    let total = selection.is_everything().then_some(bodies.totals.content.bytes);
    options.watch.progress.phase(Phase::Restore, total);
    let mut extraction = Extraction::new(Target::open(target_dir)?, options);
    match extraction.entries(&selection, index, &mut bodies) {
        Err(error) if another_run_may_go_on(&error) => Err(error),
        extracted => {
            let finished = extraction.finish(index);
            extracted.and(finished)
        }
    }
}

/// Whether directories stay unfinished, so that another run finds them and gives them their metadata in the end.
fn another_run_may_go_on(error: &Error) -> bool {
    matches!(error, Error::Cancelled | Error::Io { .. } | Error::Target { .. } | Error::Obstructed { .. })
}

struct Extraction<'a> {
    target: Target,
    options: &'a ExtractOptions,
    ownership: Ownership,
    stats: ExtractStats,
    /// What was met so far; hard links may lead to its files only.
    seen: PathSet,
    /// Files that stood there before and may be others than the snapshot's.
    kept: PathSet,
    /// Hard links to those.
    late: LateLinks,
    /// The directories that get their metadata at the end.
    directories: PathSet,
    /// Directories that nobody may enter: done last of all, so that they don't lock us out.
    closed: Vec<ArchiveEntry>,
}

impl<'a> Extraction<'a> {
    fn new(target: Target, options: &'a ExtractOptions) -> Self {
        Self {
            target,
            options,
            ownership: Ownership { restore: options.owner },
            stats: ExtractStats::default(),
            seen: PathSet::default(),
            kept: PathSet::default(),
            late: LateLinks::default(),
            directories: PathSet::default(),
            closed: Vec::new(),
        }
    }

    /// Everything but the metadata of directories.
    fn entries<A: Read + Seek, I: Read + Seek>(
        &mut self,
        selection: &Selection,
        index: &mut ArchiveIndex<I>,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        for entry in index.entries()? {
            self.options.watch.check()?;
            if let Some(selected) = selection.resolve(entry?)? {
                self.entry(selected, bodies)?;
            }
        }
        if self.late.is_empty() {
            return Ok(());
        }
        for entry in index.entries()? {
            self.options.watch.check()?;
            if let Some(selected) = selection.resolve(entry?)? {
                self.late_links(&selected, bodies)?;
            }
        }
        Ok(())
    }

    fn entry<A: Read + Seek>(&mut self, selected: Selected, bodies: &mut Bodies<'_, A>) -> Result<(), Error> {
        let Selected { shown, content, .. } = selected;
        self.options.watch.progress.entry(&shown.path);
        if !self.seen.insert(&shown.path, content.is_some()) {
            return Err(Error::Hostile { path: shown.path.to_string(), reason: "appears twice" });
        }
        let options = self.options;
        let mut place = self.placing();
        let placed = match (&shown.kind, content) {
            (_, Some(content)) => place.file(&shown, &mut bodies.open(content), &options.watch)?,
            (EntryKind::Directory, None) => return self.directory(&shown),
            (EntryKind::Symlink { target }, None) => place.symlink(&shown, target)?,
            (EntryKind::Hardlink { target }, None) => {
                if !self.seen.contains_file(target) {
                    let reason = "is a hard link to something that is no earlier file";
                    return Err(Error::Hostile { path: shown.path.to_string(), reason });
                }
                let target = target.clone();
                match self.hardlink(&shown, &target)? {
                    Some(placed) => placed,
                    None => return Ok(()),
                }
            }
            // A file without content can't come out of a selection.
            (EntryKind::File { .. } | EntryKind::Stream, None) => return Err(Error::Failed),
        };
        if placed == Placed::Kept && self.options.overwrite == Overwrite::Never {
            self.kept.insert(&shown.path, true);
        }
        self.count(&shown.kind, placed);
        Ok(())
    }

    fn placing(&mut self) -> Placing<'_> {
        Placing { target: &mut self.target, overwrite: self.options.overwrite, owner: self.ownership }
    }

    /// `None`: it has to wait, as what it leads to may not be the snapshot's file.
    fn hardlink(&mut self, link: &Entry, target: &EntryPath) -> Result<Option<Placed>, Error> {
        if !self.kept.contains(target) {
            return self.placing().hardlink(&link.path, target).map(Some);
        }
        if self.placing().exists(&link.path)? {
            return Ok(Some(Placed::Kept));
        }
        self.late.push(target, &link.path);
        Ok(None)
    }

    /// Makes the links that waited for this file: to it, or to the first of them, which gets its content.
    fn late_links<A: Read + Seek>(
        &mut self,
        file: &Selected,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        let Selected { shown, content: Some(content), .. } = file else { return Ok(()) };
        let links = self.late.take(&shown.path);
        if links.is_empty() {
            return Ok(());
        }
        let Self { options: ExtractOptions { watch, .. }, .. } = *self;
        let whole = self.placing().is_whole(shown, content, watch)?;
        let mut source = whole.then(|| shown.path.clone());
        for link in links {
            watch.check()?;
            let kind = match &source {
                Some(source) => EntryKind::Hardlink { target: source.clone() },
                None => shown.kind.clone(),
            };
            let placed = match &source {
                Some(source) => self.placing().hardlink(&link, source)?,
                None => self.copy(&Entry { path: link.clone(), ..shown.clone() }, content, bodies)?,
            };
            self.count(&kind, placed);
            source = source.or_else(|| (placed != Placed::Kept).then_some(link));
        }
        Ok(())
    }

    /// Writes a file whose bytes were told of before.
    fn copy<A: Read + Seek>(
        &mut self,
        shown: &Entry,
        content: &ArchiveEntry,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<Placed, Error> {
        let watch = Watch { cancel: self.options.watch.cancel.clone(), ..Watch::default() };
        self.placing().file(shown, &mut bodies.open(content.clone()), &watch)
    }

    fn directory(&mut self, shown: &Entry) -> Result<(), Error> {
        let (path, metadata) = (&shown.path, &shown.metadata);
        let gets_metadata = match self.target.make_directory(path)? {
            Some(found) if self.options.overwrite == Overwrite::Never => {
                // When it is as it should be it stays so, whatever we put into it.
                is_unfinished(&found, metadata.uid) || self.ownership.is_restored(&found, metadata)
            }
            _ => true,
        };
        if gets_metadata {
            self.directories.insert(path, false);
        }
        self.stats.directories += 1;
        Ok(())
    }

    fn count(&mut self, kind: &EntryKind, placed: Placed) {
        match (placed, kind) {
            (Placed::Kept, _) => self.stats.kept += 1,
            (Placed::Written { bytes }, EntryKind::File { .. } | EntryKind::Stream) => {
                self.stats.files += 1;
                self.stats.bytes += bytes;
            }
            (Placed::Written { .. }, EntryKind::Symlink { .. }) => self.stats.symlinks += 1,
            (Placed::Written { .. }, EntryKind::Hardlink { .. }) => self.stats.hardlinks += 1,
            (Placed::Written { .. }, EntryKind::Directory) => self.stats.directories += 1,
        }
    }

    fn finish_directory(&mut self, entry: &ArchiveEntry) -> Result<(), Error> {
        let Entry { path, metadata, .. } = &entry.entry;
        if entry.entry.kind != EntryKind::Directory || !self.directories.contains(path) {
            return Ok(());
        }
        // Root enters everything; for others the owner's search bit decides.
        if metadata.mode & 0o100 == 0 && !rustix::process::geteuid().is_root() {
            self.closed.push(entry.clone());
            return Ok(());
        }
        self.apply(entry)
    }

    fn apply(&mut self, entry: &ArchiveEntry) -> Result<(), Error> {
        let directory = self.target.open_directory(&entry.entry.path)?;
        self.ownership.apply(&directory, &entry.entry)
    }

    fn finish<I: Read + Seek>(mut self, index: &mut ArchiveIndex<I>) -> Result<ExtractStats, Error> {
        for entry in index.entries()? {
            self.options.watch.check()?;
            self.finish_directory(&entry?)?;
        }
        // Innermost first: index order has parents before children.
        while let Some(entry) = self.closed.pop() {
            self.apply(&entry)?;
        }
        Ok(self.stats)
    }
}
