//! Very much of nothing in very few bytes.

use serde_json::json;
use xvault_core::snapshot::ContentSummary;

use super::{Crafted, Forged, header_block, zstd_of};

/// The size of a bomb's frames: the largest that the format has.
pub const FRAME: u64 = 64 << 20;

/// One file `zeros` of a size that is a multiple of [`FRAME`], with a content hash that is not its own. About 2 KiB for each
/// [`FRAME`].
#[derive(Debug)]
pub struct Zeros {
    /// The file's index line and totals.
    pub crafted: Crafted,
    /// The first frame: the file's header, and zeros.
    pub head: Vec<u8>,
    /// Each of the others.
    pub zeros: Vec<u8>,
    /// The last frame, of [`Zeros::TAIL`] bytes.
    pub tail: Vec<u8>,
    count: u64,
}

impl Zeros {
    /// The plain size of the last frame: header, file and the two blocks of the end, less what full frames hold.
    pub const TAIL: u64 = 1536;

    /// A bomb of `size` bytes.
    ///
    /// # Panics
    /// When that is no multiple of [`FRAME`].
    #[must_use]
    pub fn new(size: u64) -> Self {
        assert!(size > 0 && size.is_multiple_of(FRAME), "{size} bytes are no whole frames");
        let header = header_block("zeros", b'0', size, "");
        let totals = ContentSummary { files: 1, bytes: size, ..ContentSummary::default() };
        let mut crafted = Crafted { tar: header.clone(), totals, ..Crafted::default() };
        let blake3 = blake3::hash(b"something else").to_hex().to_string();
        crafted.line("zeros", 1, &json!({"kind": "file", "size": size, "blake3": blake3}));
        let mut first = header;
        first.resize(FRAME.try_into().unwrap(), 0);
        let zeros = zstd_of(&vec![0; first.len()]);
        Self { crafted, head: zstd_of(&first), zeros, tail: zstd_of(&[0; 1536]), count: size / FRAME }
    }

    /// What an honest index says: plain and compressed size of each frame.
    #[must_use]
    pub fn frames(&self) -> Vec<(u64, u64)> {
        let mut frames = vec![(FRAME, self.zeros.len() as u64); self.count.try_into().unwrap()];
        frames[0].1 = self.head.len() as u64;
        frames.push((Self::TAIL, self.tail.len() as u64));
        frames
    }

    /// The whole zstd stream.
    #[must_use]
    pub fn zstd(&self) -> Vec<u8> {
        let mut zstd = self.head.clone();
        for _ in 1..self.count {
            zstd.extend_from_slice(&self.zeros);
        }
        zstd.extend_from_slice(&self.tail);
        zstd
    }

    /// All of it, told honestly but for the content hash.
    #[must_use]
    pub fn whole(&self) -> Forged {
        self.crafted.with_frames(&self.zstd(), &self.frames(), FRAME)
    }

    /// An index that tells of all frames, over an artifact that has only three.
    #[must_use]
    pub fn promised(&self) -> Forged {
        let three = [&*self.head, &*self.zeros, &*self.tail].concat();
        self.crafted.with_frames(&three, &self.frames(), FRAME)
    }
}
