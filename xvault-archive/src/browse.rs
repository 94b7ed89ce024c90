//! Looking through a snapshot by its index alone: a directory, a search by name, what changed between two snapshots.
//!
//! An index is in the order of the tar stream, which is no order of names. So every page is one pass over the index (of a
//! difference: two or three), in which the first entries by name from the page's beginning on are kept: memory is that of a
//! page, and the order of pages is that of names, byte by byte, whatever the source did. Lines that are not asked for are passed
//! over once their path is known; what is given out was read and checked.
//!
//! ```
//! use std::io::Cursor;
//! use xvault_archive::browse::{self, Listed, Range};
//! # use xvault_archive::{ArchiveIndex, ArchiveWriter, WriterOptions};
//! # use xvault_core::snapshot::SnapshotKey;
//! # use xvault_core::{Entry, EntryKind, EntryPath, Identity, Metadata, SnapshotId, SourceId};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let identity = Identity::generate();
//! # let (tenant_id, source_id) = ("local".parse()?, SourceId::derive("local:/srv"));
//! # let key = SnapshotKey { tenant_id, source_id, snapshot_id: SnapshotId::generate() };
//! # let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), WriterOptions::new(key, vec![identity.recipient()]))?;
//! # let path = EntryPath::new("srv/www")?;
//! # writer.begin(&Entry { path, kind: EntryKind::Directory, metadata: Metadata::default() })?;
//! # let stored = writer.finish()?.index;
//! let mut index = ArchiveIndex::open(Cursor::new(stored), &[identity])?;
//! let Listed::Page(page) = browse::list(&mut index, None, &Range::first(100))? else { panic!("the root is there") };
//! assert_eq!(page.items[0].path.as_bytes(), b"srv");
//! assert!(page.items[0].entry.is_none(), "only what lies in it has an entry of its own");
//! assert_eq!(page.next, None);
//! # Ok(())
//! # }
//! ```

mod diff;
mod list;
mod pattern;
mod search;
mod skim;
mod table;
mod window;

use xvault_core::{EntryKind, EntryPath};

use crate::ArchiveEntry;

pub use diff::{Change, diff};
pub use list::list;
pub use pattern::Pattern;
pub use search::search;

/// The most items in a page, whatever is asked for.
pub const MAX_ITEMS: usize = 1000;

/// About how many bytes of names, links and metadata a page holds at most; at least one item in any case.
pub const MAX_PAGE_BYTES: usize = 512 << 10;

/// Which part of all results a page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Where it begins: [`Page::next`] of the page before, or empty.
    pub from: Vec<u8>,
    /// How many items at most; more than [`MAX_ITEMS`] are not given.
    pub limit: usize,
}

impl Range {
    /// The first page.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { from: Vec::new(), limit }
    }
}

/// Some of the results, in the order of their paths' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// They; there may be fewer than asked for, and in rare cases none, although more follow.
    pub items: Vec<T>,
    /// Where the next page begins; none after the last.
    pub next: Option<Vec<u8>>,
}

/// What lies in a directory, or was found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where.
    pub path: EntryPath,
    /// What; absent for a directory that has no entry of its own and is known by what lies below it.
    pub entry: Option<ArchiveEntry>,
}

/// What came of listing a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// Some of its children.
    Page(Page<Item>),
    /// The snapshot has no such path.
    Absent,
    /// It is a file or a link.
    NotADirectory,
}

/// About what an item takes in a page besides names and links: in JSON, as pages travel.
const ITEM_BYTES: usize = 320;

/// About how many bytes an entry takes in a page, besides its name.
fn cost(entry: &ArchiveEntry) -> usize {
    ITEM_BYTES
        + match &entry.entry.kind {
            EntryKind::Symlink { target } => weight(target),
            EntryKind::Hardlink { target } => weight(target.as_bytes()),
            _ => 0,
        }
}

/// About how many bytes a name takes in JSON at most.
fn weight(name: &[u8]) -> usize {
    let byte = |byte: &u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' | 0x80.. => 2,
        _ => 1,
    };
    name.iter().map(byte).sum()
}
