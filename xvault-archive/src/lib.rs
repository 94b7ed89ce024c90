//! The artifact of xVault: written once as a stream, read anywhere.
//!
//! A snapshot is a plain tar inside independent zstd frames inside an age file, so that
//! `age -d backup.tar.zst.enc | zstd -d | tar x` opens it without us; an encrypted index beside it makes it
//! seekable. `docs/format.md` is the norm. This crate is synchronous, pulls in no runtime, trusts
//! nothing that it reads, and holds a few frames in memory whatever the size of the snapshot.
//!
//! In reading order:
//!
//! - [`ArchiveWriter`]: entries in, artifact and index out; parallel and bounded;
//! - [`ArchiveReader`]: entries from the index, content from the few frames that hold it;
//! - [`ArchiveIndex`]: the index alone, for listing without the artifact; [`browse`]: pages of it by name;
//! - [`extract()`]: to a directory, never outside it; [`export()`]: to a tar, tar.zst or zip; [`deliver::deliver`]: to whoever restores elsewhere;
//! - [`verify`]: sizes and hashes without a key, everything with one;
//! - [`index`]: the lines of the index; [`Error`]: what a caller can decide on.
//!
//! ```
//! use std::io::{Cursor, Read};
//! use xvault_archive::{ArchiveReader, ArchiveWriter, ExtractOptions, Watch, WriterOptions, extract, verify};
//! use xvault_core::snapshot::SnapshotKey;
//! use xvault_core::{Entry, EntryKind, EntryPath, Identity, Metadata, SnapshotId, SourceId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::generate();
//! let key = SnapshotKey {
//!     tenant_id: "local".parse()?,
//!     source_id: SourceId::derive("local:/srv"),
//!     snapshot_id: SnapshotId::generate(),
//! };
//!
//! // Write: any `Write` will do; here both files stay in memory.
//! let options = WriterOptions::new(key, vec![identity.recipient()]);
//! let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), options)?;
//! let path = EntryPath::new("srv/hello.txt")?;
//! let metadata = Metadata { mode: 0o644, ..Metadata::default() };
//! writer.begin(&Entry { path: path.clone(), kind: EntryKind::File { size: 5 }, metadata })?;
//! writer.write(b"hello")?;
//! writer.end()?;
//! let finished = writer.finish()?;
//!
//! // Read one file by seeking: any `Read + Seek` will do.
//! let (artifact, index) = (Cursor::new(finished.artifact), Cursor::new(finished.index));
//! let mut reader = ArchiveReader::open(artifact, index, &[identity])?;
//! let mut content = String::new();
//! reader.read(&path)?.read_to_string(&mut content)?;
//! assert_eq!(content, "hello");
//!
//! // Prove that everything is there, then restore it.
//! verify::deep(&mut reader, &Watch::default())?.check_stats(&finished.stats)?;
//! let target = tempfile::tempdir()?;
//! let options = ExtractOptions { owner: false, ..ExtractOptions::default() };
//! extract(&mut reader, target.path(), &options)?;
//! assert_eq!(std::fs::read(target.path().join("srv/hello.txt"))?, b"hello");
//! # Ok(())
//! # }
//! ```

mod age_stream;
pub mod browse;
pub mod deliver;
mod digest;
mod error;
mod export;
pub mod extract;
mod frames;
mod header;
pub mod index;
mod input;
mod linked;
mod listing;
mod reader;
mod seen;
mod select;
pub mod verify;
mod watch;
mod writer;

pub use digest::RunningDigest;
pub use error::{ArchiveFile, Error};
pub use export::{Exported, REPORT_NAME, export};
pub use extract::{ExtractOptions, ExtractStats, extract};
pub use index::{IndexReader, Record};
pub use listing::{ArchiveEntry, ArchiveIndex, Entries};
pub use reader::{ArchiveReader, EntryReader};
pub use watch::Watch;
pub use writer::{ArchiveStats, ArchiveWriter, Finished, WriterOptions};
pub use xvault_core::Overwrite;
