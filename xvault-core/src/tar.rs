//! Reading tar streams of any origin, without doing the reading.
//!
//! [`TarParser`] is fed chunks and answers with events, so that blocking readers and async
//! connectors share it. It reads ustar, PAX (`x` and `g`) and GNU (long names, base-256 numbers)
//! streams as GNU tar does, and refuses what two programs would read in two ways. Nothing in the
//! stream is trusted: extension headers are capped, and names come out as raw bytes that are
//! no [`crate::EntryPath`] yet.
//!
//! ```
//! use bytes::Bytes;
//! use xvault_core::tar::{Event, TarParser};
//!
//! fn names(chunks: impl Iterator<Item = Bytes>) -> Result<Vec<Vec<u8>>, xvault_core::tar::Error> {
//!     let (mut parser, mut names) = (TarParser::new(), Vec::new());
//!     for mut chunk in chunks {
//!         while let Some(event) = parser.next(&mut chunk)? {
//!             if let Event::Header(entry) = event {
//!                 names.push(entry.path);
//!             }
//!         }
//!     }
//!     parser.finish()?; // an error unless the two zero blocks were seen
//!     Ok(names)
//! }
//! assert_eq!(names([Bytes::from(vec![0; 1024])].into_iter()).unwrap(), Vec::<Vec<u8>>::new());
//! ```

mod block;
mod parser;
mod pax;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::entry::Metadata;
use crate::error::{Dispose, Disposition};

pub use parser::TarParser;

/// The unit of a tar stream, in bytes.
pub const BLOCK_LEN: usize = 512;

/// The longest PAX header or GNU long name that is read, in bytes.
pub const MAX_EXTENSION_LEN: u64 = 1 << 20;

/// What the parser found next. Every header is followed by `Data* EntryEnd`, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry begins.
    Header(Box<TarEntry>),
    /// A piece of its body, a slice of the chunk that was fed; never empty.
    Data(Bytes),
    /// All [`TarEntry::size`] bytes of its body were given out.
    EntryEnd,
    /// The two zero blocks. What follows is not looked at and stays in the chunk.
    ArchiveEnd,
}

/// One entry as its headers describe it, extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The name as it stands in the stream: perhaps absolute, with `..`, with a trailing `/`. Untrusted.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: TarKind,
    /// Bytes of body that follow in the stream. 0 unless the kind is `File` or `Unsupported`.
    pub size: u64,
    /// Owner, mode (permission bits only) and time.
    pub metadata: Metadata,
    /// Where its first header block (an extension's, if it has one) begins in the stream.
    pub offset: u64,
    /// Where its body begins, or would begin, in the stream.
    pub data_offset: u64,
}

/// The kinds of entries in a tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TarKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points to, as it stands in the stream.
        target: Vec<u8>,
    },
    /// A second name of an earlier entry.
    Hardlink {
        /// The earlier entry's name as it stands in the stream. Untrusted.
        target: Vec<u8>,
    },
    /// A device node or pipe: a name without content.
    Special(Special),
    /// A kind that has a body which can't be kept as a plain file: its type flag.
    /// `S` stands for every sparse format.
    Unsupported(u8),
}

/// The kinds of special files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// Why bytes are no tar stream, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A header says what it must not.
    #[error("malformed tar header at byte {offset}: {reason}")]
    Malformed {
        /// Offset of the header block in the stream.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The stream stops before its two zero blocks.
    #[error("the tar stream ends at byte {offset}, before its closing zero blocks")]
    Truncated {
        /// How many bytes there were.
        offset: u64,
    },
}

impl Dispose for Error {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Malformed { .. } => Disposition::Permanent,
            // A stream that was cut on its way may come whole next time.
            Self::Truncated { .. } => Disposition::Transient,
        }
    }
}
