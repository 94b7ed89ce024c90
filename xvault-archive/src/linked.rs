//! The files that hard links lead to, for whatever has no hard links or may not make them.

use std::collections::HashMap;
use std::io::{Read, Seek};

use xvault_core::{EntryKind, EntryPath};

use crate::error::Error;
use crate::listing::ArchiveIndex;
use crate::seen::PathSet;
use crate::select::{Selected, Selection};

/// Remembers what links will need, and nothing else.
#[derive(Default)]
pub(crate) struct LinkedFiles {
    wanted: PathSet,
    /// By the name that links use.
    files: HashMap<EntryPath, Selected>,
}

impl LinkedFiles {
    /// Goes through the index once.
    pub(crate) fn find<I: Read + Seek>(
        selection: &Selection,
        index: &mut ArchiveIndex<I>,
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        for entry in index.entries()? {
            let Some(selected) = selection.resolve(entry?)? else { continue };
            if let EntryKind::Hardlink { target } = &selected.shown.kind {
                found.wanted.insert(target, true);
            }
        }
        Ok(found)
    }

    /// Gives a link the content and metadata of its file; everything else stays as it is.
    pub(crate) fn resolve(&mut self, selected: Selected) -> Result<Selected, Error> {
        let Selected { shown, content, .. } = &selected;
        if let EntryKind::Hardlink { target } = &shown.kind {
            let file = self.files.get(target).ok_or_else(|| Error::Hostile {
                path: shown.path.to_string(),
                reason: "is a hard link to something that is no earlier file",
            })?;
            let mut copy = file.clone();
            copy.shown.path = shown.path.clone();
            return Ok(copy);
        }
        if content.is_some() && self.wanted.contains(&shown.path) {
            self.files.insert(shown.path.clone(), selected.clone());
        }
        Ok(selected)
    }
}
