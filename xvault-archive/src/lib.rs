//! TBD
mod age_stream;
mod digest;
mod error;
pub mod export;
pub mod extract;
mod frames;
mod header;
pub mod index;
mod input;
mod listing;
mod reader;
mod seen;
mod select;
pub mod verify;
mod watch;
mod writer;

pub use error::{ArchiveFile, Error};
pub use extract::{ExtractOptions, ExtractStats, Overwrite, extract};
pub use index::{IndexReader, Record};
pub use listing::{ArchiveEntry, ArchiveIndex, Entries};
pub use reader::{ArchiveReader, EntryReader};
pub use watch::Watch;
pub use writer::{ArchiveStats, ArchiveWriter, Finished, WriterOptions};
