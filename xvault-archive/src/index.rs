//! The index: JSON Lines that say where everything is in the tar stream and in the zstd stream.
//!
//! `docs/format.md` is the norm. [`Record::parse`] reads one line from foreign bytes; [`IndexReader`]
//! reads a whole index as a stream and checks that its lines agree with each other.

mod check;
mod line;
mod lines;
mod reader;
mod writer;

use xvault_core::snapshot::{ContentSummary, SnapshotKey};
use xvault_core::{Entry, Warning};

pub(crate) use check::{TAR_END, TAR_END_LEN};
pub use line::LineError;
pub(crate) use lines::Lines;
pub use reader::IndexReader;
pub(crate) use reader::{no_end, parse, read_header};
pub(crate) use writer::{IndexSeal, IndexWriter};

/// The longest line that is read, in bytes.
pub const MAX_LINE_LEN: usize = 1 << 20;

/// The longest target of a symbolic link, in bytes; no system has longer ones.
pub const MAX_TARGET_LEN: usize = 64 << 10;

/// The largest frame that is read, in bytes of tar: what a reader must be ready to hold.
pub const MAX_FRAME_SIZE: u64 = 64 << 20;

/// One line of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The first line.
    Header(IndexHeader),
    /// A tar entry.
    Entry(IndexEntry),
    /// A zstd frame.
    Frame(FrameInfo),
    /// Something that could not be read whole.
    Warning(Warning),
    /// The last line.
    End(Totals),
}

/// Whose index this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHeader {
    /// The snapshot.
    pub key: SnapshotKey,
    /// Bytes of tar in every frame but the last.
    pub frame_size: u64,
}

/// One tar entry, as it lies in the tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Path, kind and metadata; never of kind `Stream`.
    pub entry: Entry,
    /// BLAKE3 of the body; for files only.
    pub blake3: Option<[u8; 32]>,
    /// Where its first header block begins in the tar stream.
    pub offset: u64,
    /// Where its body begins, or would begin.
    pub data_offset: u64,
    /// The role it plays in a file that was stored in segments.
    pub segment: Option<Segment>,
}

impl IndexEntry {
    /// Bytes of body.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.entry.kind {
            xvault_core::EntryKind::File { size } => size,
            _ => 0,
        }
    }

    /// Where the entry, its padding included, ends in the tar stream.
    #[must_use]
    pub fn end(&self) -> u64 {
        let size = self.size();
        self.data_offset.saturating_add(size).saturating_add(crate::header::padding(size) as u64)
    }
}

/// The role of an entry of a file that was stored in segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// `NAME.part-00001` and so on: a part of the content.
    Part {
        /// Counted from 1.
        number: u64,
    },
    /// `NAME.parts.json`: closes the parts and says what they add up to.
    Closing(Joined),
}

/// What the parts of a file add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// How many parts.
    pub parts: u64,
    /// Bytes of all parts together.
    pub length: u64,
    /// BLAKE3 of all parts together.
    pub blake3: [u8; 32],
}

/// Where a zstd frame lies in both streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// In the tar stream.
    pub offset: u64,
    /// Bytes of tar in it.
    pub size: u64,
    /// In the zstd stream.
    pub zstd_offset: u64,
    /// Bytes of zstd stream.
    pub zstd_size: u64,
}

/// What the last line says, and what a reader counts on its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entry lines.
    pub entries: u64,
    /// Frame lines.
    pub frames: u64,
    /// Bytes of the tar stream, its two zero blocks included.
    pub tar_size: u64,
    /// Bytes of the zstd stream.
    pub zstd_size: u64,
    /// What the snapshot holds.
    pub content: ContentSummary,
}

/// The name of part `number` of `name`.
pub(crate) fn part_name(name: &[u8], number: u64) -> Vec<u8> {
    [name, format!(".part-{number:05}").as_bytes()].concat()
}

/// The name of the entry that closes the parts of `name`.
pub(crate) fn closing_name(name: &[u8]) -> Vec<u8> {
    [name, CLOSING_SUFFIX].concat()
}

/// What the closing entry's name ends in.
pub(crate) const CLOSING_SUFFIX: &[u8] = b".parts.json";
