//! Fills frames with tar bytes, and keeps the index lines that belong before each frame's line.

use std::io::Write;

use xvault_core::snapshot::ContentSummary;

use crate::error::{ArchiveFile, Error};
use crate::index::Record;
use crate::writer::WriterOptions;
use crate::writer::pipeline::{Pipeline, Sealed, Slot};

/// Lines beyond this go ahead of their frame, so that a million warnings don't pile up in memory.
const MAX_HELD_LINES: usize = 256 << 10;

pub(super) struct Packer<W, I> {
    pipeline: Pipeline<W, I>,
    slot: Slot,
    lines: Vec<u8>,
    frame_size: usize,
    /// Bytes of tar so far.
    offset: u64,
}

impl<W: Write + Send + 'static, I: Write + Send + 'static> Packer<W, I> {
    pub(super) fn start(artifact: W, index: I, options: &WriterOptions) -> Result<Self, Error> {
        let mut pipeline = Pipeline::start(artifact, index, options)?;
        let slot = pipeline.slot()?;
        Ok(Self { pipeline, slot, lines: Vec::new(), frame_size: options.frame_size, offset: 0 })
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends to the tar stream. A full frame leaves only when more comes: the lines of an entry that ends
    /// with it belong before its frame line.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.slot.tar.len() == self.frame_size {
                self.hand_over()?;
                self.slot = self.pipeline.slot()?;
            }
            if self.slot.tar.capacity() == 0 {
                self.slot.tar.reserve_exact(self.frame_size);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.frame_size - self.slot.tar.len()));
            self.slot.tar.extend_from_slice(now);
            self.offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<(), Error> {
        record.append_to(&mut self.lines).map_err(|e| Error::write(ArchiveFile::Index)(e.into()))?;
        if self.lines.len() > MAX_HELD_LINES {
            self.pipeline.lines(std::mem::take(&mut self.lines))?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, entries: u64, content: ContentSummary) -> Result<Sealed<W, I>, Error> {
        self.hand_over()?;
        self.pipeline.finish(entries, content)
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let (slot, lines) = (std::mem::take(&mut self.slot), std::mem::take(&mut self.lines));
        self.pipeline.frame(slot, lines)
    }
}
