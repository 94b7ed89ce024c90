//! Frames: where they lie, and reading one of them out of the artifact.

use std::io::{Read, Seek, SeekFrom};

use age::stream::StreamReader;
use bytes::Bytes;
use xvault_core::Identity;

use crate::error::{ArchiveFile, Error};
use crate::index::{FrameInfo, Totals};
use crate::input::{Input, classify, decrypt};

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

/// Decrypts and decompresses single frames of an artifact; the last one is kept.
pub(crate) struct FrameSource<A> {
    stream: StreamReader<Input<A>>,
    /// Length of the zstd stream, authenticated when the artifact was opened.
    len: u64,
    decompressor: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    kept: Option<(u64, Bytes)>,
}

impl<A: Read + Seek> FrameSource<A> {
    /// Opens the artifact and reads its last chunk: a truncated one is noticed here.
    pub(crate) fn open(artifact: A, identities: &[Identity]) -> Result<Self, Error> {
        let mut stream = decrypt(ArchiveFile::Artifact, artifact, identities)?;
        let fault = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::InvalidData => Error::Truncated {
                file: ArchiveFile::Artifact,
                reason: "its last chunk is missing or changed".into(),
            },
            _ => classify(ArchiveFile::Artifact, error, "its last chunk"),
        };
        let len = stream.seek(SeekFrom::End(0)).map_err(fault)?;
        stream.seek(SeekFrom::Start(0)).map_err(fault)?;
        let decompressor = zstd::bulk::Decompressor::new().map_err(fault)?;
        Ok(Self { stream, len, decompressor, compressed: Vec::new(), kept: None })
    }

    /// Whether the artifact is as long as its index says.
    pub(crate) fn check_len(&self, totals: &Totals) -> Result<(), Error> {
        if self.len == totals.zstd_size {
            return Ok(());
        }
        Err(Error::Mismatch {
            file: ArchiveFile::Artifact,
            what: "the length of its zstd stream",
            expected: format!("{} bytes as in {}", totals.zstd_size, ArchiveFile::Index),
            found: format!("{} bytes", self.len),
        })
    }

    /// The tar bytes of frame `number`, which `table` must have.
    pub(crate) fn load(&mut self, table: &FrameTable, number: u64) -> Result<Bytes, Error> {
        if let Some((kept, bytes)) = &self.kept
            && *kept == number
        {
            return Ok(bytes.clone());
        }
        let frame = table.get(number).ok_or_else(|| frame_fault(number, "it is not in the index"))?;
        let buffer = self.recycled();
        self.read_compressed(number, &frame)?;
        let bytes = Bytes::from(self.decompress(number, &frame, buffer)?);
        self.kept = Some((number, bytes.clone()));
        Ok(bytes)
    }

    /// The memory of the kept frame, when nobody looks at it any more.
    fn recycled(&mut self) -> Vec<u8> {
        match self.kept.take() {
            Some((_, bytes)) if bytes.is_unique() => Vec::from(bytes),
            _ => Vec::new(),
        }
    }

    fn read_compressed(&mut self, number: u64, frame: &FrameInfo) -> Result<(), Error> {
        // The age reader must not be sent beyond its end.
        let within = frame.zstd_offset.checked_add(frame.zstd_size).is_some_and(|end| end <= self.len);
        let size = usize::try_from(frame.zstd_size).ok().filter(|_| within);
        let size = size.ok_or_else(|| frame_fault(number, "the index places it beyond the end"))?;
        self.compressed.resize(size, 0);
        let place = || format!("frame {number}");
        self.stream
            .seek(SeekFrom::Start(frame.zstd_offset))
            .map_err(|error| classify(ArchiveFile::Artifact, error, &place()))?;
        self.stream
            .read_exact(&mut self.compressed)
            .map_err(|error| classify(ArchiveFile::Artifact, error, &place()))
    }

    /// Exactly one zstd frame of exactly the promised size: nothing can grow beyond it.
    fn decompress(&mut self, number: u64, frame: &FrameInfo, mut buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let compressed = self.compressed.as_slice();
        let one = zstd::zstd_safe::find_frame_compressed_size(compressed) == Ok(compressed.len());
        let size = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten();
        if !one || size != Some(frame.size) {
            return Err(frame_fault(number, "it is not one zstd frame of the size that the index says"));
        }
        let capacity = usize::try_from(frame.size).map_err(|_| frame_fault(number, "it is too large"))?;
        buffer.clear();
        buffer.reserve_exact(capacity);
        self.decompressor
            .decompress_to_buffer(compressed, &mut buffer)
            .map_err(|error| frame_fault(number, &error.to_string()))?;
        if buffer.len() == capacity { Ok(buffer) } else { Err(frame_fault(number, "its size is wrong")) }
    }
}

fn frame_fault(number: u64, reason: &str) -> Error {
    Error::damaged(ArchiveFile::Artifact, format!("frame {number}: {reason}"))
}
