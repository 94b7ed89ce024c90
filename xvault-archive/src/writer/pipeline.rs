//! Threads between the packer and the two files: compressors side by side, then one that seals in order.
//!
//! A [`Slot`] holds one frame, plain and compressed, and travels packer → compressor → sealer → packer. There are
//! `threads + 2` of them, and that is all the memory there is. The sealer learns the order from a queue
//! of reply channels, so frames may be compressed in any order.

use std::io::Write;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use xvault_core::snapshot::{ContentSummary, FileDigest};

use crate::age_stream::{AgeError, AgeWriter};
use crate::digest::DigestWriter;
use crate::error::{ArchiveFile, Error};
use crate::index::{FrameInfo, IndexSeal, IndexWriter, Record, Totals};
use crate::writer::WriterOptions;

/// One frame's buffers.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) tar: Vec<u8>,
    zstd: Vec<u8>,
}

type Reply = Result<Slot, Error>;

struct Job {
    slot: Slot,
    reply: Sender<Reply>,
}

/// What the sealer does next.
enum Step {
    Lines(Vec<u8>),
    Frame { lines: Vec<u8>, reply: Receiver<Reply> },
    Finish { entries: u64, content: ContentSummary },
}

/// What the sealer gives back when all is written.
pub(super) struct Sealed<W, I> {
    pub(super) artifact: W,
    pub(super) index: I,
    pub(super) artifact_digest: FileDigest,
    pub(super) index_digest: FileDigest,
    pub(super) content_digest: [u8; 32],
    pub(super) totals: Totals,
}

/// The packer's end of the threads.
pub(super) struct Pipeline<W, I> {
    jobs: Option<Sender<Job>>,
    steps: Option<Sender<Step>>,
    slots: Receiver<Slot>,
    compressors: Vec<JoinHandle<()>>,
    sealer: Option<JoinHandle<Result<Sealed<W, I>, Error>>>,
}

impl<W: Write + Send + 'static, I: Write + Send + 'static> Pipeline<W, I> {
    pub(super) fn start(artifact: W, index: I, options: &WriterOptions) -> Result<Self, Error> {
        let threads = options.threads.get();
        let (slot_sender, slots) = bounded(threads + 2);
        for _ in 0..threads + 2 {
            // The channel has room for all of them.
            let _ = slot_sender.send(Slot::default());
        }
        let sealer = Sealer::new(artifact, index, options, slot_sender)?;
        let (jobs, job_receiver) = bounded::<Job>(1);
        let (steps, step_receiver) = bounded(threads + 2);
        let mut pipeline =
            Self { jobs: Some(jobs), steps: Some(steps), slots, compressors: Vec::new(), sealer: None };
        for _ in 0..threads {
            let (jobs, level) = (job_receiver.clone(), options.level);
            pipeline.compressors.push(spawn("xvault-compress", move || compress_all(&jobs, level))?);
        }
        pipeline.sealer = Some(spawn("xvault-seal", move || sealer.run(&step_receiver))?);
        Ok(pipeline)
    }

    /// An empty slot, as soon as there is one.
    pub(super) fn slot(&mut self) -> Result<Slot, Error> {
        self.slots.recv().map_err(|_| self.failure())
    }

    /// Hands a filled slot over, with the index lines that go before its frame line.
    pub(super) fn frame(&mut self, slot: Slot, lines: Vec<u8>) -> Result<(), Error> {
        let (reply, receiver) = bounded(1);
        self.step(Step::Frame { lines, reply: receiver })?;
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { slot, reply }).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Hands index lines over.
    pub(super) fn lines(&mut self, lines: Vec<u8>) -> Result<(), Error> {
        self.step(Step::Lines(lines))
    }

    /// Waits until all is written, and closes both files.
    pub(super) fn finish(mut self, entries: u64, content: ContentSummary) -> Result<Sealed<W, I>, Error> {
        self.step(Step::Finish { entries, content })?;
        self.join().unwrap_or(Err(Error::Failed))
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        let sent = self.steps.as_ref().is_some_and(|steps| steps.send(step).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the threads stopped taking work.
    fn failure(&mut self) -> Error {
        match self.join() {
            Some(Err(error)) => error,
            _ => Error::Failed,
        }
    }
}

impl<W, I> Pipeline<W, I> {
    /// Closes the queues and waits for the threads. A sealer that saw no `Finish` closes nothing.
    fn join(&mut self) -> Option<Result<Sealed<W, I>, Error>> {
        self.jobs = None;
        self.steps = None;
        let sealed = self.sealer.take().map(|sealer| sealer.join().unwrap_or(Err(Error::Failed)));
        for compressor in self.compressors.drain(..) {
            // A compressor's panic shows as a missing reply at the sealer.
            let _ = compressor.join();
        }
        sealed
    }
}

impl<W, I> Drop for Pipeline<W, I> {
    fn drop(&mut self) {
        self.join();
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map_err(|source| Error::Io { op: "start a thread for", file: ArchiveFile::Artifact, source })
}

fn compress_all(jobs: &Receiver<Job>, level: i32) {
    let mut compressor = compressor(level);
    for Job { slot, reply } in jobs {
        let result = match &mut compressor {
            Ok(compressor) => compress(compressor, slot),
            Err(_) => Err(Error::Option { option: "level", reason: "zstd does not take it" }),
        };
        // The sealer may be gone; the packer learns that from its own queue.
        let _ = reply.send(result);
    }
}

fn compressor(level: i32) -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(true))?;
    Ok(compressor)
}

fn compress(compressor: &mut zstd::bulk::Compressor<'static>, mut slot: Slot) -> Reply {
    slot.zstd.clear();
    slot.zstd.reserve_exact(zstd::zstd_safe::compress_bound(slot.tar.len()));
    match compressor.compress_to_buffer(&slot.tar, &mut slot.zstd) {
        Ok(_) => Ok(slot),
        Err(source) => Err(Error::Io { op: "compress", file: ArchiveFile::Artifact, source }),
    }
}

/// The thread that owns both files.
struct Sealer<W: Write, I: Write> {
    artifact: AgeWriter<DigestWriter<W>>,
    index: IndexWriter<I>,
    slots: Sender<Slot>,
    totals: Totals,
}

impl<W: Write, I: Write> Sealer<W, I> {
    fn new(artifact: W, index: I, options: &WriterOptions, slots: Sender<Slot>) -> Result<Self, Error> {
        let artifact = AgeWriter::new(&options.recipients, DigestWriter::new(artifact))
            .map_err(|error| begin_error(ArchiveFile::Artifact, error))?;
        let index = IndexWriter::new(&options.index_recipients, index)
            .map_err(|error| begin_error(ArchiveFile::Index, error))?;
        Ok(Self { artifact, index, slots, totals: Totals::default() })
    }

    fn run(mut self, steps: &Receiver<Step>) -> Result<Sealed<W, I>, Error> {
        for step in steps {
            match step {
                Step::Lines(lines) => self.lines(&lines)?,
                Step::Frame { lines, reply } => {
                    let slot = reply.recv().unwrap_or(Err(Error::Failed))?;
                    self.lines(&lines)?;
                    self.frame(slot)?;
                }
                Step::Finish { entries, content } => return self.finish(entries, content),
            }
        }
        // The writer was dropped: both files stay without their last chunk.
        Err(Error::Cancelled)
    }

    fn lines(&mut self, lines: &[u8]) -> Result<(), Error> {
        self.index.append(lines).map_err(Error::write(ArchiveFile::Index))
    }

    fn record(&mut self, record: &Record) -> Result<(), Error> {
        let mut line = Vec::new();
        record.append_to(&mut line).map_err(|e| Error::write(ArchiveFile::Index)(e.into()))?;
        self.lines(&line)
    }

    fn frame(&mut self, mut slot: Slot) -> Result<(), Error> {
        let info = FrameInfo {
            offset: self.totals.tar_size,
            size: slot.tar.len() as u64,
            zstd_offset: self.totals.zstd_size,
            zstd_size: slot.zstd.len() as u64,
        };
        self.artifact.write_all(&slot.zstd).map_err(Error::write(ArchiveFile::Artifact))?;
        self.totals.tar_size += info.size;
        self.totals.zstd_size += info.zstd_size;
        self.totals.frames += 1;
        slot.tar.clear();
        // The packer may be gone, which the steps tell.
        let _ = self.slots.send(slot);
        self.record(&Record::Frame(info))
    }

    fn finish(mut self, entries: u64, content: ContentSummary) -> Result<Sealed<W, I>, Error> {
        self.totals.entries = entries;
        self.totals.content = content;
        self.record(&Record::End(self.totals))?;
        let mut artifact = self.artifact.finish().map_err(Error::write(ArchiveFile::Artifact))?;
        artifact.flush().map_err(Error::write(ArchiveFile::Artifact))?;
        let (artifact, artifact_digest) = artifact.finish();
        let index = self.index.finish().map_err(Error::write(ArchiveFile::Index))?;
        let IndexSeal { inner, digest, content_digest } = index;
        Ok(Sealed {
            artifact,
            index: inner,
            artifact_digest,
            index_digest: digest,
            content_digest,
            totals: self.totals,
        })
    }
}

fn begin_error(file: ArchiveFile, error: AgeError) -> Error {
    match error {
        AgeError::Key(source) => Error::Key(source),
        AgeError::Io(source) => Error::Io { op: "write", file, source },
    }
}
