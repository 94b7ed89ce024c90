//! The children of a directory.

use std::io::{Read, Seek};

use xvault_core::{EntryKind, EntryPath};

use super::skim::{Found, Skim};
use super::window::Window;
use super::{Item, Listed, Page, Range};
use crate::error::{ArchiveFile, Error};
use crate::listing::{ArchiveEntry, ArchiveIndex};

/// The children of `directory`, or of the root: each once, also those that have no entry of their own. One pass over the index.
///
/// # Errors
/// When the index is damaged or truncated.
pub fn list<I: Read + Seek>(
    index: &mut ArchiveIndex<I>,
    directory: Option<&EntryPath>,
    range: &Range,
) -> Result<Listed, Error> {
    let mut listing = Listing::new(directory, range);
    let mut skim = Skim::<&mut I>::of(index)?;
    while let Some(found) = skim.next()? {
        listing.see(&found)?;
    }
    listing.finish()
}

struct Listing<'d> {
    directory: Option<&'d EntryPath>,
    /// Children by their names.
    window: Window<Option<ArchiveEntry>>,
    /// The directory is there, or something below it.
    is_there: bool,
    /// Something of its path is there that is no directory.
    in_the_way: bool,
    /// The last child below which something was seen: what follows in a tree mostly lies there, too.
    last: Vec<u8>,
}

impl<'d> Listing<'d> {
    fn new(directory: Option<&'d EntryPath>, range: &Range) -> Self {
        let window = Window::new(range);
        Self { directory, window, is_there: directory.is_none(), in_the_way: false, last: Vec::new() }
    }

    fn see(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let Some(below) = below(self.directory, found.path()) else { return Ok(()) };
        if below.is_empty() {
            return self.see_itself(found);
        }
        self.is_there = true;
        let name = below.split(|byte| *byte == b'/').next().unwrap_or_default();
        if name.len() < below.len() {
            self.see_implied(name);
            return Ok(());
        }
        if self.window.wants(name) && !matches!(self.window.get(name), Some(Some(_))) {
            let entry = found.entry()?;
            let bytes = super::cost(&entry);
            self.window.put(name, Some(entry), bytes);
        }
        Ok(())
    }

    fn see_itself(&mut self, found: &Found<'_>) -> Result<(), Error> {
        match found.entry()?.entry.kind {
            EntryKind::Directory => self.is_there = true,
            _ => self.in_the_way = true,
        }
        Ok(())
    }

    /// Something lies below the child of this name: it is a directory.
    fn see_implied(&mut self, name: &[u8]) {
        if name == self.last {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(name);
        if self.window.wants(name) && self.window.get(name).is_none() {
            self.window.put(name, None, super::ITEM_BYTES);
        }
    }

    fn finish(self) -> Result<Listed, Error> {
        match (self.is_there, self.in_the_way) {
            (true, _) => {}
            (false, true) => return Ok(Listed::NotADirectory),
            (false, false) => return Ok(Listed::Absent),
        }
        let Page { items, next } = self.window.finish(|name, entry| Some((name, entry)));
        let directory = self.directory;
        let items = items.into_iter().map(|(name, entry)| item(directory, &name, entry));
        Ok(Listed::Page(Page { items: items.collect::<Result<_, _>>()?, next }))
    }
}

fn item(directory: Option<&EntryPath>, name: &[u8], entry: Option<ArchiveEntry>) -> Result<Item, Error> {
    let path = match (&entry, directory) {
        (Some(entry), _) => Ok(entry.entry.path.clone()),
        (None, Some(directory)) => directory.join(name),
        (None, None) => EntryPath::new(name),
    };
    let path = path.map_err(|error| Error::damaged(ArchiveFile::Index, error.to_string()))?;
    Ok(Item { path, entry })
}

/// What is left of a path below a directory; empty for the directory itself.
pub(super) fn below<'p>(directory: Option<&EntryPath>, path: &'p [u8]) -> Option<&'p [u8]> {
    let Some(directory) = directory else { return Some(path) };
    let rest = path.strip_prefix(directory.as_bytes())?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}
