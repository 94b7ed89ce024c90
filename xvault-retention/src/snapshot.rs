//! What retention knows of a snapshot.

use jiff::Timestamp;
use xvault_core::SnapshotId;
use xvault_core::snapshot::{Completeness, Manifest, ReadBack};

/// How much of what was asked for a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Everything.
    Whole,
    /// Something could not be read.
    Partial,
    /// Nothing to rely on. Counts for no rule and is never the last good one.
    Failed,
}

impl From<Completeness> for Status {
    fn from(completeness: Completeness) -> Self {
        match completeness {
            Completeness::Whole => Self::Whole,
            Completeness::Partial => Self::Partial,
        }
    }
}

/// A snapshot of one source, as far as the rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which one. Of two snapshots of the same instant, the one with the greater id counts as newer.
    pub id: SnapshotId,
    /// When its backup began: the state of the source that it shows.
    pub at: Timestamp,
    /// How much it holds.
    pub status: Status,
    /// Whether all of it was read back after writing, or verified later.
    pub verified: bool,
    /// Why somebody put it on hold.
    pub hold: Option<String>,
    /// Until when its store lets nobody delete it.
    pub locked_until: Option<Timestamp>,
    /// Whether its store was seen to let nobody delete at all.
    pub undeletable: bool,
    /// What [`keep_tags`](crate::Rules::keep_tags) looks at.
    pub tags: Vec<String>,
}

impl Snapshot {
    /// A whole snapshot that was not verified, is neither on hold nor locked, may be deleted and has no tags.
    #[must_use]
    pub fn new(id: SnapshotId, at: Timestamp) -> Self {
        Self {
            id,
            at,
            status: Status::Whole,
            verified: false,
            hold: None,
            locked_until: None,
            undeletable: false,
            tags: Vec::new(),
        }
    }
}

impl From<&Manifest> for Snapshot {
    /// Verified when all of it was read back; a sample proves too little to delete an older snapshot for it.
    fn from(manifest: &Manifest) -> Self {
        Self {
            status: manifest.completeness.into(),
            verified: manifest.read_back.mode == ReadBack::Full,
            tags: manifest.tags.clone(),
            ..Self::new(manifest.snapshot_id.clone(), manifest.started_at)
        }
    }
}
