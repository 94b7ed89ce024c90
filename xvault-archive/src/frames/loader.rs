//! Decrypting and decompressing one frame.

use std::io::{Read, Seek, SeekFrom};

use age::stream::StreamReader;
use xvault_core::Identity;

use super::frame_fault;
use crate::error::{ArchiveFile, Error};
use crate::index::FrameInfo;
use crate::input::{Input, classify, decrypt};

/// An opened artifact.
pub(super) struct Loader<A> {
    stream: StreamReader<Input<A>>,
    /// Length of the zstd stream, authenticated when the artifact was opened.
    len: u64,
    decompressor: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
}

impl<A: Read + Seek> Loader<A> {
    /// Opens the artifact and reads its last chunk: a truncated one is noticed here.
    pub(super) fn open(artifact: A, identities: &[Identity]) -> Result<Self, Error> {
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
        Ok(Self { stream, len, decompressor, compressed: Vec::new() })
    }

    /// Length of the zstd stream.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The tar bytes of a frame, in the memory of `buffer`.
    pub(super) fn load(&mut self, number: u64, frame: &FrameInfo, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.read_compressed(number, frame)?;
        self.decompress(number, frame, buffer)
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
