//! Writing an artifact and its index, as entries come in.

mod packer;
mod pipeline;
mod segments;

use std::io::Write;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::snapshot::{ContentSummary, FileDigest, SnapshotKey};
use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, Metadata, Recipient, SinkError, Warning};

use crate::error::Error;
use crate::header;
use crate::index::{IndexEntry, IndexHeader, MAX_FRAME_SIZE, MAX_TARGET_LEN, Record, Segment, TAR_END};
use crate::seen::PathSet;
use packer::Packer;
pub(crate) use segments::PartsFile;
use segments::SegmentedBody;

/// The most threads that [`WriterOptions::new`] chooses by itself: four saturate a 1 GB/s source, and
/// each costs about 12 MiB.
const MAX_DEFAULT_THREADS: usize = 4;
const MAX_MESSAGE_LEN: usize = 1024;
const MAX_OWNER_LEN: usize = 255;

/// How to write.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Whose snapshot this is; goes into the index's first line.
    pub key: SnapshotKey,
    /// Who can read the artifact; at least one.
    pub recipients: Vec<Recipient>,
    /// Who can read the index; at least one, usually the same.
    pub index_recipients: Vec<Recipient>,
    /// zstd level of the artifact.
    pub level: i32,
    /// Compressing threads. Memory is about `(threads + 2) × 2 × frame_size`, and a few MiB for each.
    pub threads: NonZeroUsize,
    /// Bytes of tar in a frame: 4 KiB to 64 MiB. Larger ones compress better, smaller ones restore single files cheaper.
    pub frame_size: usize,
    /// Bytes of a `Stream` entry that are held before it is written in parts.
    pub segment_size: usize,
}

impl WriterOptions {
    /// The defaults: level 3, a thread for each core up to four, frames of 4 MiB and segments of 8 MiB, one set of recipients.
    #[must_use]
    pub fn new(key: SnapshotKey, recipients: Vec<Recipient>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            key,
            index_recipients: recipients.clone(),
            recipients,
            level: 3,
            threads: NonZeroUsize::new(threads.min(MAX_DEFAULT_THREADS)).unwrap_or(NonZeroUsize::MIN),
            frame_size: 4 << 20,
            segment_size: 8 << 20,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let option = |option, reason| Err(Error::Option { option, reason });
        if !(4096..=MAX_FRAME_SIZE).contains(&(self.frame_size as u64)) {
            return option("frame_size", "it must be between 4 KiB and 64 MiB");
        }
        if self.segment_size == 0 {
            return option("segment_size", "it must not be zero");
        }
        if !zstd::compression_level_range().contains(&self.level) {
            return option("level", "zstd does not take it");
        }
        if self.threads.get() > 256 {
            return option("threads", "it must be at most 256");
        }
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStats {
    /// Length and SHA-256 of the artifact as written.
    pub artifact: FileDigest,
    /// Length and SHA-256 of the index as written.
    pub index: FileDigest,
    /// Length of the tar stream.
    pub tar_size_bytes: u64,
    /// Length of the zstd stream, before encryption.
    pub compressed_size_bytes: u64,
    /// Entries in the tar stream; a stream in parts has several.
    pub entries: u64,
    /// zstd frames.
    pub frames: u64,
    /// What the snapshot holds.
    pub content: ContentSummary,
    /// BLAKE3 of the plain index lines as they left the writer's memory: path, kind, size, metadata and content hash of every
    /// entry, and every frame. [`crate::verify::deep`] computes the same from what it reads.
    pub content_digest: [u8; 32],
}

/// A finished archive: the writers are given back, flushed but not synced.
#[derive(Debug)]
pub struct Finished<W, I> {
    /// The artifact's writer.
    pub artifact: W,
    /// The index's writer.
    pub index: I,
    /// What was written.
    pub stats: ArchiveStats,
}

/// Writes `backup.tar.zst.enc` and `index.zst.enc` side by side.
///
/// The calls follow the grammar of [`EntrySink`], which it also implements. They **block** while the
/// threads behind are busy: an async program drives the writer from a thread of its own.
///
/// Once a call has failed all later ones fail. A writer that is dropped without
/// [`ArchiveWriter::finish`] stops its threads (it waits for the write in progress) and leaves two files
/// that every reader refuses as truncated.
///
/// Each path is remembered by 8 bytes of a keyed hash (10 to 20 with the table around it), so that none
/// is written twice. Among ten million paths, two different ones share a hash with odds of 1 in 370,000; the
/// backup then fails, and succeeds with the next run's key.
pub struct ArchiveWriter<W, I> {
    packer: Option<Packer<W, I>>,
    body: Body,
    content: ContentSummary,
    entries: u64,
    seen: PathSet,
    segment_size: usize,
    /// Of the current file.
    hasher: blake3::Hasher,
    scratch: Vec<u8>,
}

/// What the grammar expects next.
enum Body {
    None,
    File { written: Box<Written>, left: u64 },
    Stream(Box<SegmentedBody>),
}

/// An entry whose header is in the tar stream.
struct Written {
    entry: Entry,
    offset: u64,
    data_offset: u64,
    segment: Option<Segment>,
}

impl<W: Write + Send + 'static, I: Write + Send + 'static> ArchiveWriter<W, I> {
    /// Starts the threads and writes both age headers.
    ///
    /// # Errors
    /// When an option is out of range, there is no recipient, or a header can't be written.
    pub fn new(artifact: W, index: I, options: WriterOptions) -> Result<Self, Error> {
        options.check()?;
        let mut packer = Packer::start(artifact, index, &options)?;
        let WriterOptions { key, frame_size, segment_size, .. } = options;
        packer.record(&Record::Header(IndexHeader { key, frame_size: frame_size as u64 }))?;
        Ok(Self {
            packer: Some(packer),
            body: Body::None,
            content: ContentSummary::default(),
            entries: 0,
            seen: PathSet::default(),
            segment_size,
            hasher: blake3::Hasher::new(),
            scratch: Vec::new(),
        })
    }

    /// Begins an entry. Directories and links are complete with this.
    ///
    /// # Errors
    /// When a body is open, the path was there before, or the threads behind have failed.
    pub fn begin(&mut self, entry: &Entry) -> Result<(), Error> {
        self.guarded(|writer| writer.try_begin(entry))
    }

    /// A part of the current body.
    ///
    /// # Errors
    /// When no body is open, a file gets more than its size, or the threads behind have failed.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.guarded(|writer| writer.try_write(chunk))
    }

    /// Ends the current body.
    ///
    /// # Errors
    /// When no body is open, a file got less than its size, or the threads behind have failed.
    pub fn end(&mut self) -> Result<(), Error> {
        self.guarded(Self::try_end)
    }

    /// Records what could not be read; anywhere, also within a body. Messages are cut at 1 KiB.
    ///
    /// # Errors
    /// When the threads behind have failed.
    pub fn warning(&mut self, warning: &Warning) -> Result<(), Error> {
        self.guarded(|writer| {
            let message = warning.message.chars().take(MAX_MESSAGE_LEN).collect();
            writer.content.warnings += 1;
            writer.packer()?.record(&Record::Warning(Warning { message, ..warning.clone() }))
        })
    }

    /// Counts things that have no content to back up: sockets, pipes and device nodes.
    pub fn skipped(&mut self, count: u64) {
        self.content.skipped += count;
    }

    /// What was taken in so far.
    #[must_use]
    pub fn content(&self) -> &ContentSummary {
        &self.content
    }

    /// Writes what is still held, closes both files and waits for it.
    ///
    /// # Errors
    /// When a body is open, an earlier call failed, or the last writes fail. The files are then no snapshot.
    pub fn finish(mut self) -> Result<Finished<W, I>, Error> {
        if !matches!(self.body, Body::None) {
            return Err(Error::Misuse("finish within a body"));
        }
        let mut packer = self.packer.take().ok_or(Error::Failed)?;
        packer.put(&TAR_END)?;
        let sealed = packer.finish(self.entries, self.content)?;
        let stats = ArchiveStats {
            artifact: sealed.artifact_digest,
            index: sealed.index_digest,
            tar_size_bytes: sealed.totals.tar_size,
            compressed_size_bytes: sealed.totals.zstd_size,
            entries: sealed.totals.entries,
            frames: sealed.totals.frames,
            content: sealed.totals.content,
            content_digest: sealed.content_digest,
        };
        Ok(Finished { artifact: sealed.artifact, index: sealed.index, stats })
    }

    /// Runs a step; when it fails the threads are stopped and nothing can be finished any more.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let result = step(self);
        if result.is_err() {
            self.packer = None;
        }
        result
    }

    fn packer(&mut self) -> Result<&mut Packer<W, I>, Error> {
        self.packer.as_mut().ok_or(Error::Failed)
    }

    fn try_begin(&mut self, entry: &Entry) -> Result<(), Error> {
        self.packer()?;
        if !matches!(self.body, Body::None) {
            return Err(Error::Misuse("begin within a body"));
        }
        let entry = normalised(entry)?;
        self.remember(&entry.path)?;
        match &entry.kind {
            EntryKind::Stream => {
                self.body = Body::Stream(Box::new(SegmentedBody::new(entry, self.segment_size)));
                Ok(())
            }
            EntryKind::File { size } => {
                let left = *size;
                self.hasher.reset();
                let written = Box::new(self.put_header(entry, None)?);
                self.body = Body::File { written, left };
                Ok(())
            }
            _ => {
                let written = self.put_header(entry, None)?;
                self.count_plain(&written.entry.kind);
                self.record(written, None)
            }
        }
    }

    fn try_write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let Some(packer) = &mut self.packer else { return Err(Error::Failed) };
        match &mut self.body {
            Body::None => Err(Error::Misuse("data outside a body")),
            Body::File { left, .. } => {
                *left =
                    left.checked_sub(chunk.len() as u64).ok_or(Error::Misuse("data beyond a file's size"))?;
                self.hasher.update(chunk);
                packer.put(chunk)
            }
            Body::Stream(_) => self.write_stream(chunk),
        }
    }

    fn try_end(&mut self) -> Result<(), Error> {
        self.packer()?;
        match std::mem::replace(&mut self.body, Body::None) {
            Body::None => Err(Error::Misuse("end outside a body")),
            Body::File { left, .. } if left > 0 => Err(Error::Misuse("a file ended before its size")),
            Body::File { written, .. } => {
                self.content.files += 1;
                let blake3 = self.hasher.finalize();
                self.end_file(*written, blake3)
            }
            Body::Stream(stream) => self.end_stream(*stream),
        }
    }

    /// Pads a body that is in the tar stream and writes its index line.
    fn end_file(&mut self, written: Written, blake3: blake3::Hash) -> Result<(), Error> {
        let size = file_size(&written.entry);
        if !matches!(written.segment, Some(Segment::Closing(_))) {
            self.content.bytes += size;
        }
        let zeros = [0; xvault_core::tar::BLOCK_LEN];
        let padding = zeros.get(..header::padding(size)).unwrap_or_default();
        self.packer()?.put(padding)?;
        self.record(written, Some(blake3.into()))
    }

    fn put_header(&mut self, entry: Entry, segment: Option<Segment>) -> Result<Written, Error> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        header::encode(&entry, file_size(&entry), &mut scratch);
        let packer = self.packer()?;
        let offset = packer.offset();
        packer.put(&scratch)?;
        let data_offset = packer.offset();
        self.scratch = scratch;
        Ok(Written { entry, offset, data_offset, segment })
    }

    fn record(&mut self, written: Written, blake3: Option<[u8; 32]>) -> Result<(), Error> {
        let Written { entry, offset, data_offset, segment } = written;
        self.entries += 1;
        let entry = IndexEntry { entry, blake3, offset, data_offset, segment };
        self.packer()?.record(&Record::Entry(entry))
    }

    fn count_plain(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::Directory => self.content.directories += 1,
            EntryKind::Symlink { .. } => self.content.symlinks += 1,
            EntryKind::Hardlink { .. } => self.content.hardlinks += 1,
            EntryKind::File { .. } | EntryKind::Stream => {}
        }
    }

    fn remember(&mut self, path: &EntryPath) -> Result<(), Error> {
        if self.seen.insert(path, false) { Ok(()) } else { Err(Error::Duplicate { path: path.clone() }) }
    }
}

/// The bytes of body that the tar header of `entry` announces.
fn file_size(entry: &Entry) -> u64 {
    if let EntryKind::File { size } = entry.kind { size } else { 0 }
}

/// The entry as tar and index can both say it.
fn normalised(entry: &Entry) -> Result<Entry, Error> {
    if let EntryKind::Symlink { target } = &entry.kind
        && (target.is_empty() || target.contains(&0) || target.len() > MAX_TARGET_LEN)
    {
        return Err(Error::Misuse("a link's target is empty, too long or contains a NUL"));
    }
    if matches!(&entry.kind, EntryKind::Hardlink { target } if *target == entry.path) {
        return Err(Error::Misuse("a hard link to itself"));
    }
    let Metadata { mode, user, group, mut mtime, .. } = entry.metadata.clone();
    mtime.nanos = mtime.nanos.min(999_999_999);
    let metadata = Metadata {
        mode: mode & 0o7777,
        user: user.and_then(owner_name),
        group: group.and_then(owner_name),
        mtime,
        ..entry.metadata
    };
    Ok(Entry { path: entry.path.clone(), kind: entry.kind.clone(), metadata })
}

fn owner_name(mut name: Vec<u8>) -> Option<Vec<u8>> {
    name.truncate(MAX_OWNER_LEN);
    (!name.is_empty() && !name.contains(&0)).then_some(name)
}

#[async_trait]
impl<W: Write + Send + 'static, I: Write + Send + 'static> EntrySink for ArchiveWriter<W, I> {
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError> {
        Ok(Self::begin(self, &entry)?)
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        Ok(self.write(&chunk)?)
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        Ok(Self::end(self)?)
    }

    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        Ok(Self::warning(self, &warning)?)
    }
}
