//! Jobs about a store itself: what it really does, and what lies in it that nobody wants.

use serde::{Deserialize, Serialize};

use super::StoreAccess;
use crate::{SnapshotId, SnapshotKey};

/// A store to be looked into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TestStoreTask {
    /// Which one.
    pub store: StoreAccess,
    /// Below it, objects are made and removed.
    pub prefix: String,
}

/// Something that stores do, or only seem to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Ability {
    /// It takes an object.
    Write,
    /// It gives the object back as it was.
    Read,
    /// It gives a part of it.
    Range,
    /// It lists it.
    List,
    /// It refuses an object whose bytes are not what the request says.
    Checksums,
    /// It refuses to write over an object when it is asked to.
    ConditionalPut,
    /// It keeps what is written over or deleted.
    Versioning,
    /// It deletes a version that is not locked.
    DeleteVersion,
    /// It refuses to delete what is locked in compliance mode, and to shorten the lock.
    ObjectLock,
    /// The same in governance mode.
    GovernanceLock,
    /// It deletes the object.
    Delete,
}

/// Whether it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Found {
    /// It was seen to.
    Yes,
    /// It was seen not to, or refused to this credential.
    No,
    /// It could not be tried.
    Unknown,
}

/// What was seen of one ability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Observation {
    /// Which.
    pub ability: Ability,
    /// Whether it is there.
    pub found: Found,
    /// What was done and answered, in a sentence without secrets.
    pub seen: String,
}

/// What a test of a store saw: one observation per ability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoreReport {
    /// In the order they were made.
    pub observations: Vec<Observation>,
}

impl StoreReport {
    /// Whether the store was seen to do this.
    #[must_use]
    pub fn has(&self, ability: Ability) -> bool {
        self.found(ability) == Found::Yes
    }

    /// What was seen of this; what is not told could not be tried.
    #[must_use]
    pub fn found(&self, ability: Ability) -> Found {
        let observed = self.observations.iter().find(|seen| seen.ability == ability);
        observed.map_or(Found::Unknown, |seen| seen.found)
    }
}

/// A store to be swept, below one prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SweepStoreTask {
    /// Which one.
    pub store: StoreAccess,
    /// `tenants/…`: nothing else is looked at.
    pub prefix: String,
    /// Uploads and objects without a manifest go when nothing was written to their snapshot for longer than this.
    pub older_than_ms: u64,
    /// Snapshots of attempts that are over and not on record: they go, unless a hub may have been told of them.
    pub attempts: Vec<SnapshotKey>,
    /// Snapshots that were deleted, and of which a copy may have been made that nobody told of: they go in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<SnapshotKey>,
    /// Snapshots that jobs are writing now: they stay, however long ago something was written to them. (One that reads back what it
    /// wrote writes nothing, and some servers date an object by the beginning of its upload.)
    #[serde(default)]
    pub running: Vec<SnapshotKey>,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SweepReport {
    /// Of the attempts and of the deleted ones, those of which nothing is left.
    pub removed: Vec<SnapshotId>,
    /// Of the attempts, those that stay: a hub may have been told of them, and nobody has taken that back.
    pub kept: Vec<SnapshotId>,
    /// Other remains that were removed.
    pub remains: u64,
    /// Remains that may be of backups that run.
    pub in_use: u64,
    /// What could not be removed.
    pub failed: u64,
}
