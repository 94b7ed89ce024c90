//! Archives that the benchmarks write and read, in memory.

use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;

use xvault_archive::{ArchiveStats, ArchiveWriter, WriterOptions};
use xvault_core::{
    Entry, EntryKind, EntryPath, Identity, Metadata, SnapshotId, SnapshotKey, SourceId, TenantId,
};

/// What a benchmark's setup can fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What goes into an archive: a stretch of content cut into files, so that no file repeats another.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The content of all files together: what throughput is counted in.
    pub content: &'a [u8],
    /// Bytes of each file but the last; more than 0.
    pub size: usize,
}

/// A snapshot with the key to it.
#[derive(Debug)]
pub struct Stored {
    /// `backup.tar.zst.enc`.
    pub artifact: Vec<u8>,
    /// `index.zst.enc`.
    pub index: Vec<u8>,
    /// Opens both.
    pub identity: Identity,
    /// What the writer said.
    pub stats: ArchiveStats,
}

/// The default options, for one recipient.
#[must_use]
pub fn options(identity: &Identity) -> WriterOptions {
    let key = SnapshotKey {
        tenant_id: TenantId::local(),
        source_id: SourceId::derive("bench"),
        snapshot_id: SnapshotId::generate(),
    };
    WriterOptions::new(key, vec![identity.recipient()])
}

/// The same with one compressing thread: what a frame costs, not how many cores there are.
#[must_use]
pub fn single_threaded(identity: &Identity) -> WriterOptions {
    WriterOptions { threads: NonZeroUsize::MIN, ..options(identity) }
}

/// The path of file `number`.
///
/// # Errors
/// Never: the name is a plain one.
pub fn path(number: usize) -> Result<EntryPath> {
    Ok(EntryPath::new(format!("srv/d{:04}/file_{number:07}", number / 100))?)
}

/// Writes `files` into two writers and waits for the end.
///
/// # Errors
/// What the archive says.
pub fn write<W, I>(
    files: Files<'_>,
    artifact: W,
    index: I,
    options: WriterOptions,
) -> Result<(W, I, ArchiveStats)>
where
    W: Write + Send + 'static,
    I: Write + Send + 'static,
{
    let mut writer = ArchiveWriter::new(artifact, index, options)?;
    for (number, content) in files.content.chunks(files.size).enumerate() {
        let kind = EntryKind::File { size: content.len() as u64 };
        writer.begin(&Entry { path: path(number)?, kind, metadata: Metadata::default() })?;
        // As connectors hand it over.
        for chunk in content.chunks(256 << 10) {
            writer.write(chunk)?;
        }
        writer.end()?;
    }
    let finished = writer.finish()?;
    Ok((finished.artifact, finished.index, finished.stats))
}

/// A snapshot in memory.
///
/// # Errors
/// What the archive says.
pub fn store(files: Files<'_>) -> Result<Stored> {
    let identity = Identity::generate();
    let (artifact, index, stats) = write(files, Vec::new(), Vec::new(), options(&identity))?;
    Ok(Stored { artifact, index, identity, stats })
}
