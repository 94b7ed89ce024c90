//! The entries that are exported, and going through them.

use std::io::{Read, Seek};

use crate::error::Error;
use crate::listing::ArchiveIndex;
use crate::select::{Selected, Selection};
use crate::watch::Watch;

/// Some entries of a snapshot.
pub(super) struct Chosen<'a, I> {
    pub(super) index: &'a mut ArchiveIndex<I>,
    pub(super) selection: Selection,
    pub(super) watch: &'a Watch,
}

impl<I: Read + Seek> Chosen<'_, I> {
    /// Goes through the index once, in its order.
    pub(super) fn each(&mut self, mut visit: impl FnMut(Selected) -> Result<(), Error>) -> Result<(), Error> {
        for entry in self.index.entries()? {
            self.watch.check()?;
            if let Some(selected) = self.selection.resolve(entry?)? {
                visit(selected)?;
            }
        }
        Ok(())
    }
}
