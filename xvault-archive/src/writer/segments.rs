//! Bodies of unknown length: a plain file when they end soon, else numbered parts and a closing entry.

use std::io::Write;

use serde::{Deserialize, Serialize};
use xvault_core::snapshot::hex;
use xvault_core::{Entry, EntryKind, EntryPath};

use crate::error::Error;
use crate::index::{Joined, Segment, closing_name, part_name};
use crate::writer::{ArchiveWriter, Body};

/// A body that is still coming, up to a segment of it in memory.
pub(super) struct SegmentedBody {
    entry: Entry,
    buffer: Vec<u8>,
    segment_size: usize,
    parts: u64,
    length: u64,
    hasher: blake3::Hasher,
}

impl SegmentedBody {
    pub(super) fn new(entry: Entry, segment_size: usize) -> Self {
        Self { entry, buffer: Vec::new(), segment_size, parts: 0, length: 0, hasher: blake3::Hasher::new() }
    }

    fn entry_named(&self, path: Vec<u8>, size: usize) -> Result<Entry, Error> {
        let path =
            EntryPath::new(path).map_err(|_| Error::Misuse("the name of a stream is too long for parts"))?;
        Ok(Entry { path, kind: EntryKind::File { size: size as u64 }, metadata: self.entry.metadata.clone() })
    }
}

/// The body of `NAME.parts.json`: what a restore by hand checks after `cat NAME.part-*`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartsFile {
    pub(crate) parts: u64,
    pub(crate) length: u64,
    pub(crate) blake3: String,
}

impl From<&Joined> for PartsFile {
    fn from(joined: &Joined) -> Self {
        Self { parts: joined.parts, length: joined.length, blake3: hex(&joined.blake3) }
    }
}

impl<W: Write + Send + 'static, I: Write + Send + 'static> ArchiveWriter<W, I> {
    pub(super) fn write_stream(&mut self, mut chunk: &[u8]) -> Result<(), Error> {
        let Body::Stream(mut stream) = std::mem::replace(&mut self.body, Body::None) else {
            return Err(Error::Misuse("data outside a body"));
        };
        stream.length += chunk.len() as u64;
        stream.hasher.update(chunk);
        while !chunk.is_empty() {
            // A full segment waits until more comes: a stream of exactly its size stays one file.
            if stream.buffer.len() == stream.segment_size {
                self.put_part(&mut stream)?;
            }
            let (now, later) = chunk.split_at(chunk.len().min(stream.segment_size - stream.buffer.len()));
            stream.buffer.extend_from_slice(now);
            chunk = later;
        }
        self.body = Body::Stream(stream);
        Ok(())
    }

    pub(super) fn end_stream(&mut self, mut stream: SegmentedBody) -> Result<(), Error> {
        self.content.files += 1;
        if stream.parts == 0 {
            let entry = stream.entry_named(stream.entry.path.as_bytes().to_vec(), stream.buffer.len())?;
            return self.put_whole(entry, &stream.buffer, None);
        }
        self.put_part(&mut stream)?;
        let blake3 = stream.hasher.finalize().into();
        let joined = Joined { parts: stream.parts, length: stream.length, blake3 };
        let json = serde_json::to_vec(&PartsFile::from(&joined))
            .map_err(|_| Error::Misuse("the parts of a stream can't be described"))?;
        let entry = stream.entry_named(closing_name(stream.entry.path.as_bytes()), json.len())?;
        self.remember(&entry.path)?;
        self.put_whole(entry, &json, Some(Segment::Closing(joined)))
    }

    fn put_part(&mut self, stream: &mut SegmentedBody) -> Result<(), Error> {
        stream.parts += 1;
        let name = part_name(stream.entry.path.as_bytes(), stream.parts);
        let entry = stream.entry_named(name, stream.buffer.len())?;
        self.remember(&entry.path)?;
        self.put_whole(entry, &stream.buffer, Some(Segment::Part { number: stream.parts }))?;
        stream.buffer.clear();
        Ok(())
    }

    /// An entry whose body is at hand.
    fn put_whole(&mut self, entry: Entry, body: &[u8], segment: Option<Segment>) -> Result<(), Error> {
        let written = self.put_header(entry, segment)?;
        self.packer()?.put(body)?;
        self.end_file(written, blake3::hash(body))
    }
}
