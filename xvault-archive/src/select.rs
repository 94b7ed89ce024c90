//! Choosing a part of a snapshot, so that hard links stay whole.

use std::collections::HashMap;
use std::io::{Read, Seek};

use xvault_core::{Entry, EntryKind, EntryPath};

use crate::error::Error;
use crate::listing::{ArchiveEntry, ArchiveIndex};

/// What to take out of a snapshot, and how links that lead out of the selection are kept.
///
/// A hard link whose file is not selected takes its content along: the first such link becomes the
/// file, later ones become links to it. Memory grows with the number of such links only.
pub(crate) struct Selection {
    paths: Vec<EntryPath>,
    /// By the path of the file that was not selected.
    promoted: HashMap<EntryPath, Promoted>,
}

struct Promoted {
    first_link: EntryPath,
    file: Option<ArchiveEntry>,
}

/// One entry to be taken out.
#[derive(Clone)]
pub(crate) struct Selected {
    /// What it becomes.
    pub(crate) shown: Entry,
    /// Where its content is; for files only.
    pub(crate) content: Option<ArchiveEntry>,
    /// Where the header of an entry without content is. Only where everything is taken, so that whoever looks at it reads no
    /// frame that is not needed anyway.
    pub(crate) bare: Option<ArchiveEntry>,
}

impl Selection {
    /// Goes through the index once, twice when links lead out of the selection. No paths: everything.
    ///
    /// # Errors
    /// [`Error::NotFound`] when a path selects nothing.
    pub(crate) fn new<I: Read + Seek>(
        paths: &[EntryPath],
        index: &mut ArchiveIndex<I>,
    ) -> Result<Self, Error> {
        let mut selection = Self { paths: paths.to_vec(), promoted: HashMap::new() };
        if paths.is_empty() {
            return Ok(selection);
        }
        selection.find_paths_and_links(index)?;
        if !selection.promoted.is_empty() {
            selection.find_promoted(index)?;
        }
        Ok(selection)
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.paths.is_empty()
    }

    fn takes(&self, path: &EntryPath) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|wanted| path.is_within(wanted))
    }

    fn find_paths_and_links<I: Read + Seek>(&mut self, index: &mut ArchiveIndex<I>) -> Result<(), Error> {
        let mut found = vec![false; self.paths.len()];
        for entry in index.entries()? {
            let entry = entry?.entry;
            for (found, wanted) in found.iter_mut().zip(&self.paths) {
                *found |= entry.path.is_within(wanted);
            }
            if let EntryKind::Hardlink { target } = entry.kind
                && self.takes(&entry.path)
                && !self.takes(&target)
            {
                self.promoted.entry(target).or_insert(Promoted { first_link: entry.path, file: None });
            }
        }
        match self.paths.iter().zip(found).find(|(_, found)| !found) {
            Some((path, _)) => Err(Error::NotFound { path: path.clone() }),
            None => Ok(()),
        }
    }

    fn find_promoted<I: Read + Seek>(&mut self, index: &mut ArchiveIndex<I>) -> Result<(), Error> {
        for entry in index.entries()? {
            let entry = entry?;
            if let Some(promoted) = self.promoted.get_mut(&entry.entry.path)
                && matches!(entry.entry.kind, EntryKind::File { .. })
            {
                promoted.file = Some(entry);
            }
        }
        Ok(())
    }

    /// What becomes of `entry`; `None` when it is not selected.
    pub(crate) fn resolve(&self, entry: ArchiveEntry) -> Result<Option<Selected>, Error> {
        if !self.takes(&entry.entry.path) {
            return Ok(None);
        }
        let shown = entry.entry.clone();
        Ok(Some(match &shown.kind {
            EntryKind::File { .. } | EntryKind::Stream => {
                Selected { shown, content: Some(entry), bare: None }
            }
            EntryKind::Hardlink { target } if !self.takes(target) => self.promote(&entry, target)?,
            _ => Selected { shown, content: None, bare: self.is_everything().then_some(entry) },
        }))
    }

    fn promote(&self, link: &ArchiveEntry, target: &EntryPath) -> Result<Selected, Error> {
        let missing = || Error::Hostile {
            path: link.entry.path.to_string(),
            reason: "is a hard link to an entry that does not exist",
        };
        let promoted = self.promoted.get(target).ok_or_else(missing)?;
        let file = promoted.file.as_ref().filter(|file| file.offset < link.offset).ok_or_else(missing)?;
        let mut shown = link.entry.clone();
        if promoted.first_link != shown.path {
            shown.kind = EntryKind::Hardlink { target: promoted.first_link.clone() };
            return Ok(Selected { shown, content: None, bare: None });
        }
        shown.kind = file.entry.kind.clone();
        shown.metadata = file.entry.metadata.clone();
        Ok(Selected { shown, content: Some(file.clone()), bare: None })
    }
}
