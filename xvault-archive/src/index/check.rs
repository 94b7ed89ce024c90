//! What the lines of an index promise each other.

use xvault_core::snapshot::ContentSummary;
use xvault_core::tar::BLOCK_LEN;
use xvault_core::{Entry, EntryKind, Metadata};

use super::{
    CLOSING_SUFFIX, FrameInfo, IndexEntry, IndexHeader, Joined, MAX_FRAME_SIZE, Record, Segment, Totals,
    closing_name, part_name,
};

/// The two zero blocks that end a tar stream.
pub(crate) const TAR_END: [u8; 2 * BLOCK_LEN] = [0; 2 * BLOCK_LEN];

/// Their length.
pub(crate) const TAR_END_LEN: u64 = TAR_END.len() as u64;

/// Counts along and refuses the first line that does not follow from those before.
pub(super) struct Checker {
    frame_size: u64,
    /// Where the next entry must begin.
    entries_end: u64,
    /// Where the next frame must begin; `zstd_size` and `frames` count on in `counted`.
    frames_end: u64,
    last_frame_seen: bool,
    counted: Totals,
    parts: Option<Parts>,
}

/// A file in segments whose closing line has not come yet.
struct Parts {
    name: Vec<u8>,
    metadata: Metadata,
    number: u64,
    length: u64,
}

type Fault = &'static str;

impl Checker {
    pub(super) fn new(header: &IndexHeader) -> Result<Self, Fault> {
        if header.frame_size == 0 || header.frame_size > MAX_FRAME_SIZE {
            return Err("its frame size is zero or larger than 64 MiB");
        }
        Ok(Self {
            frame_size: header.frame_size,
            entries_end: 0,
            frames_end: 0,
            last_frame_seen: false,
            counted: Totals::default(),
            parts: None,
        })
    }

    pub(super) fn check(&mut self, record: &Record) -> Result<(), Fault> {
        match record {
            Record::Header(_) => Err("it has a second header"),
            Record::Entry(entry) => self.entry(entry),
            Record::Frame(frame) => self.frame(frame),
            Record::Warning(_) => {
                self.counted.content.warnings += 1;
                Ok(())
            }
            Record::End(totals) => self.end(totals),
        }
    }

    fn entry(&mut self, entry: &IndexEntry) -> Result<(), Fault> {
        let blocks = entry.data_offset.checked_sub(entry.offset).filter(|len| *len > 0);
        if entry.offset != self.entries_end || blocks.is_none_or(|len| len % BLOCK_LEN as u64 != 0) {
            return Err("an entry does not begin where the one before it ends");
        }
        // Far from the edge, so that no later sum can overflow.
        if entry.size() > u64::MAX >> 2 || entry.data_offset > u64::MAX >> 2 {
            return Err("an entry is larger than any file can be");
        }
        if entry.end() <= self.frames_end {
            return Err("an entry's line comes after the frame it ends in");
        }
        self.segment(entry)?;
        self.count(&entry.entry, entry.size(), entry.segment);
        self.entries_end = entry.end();
        self.counted.entries += 1;
        Ok(())
    }

    fn count(&mut self, entry: &Entry, size: u64, segment: Option<Segment>) {
        let content: &mut ContentSummary = &mut self.counted.content;
        match (&entry.kind, segment) {
            (_, Some(Segment::Closing(_))) => content.files += 1,
            (_, Some(Segment::Part { .. })) => content.bytes += size,
            (EntryKind::File { .. } | EntryKind::Stream, None) => {
                content.files += 1;
                content.bytes += size;
            }
            (EntryKind::Directory, None) => content.directories += 1,
            (EntryKind::Symlink { .. }, None) => content.symlinks += 1,
            (EntryKind::Hardlink { .. }, None) => content.hardlinks += 1,
        }
    }

    fn segment(&mut self, entry: &IndexEntry) -> Result<(), Fault> {
        match (entry.segment, self.parts.take()) {
            (None, None) => Ok(()),
            (Some(Segment::Part { number: 1 }), None) => {
                let path = entry.entry.path.as_bytes();
                let name = path.strip_suffix(part_name(b"", 1).as_slice()).filter(|name| !name.is_empty());
                let name = name.ok_or("a part is not named like one")?.to_vec();
                let metadata = entry.entry.metadata.clone();
                self.parts = Some(Parts { name, metadata, number: 1, length: entry.size() });
                Ok(())
            }
            (Some(Segment::Part { number }), Some(parts)) => {
                self.parts = Some(next_part(parts, number, entry)?);
                Ok(())
            }
            (Some(Segment::Closing(joined)), Some(parts)) => close(&parts, &joined, entry),
            _ => Err("the parts of a file are not complete and in order"),
        }
    }

    fn frame(&mut self, frame: &FrameInfo) -> Result<(), Fault> {
        if frame.offset != self.frames_end || frame.zstd_offset != self.counted.zstd_size {
            return Err("a frame does not begin where the one before it ends");
        }
        if frame.size == 0 || frame.size > self.frame_size || self.last_frame_seen {
            return Err("a frame has not the size of all frames");
        }
        if !(least_frame_len(frame.size)..=frame_bound(frame.size)).contains(&frame.zstd_size) {
            return Err("a frame's compressed size can't be");
        }
        self.last_frame_seen = frame.size < self.frame_size;
        self.frames_end += frame.size;
        self.counted.zstd_size += frame.zstd_size;
        self.counted.frames += 1;
        if self.entries_end > self.frames_end {
            return Err("an entry's line comes before the frame it ends in");
        }
        Ok(())
    }

    fn end(&mut self, totals: &Totals) -> Result<(), Fault> {
        if self.parts.is_some() {
            return Err("the parts of a file are not complete");
        }
        self.counted.tar_size = self.frames_end;
        self.counted.content.skipped = totals.content.skipped;
        if *totals != self.counted {
            return Err("its totals do not add up");
        }
        if self.frames_end != self.entries_end + TAR_END_LEN {
            return Err("its entries do not fill its frames");
        }
        Ok(())
    }
}

fn next_part(mut parts: Parts, number: u64, entry: &IndexEntry) -> Result<Parts, Fault> {
    parts.number += 1;
    parts.length += entry.size();
    let expected = part_name(&parts.name, parts.number);
    if number != parts.number
        || entry.entry.path.as_bytes() != expected
        || entry.entry.metadata != parts.metadata
    {
        return Err("the parts of a file are not in order");
    }
    Ok(parts)
}

fn close(parts: &Parts, joined: &Joined, entry: &IndexEntry) -> Result<(), Fault> {
    let agrees = entry.entry.path.as_bytes() == closing_name(&parts.name)
        && entry.entry.path.as_bytes().len() > CLOSING_SUFFIX.len()
        && entry.entry.metadata == parts.metadata
        && (joined.parts, joined.length) == (parts.number, parts.length);
    if agrees { Ok(()) } else { Err("the parts of a file do not add up") }
}

/// The most bytes that `size` bytes of tar compress to; as `ZSTD_compressBound`, and its checksum.
pub(crate) fn frame_bound(size: u64) -> u64 {
    size + (size >> 8) + 1024
}

/// The fewest bytes that `size` bytes of tar compress to: a zstd block holds at most 128 KiB and takes at least four bytes
/// (RFC 8878, 3.1.1.2). What claims less is a bomb, known as one before anything is decompressed.
fn least_frame_len(size: u64) -> u64 {
    (size >> 17) * 4 + 1
}
