//! Where the frames lie in both streams.

use crate::index::FrameInfo;

/// Where every frame lies: 8 bytes for each, so 2 MiB for a terabyte of tar.
///
/// Built from index lines that were checked to follow each other without a gap.
#[derive(Debug, Default)]
pub(crate) struct FrameTable {
    frame_size: u64,
    tar_size: u64,
    zstd_ends: Vec<u64>,
}

impl FrameTable {
    pub(crate) fn new(frame_size: u64) -> Self {
        Self { frame_size, ..Self::default() }
    }

    pub(crate) fn push(&mut self, frame: &FrameInfo) {
        self.tar_size = frame.offset + frame.size;
        self.zstd_ends.push(frame.zstd_offset + frame.zstd_size);
    }

    pub(crate) fn len(&self) -> u64 {
        self.zstd_ends.len() as u64
    }

    /// The frame that holds byte `offset` of the tar stream.
    pub(crate) fn at(&self, offset: u64) -> Option<(u64, FrameInfo)> {
        // Behind the end of a last frame that is not full lies nothing, though it would be of that number.
        let number = offset.checked_div(self.frame_size).filter(|_| offset < self.tar_size)?;
        self.get(number).map(|frame| (number, frame))
    }

    pub(crate) fn get(&self, number: u64) -> Option<FrameInfo> {
        let at = usize::try_from(number).ok()?;
        let end = *self.zstd_ends.get(at)?;
        let zstd_offset =
            at.checked_sub(1).and_then(|before| self.zstd_ends.get(before)).copied().unwrap_or(0);
        let offset = number.checked_mul(self.frame_size)?;
        let size = self.frame_size.min(self.tar_size.checked_sub(offset)?);
        Some(FrameInfo { offset, size, zstd_offset, zstd_size: end - zstd_offset })
    }
}
