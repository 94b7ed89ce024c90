//! TBD
mod age_stream;
mod digest;
mod error;
mod frames;
mod header;
pub mod index;
mod input;
mod listing;
mod reader;
mod writer;

pub use error::{ArchiveFile, Error};
pub use index::{IndexReader, Record};
pub use listing::{ArchiveEntry, ArchiveIndex, Entries};
pub use reader::{ArchiveReader, EntryReader};
pub use writer::{ArchiveStats, ArchiveWriter, Finished, WriterOptions};
