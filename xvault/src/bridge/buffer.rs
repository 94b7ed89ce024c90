//! What a `Write` gathers before it sends it on.

use bytes::{Bytes, BytesMut};

/// Takes bytes until a chunk is full.
#[derive(Debug)]
pub(super) struct Buffer {
    gathered: BytesMut,
    chunk: usize,
}

impl Buffer {
    /// For chunks of at most so many bytes.
    pub(super) fn new(chunk: usize) -> Self {
        Self { gathered: BytesMut::with_capacity(chunk), chunk }
    }

    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= self.chunk
    }

    /// Takes what fits, and says how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let room = self.chunk.saturating_sub(self.gathered.len());
        let (head, _) = bytes.split_at(bytes.len().min(room));
        self.gathered.extend_from_slice(head);
        head.len()
    }

    /// What was gathered, if anything was.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.gathered.is_empty() {
            return None;
        }
        Some(std::mem::replace(&mut self.gathered, BytesMut::with_capacity(self.chunk)).freeze())
    }
}
