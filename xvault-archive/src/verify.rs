//! Checking a snapshot: its ciphertext without a key, or everything with one.

mod deep;
mod names;

use std::collections::BTreeSet;
use std::io::Read;

use xvault_core::snapshot::{FileDigest, Manifest, ReadBack, ReadBackReport, SnapshotKey};

use crate::digest::RunningDigest;
use crate::error::{ArchiveFile, Error};
use crate::index::Totals;
use crate::watch::Watch;
use crate::writer::ArchiveStats;

pub use deep::{deep, sample};

/// What was decrypted, decompressed and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose snapshot it is, by the index.
    pub key: SnapshotKey,
    /// Tar entries whose content hash (or whose header, if they have no content) was compared.
    pub entries: u64,
    /// Frames that were decrypted and decompressed.
    pub frames: u64,
    /// Bytes of the tar stream in these frames.
    pub bytes: u64,
    /// The index's last line, which agrees with the lines before it.
    pub totals: Totals,
    /// BLAKE3 of the plain index lines, as [`ArchiveStats::content_digest`].
    pub content_digest: [u8; 32],
}

impl Report {
    /// Compares with what the writer had in memory: afterwards it is certain that the store gives back what the source gave.
    ///
    /// # Errors
    /// [`Error::Mismatch`] names what differs.
    pub fn check_stats(&self, stats: &ArchiveStats) -> Result<(), Error> {
        let digest = |bytes: &[u8; 32]| xvault_core::snapshot::hex(bytes);
        same(
            ArchiveFile::Index,
            "its content digest",
            &digest(&stats.content_digest),
            &digest(&self.content_digest),
        )?;
        same(ArchiveFile::Artifact, "its tar size", &stats.tar_size_bytes, &self.totals.tar_size)
    }

    /// Compares with the snapshot's manifest.
    ///
    /// # Errors
    /// [`Error::Mismatch`] names what differs.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        same(ArchiveFile::Index, "the snapshot it belongs to", &manifest.key().prefix(), &self.key.prefix())?;
        same(ArchiveFile::Artifact, "its tar size", &manifest.tar_size_bytes, &self.totals.tar_size)?;
        let compressed = manifest.compressed_size_bytes;
        same(ArchiveFile::Artifact, "its compressed size", &compressed, &self.totals.zstd_size)?;
        let (expected, found) = (manifest.content_summary, self.totals.content);
        if expected == found {
            return Ok(());
        }
        same(ArchiveFile::Index, "its content summary", &format!("{expected:?}"), &format!("{found:?}"))
    }

    /// The numbers in the form of the manifest.
    #[must_use]
    pub fn read_back(&self, mode: ReadBack) -> ReadBackReport {
        ReadBackReport { mode, entries: self.entries, frames: self.frames, bytes: self.bytes }
    }
}

fn same<T: PartialEq + ToString>(
    file: ArchiveFile,
    what: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Mismatch { file, what, expected: expected.to_string(), found: found.to_string() })
}

/// Compares length and SHA-256 of both files with the manifest. Needs no key.
///
/// # Errors
/// [`Error::Truncated`] or [`Error::Mismatch`] names the file that differs.
pub fn quick(artifact: impl Read, index: impl Read, manifest: &Manifest, watch: &Watch) -> Result<(), Error> {
    check_digest(ArchiveFile::Artifact, artifact, &manifest.artifact, watch)?;
    check_digest(ArchiveFile::Index, index, &manifest.index, watch)
}

/// Compares length and SHA-256 of one file.
///
/// # Errors
/// As [`quick`].
pub fn check_digest(
    file: ArchiveFile,
    mut reader: impl Read,
    expected: &FileDigest,
    watch: &Watch,
) -> Result<(), Error> {
    let found = digest_of(file, &mut reader, watch)?;
    if found.size_bytes < expected.size_bytes {
        let reason = format!("it has {} of {} bytes", found.size_bytes, expected.size_bytes);
        return Err(Error::Truncated { file, reason });
    }
    same(file, "its length in bytes", &expected.size_bytes, &found.size_bytes)?;
    same(file, "its SHA-256", &expected.sha256, &found.sha256)
}

fn digest_of(file: ArchiveFile, reader: &mut impl Read, watch: &Watch) -> Result<FileDigest, Error> {
    let (mut digest, mut buffer) = (RunningDigest::default(), vec![0; 256 << 10]);
    loop {
        watch.check()?;
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(digest.finish()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::Io { op: "read", file, source }),
        };
        digest.update(buffer.get(..read).unwrap_or_default());
        watch.progress.bytes(read as u64);
    }
}

/// The frames that a sample looks at: the first, the last and up to `random` others, chosen by `seed`.
#[must_use]
pub fn sample_frames(total: u64, random: u64, seed: u64) -> BTreeSet<u64> {
    let Some(last) = total.checked_sub(1) else { return BTreeSet::new() };
    let mut frames = BTreeSet::from([0, last]);
    let mut state = seed;
    for _ in 0..random {
        frames.insert(next_random(&mut state) % total);
    }
    frames
}

/// SplitMix64: spreads a seed well enough to pick frames, and is the same everywhere.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
