//! Entries by their names.

use std::io::{Read, Seek};

use xvault_core::EntryPath;

use super::list::below;
use super::skim::Skim;
use super::window::Window;
use super::{Item, Page, Pattern, Range};
use crate::error::Error;
use crate::listing::ArchiveIndex;

/// Entries below `directory`, or of the whole snapshot, whose names fit. One pass over the index. Directories without an
/// entry of their own are not found.
///
/// # Errors
/// When the index is damaged or truncated.
pub fn search<I: Read + Seek>(
    index: &mut ArchiveIndex<I>,
    directory: Option<&EntryPath>,
    pattern: &Pattern,
    range: &Range,
) -> Result<Page<Item>, Error> {
    let mut window = Window::new(range);
    let mut skim = Skim::<&mut I>::of(index)?;
    while let Some(found) = skim.next()? {
        let path = found.path();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if below(directory, path).is_none_or(<[u8]>::is_empty) || !pattern.fits(name) || !window.wants(path) {
            continue;
        }
        if window.get(path).is_none() {
            let entry = found.entry()?;
            let bytes = super::cost(&entry);
            window.put(path, entry, bytes);
        }
    }
    Ok(window.finish(|_, entry| Some(Item { path: entry.entry.path.clone(), entry: Some(entry) })))
}
