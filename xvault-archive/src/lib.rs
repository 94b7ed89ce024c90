//! TBD
mod age_stream;
mod digest;
mod error;
mod header;
pub mod index;
mod input;
mod writer;

pub use error::{ArchiveFile, Error};
pub use index::{IndexReader, Record};
pub use writer::{ArchiveStats, ArchiveWriter, Finished, WriterOptions};
