//! From fuzzed bytes to the two files of a snapshot, repaired so far that a reader does not stop at the door.
//!
//! The bytes are the plain lines of an index, a zero byte, and a plain tar stream. What follows
//! from the tar stream alone (where compressed frames lie, most content hashes) is filled in as somebody
//! with a keyboard and the recipient's public key would; everything else stays as hostile as it came.

use serde_json::{Map, Value};

use crate::mutate::Rng;
use crate::sealed::{encrypted, frame};

/// Frames when the header names no small size; larger ones only cost time.
const FRAME_SIZE: usize = 4096;
const FRAME_SIZES: std::ops::RangeInclusive<u64> = 512..=(64 << 10);

/// The two files as a store would give them.
pub(crate) struct Snapshot {
    /// `backup.tar.zst.enc`.
    pub(crate) artifact: Vec<u8>,
    /// `index.zst.enc`.
    pub(crate) index: Vec<u8>,
}

/// The snapshot that `data` describes.
pub(crate) fn snapshot(data: &[u8]) -> Snapshot {
    let border = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (lines, tar) = data.split_at(border);
    let tar = tar.get(1..).unwrap_or_default();
    let frames: Vec<Vec<u8>> = tar.chunks(frame_size(lines)).map(frame).collect();
    let mut repair = Repair { tar, frames: &frames, frame: 0, hashes: Rng::of(data).below(4) != 0 };
    let lines: Vec<Vec<u8>> = lines.split(|byte| *byte == b'\n').map(|line| repair.line(line)).collect();
    Snapshot { artifact: encrypted(&frames.concat()), index: encrypted(&frame(&lines.join(&b'\n'))) }
}

fn frame_size(lines: &[u8]) -> usize {
    let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let header: Option<Value> = serde_json::from_slice(first).ok();
    let size = header.and_then(|header| header.get("frame_size")?.as_u64());
    let size = size.filter(|size| FRAME_SIZES.contains(size));
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(FRAME_SIZE)
}

struct Repair<'a> {
    tar: &'a [u8],
    frames: &'a [Vec<u8>],
    /// The number of the next frame line.
    frame: usize,
    /// Whether content hashes are made right; now and then they are not.
    hashes: bool,
}

impl Repair<'_> {
    fn line(&mut self, line: &[u8]) -> Vec<u8> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else { return line.to_vec() };
        match fields.get("type").and_then(Value::as_str) {
            Some("frame") => self.frame_line(&mut fields),
            Some("entry") => self.entry_line(&mut fields),
            Some("end") => self.end_line(&mut fields),
            _ => return line.to_vec(),
        }
        Value::Object(fields).to_string().into_bytes()
    }

    fn zstd_size(&self, frames: usize) -> usize {
        self.frames.iter().take(frames).map(Vec::len).sum()
    }

    fn frame_line(&mut self, fields: &mut Map<String, Value>) {
        let size = self.frames.get(self.frame).map_or(0, Vec::len);
        fields.insert("zstd_offset".into(), Value::from(self.zstd_size(self.frame)));
        fields.insert("zstd_size".into(), Value::from(size));
        self.frame += 1;
    }

    fn end_line(&self, fields: &mut Map<String, Value>) {
        fields.insert("zstd_size".into(), Value::from(self.zstd_size(self.frames.len())));
    }

    fn entry_line(&self, fields: &mut Map<String, Value>) {
        let number = |name| fields.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let (Some(start), Some(size)) = (number("data_offset"), number("size")) else { return };
        let Some(body) = self.tar.get(start..start.saturating_add(size)) else { return };
        if self.hashes && fields.contains_key("blake3") {
            fields.insert("blake3".into(), Value::from(blake3::hash(body).to_string()));
        }
    }
}
