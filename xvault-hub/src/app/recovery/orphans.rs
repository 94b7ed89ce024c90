//! Bytes without a record, and records without bytes. Finding them deletes nothing.

use serde_json::json;
use xvault_core::SnapshotId;

use super::RecoveryError;
use super::listing::{Found, Place};
use crate::app::audit::{Deed, record_by_system};
use crate::db::{Scope, recovery, snapshots};
use crate::{Db, DbError};

/// What a store and the hub's records do not agree about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Snapshots that lie in the store and are on no record.
    pub without_record: Vec<SnapshotId>,
    /// Records of snapshots that do not lie there.
    pub without_bytes: Vec<SnapshotId>,
    /// What lies there damaged, whether on record or not.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Snapshots that lie there and are on record.
    pub matching: u64,
}

/// Compares a store with the records. What a running backup has just made is no orphan, and what is being deleted has no
/// record to compare.
///
/// # Errors
/// When the database does not answer.
pub async fn orphans(db: &Db, found: &[Found], place: &Place) -> Result<Orphans, RecoveryError> {
    let (mut conn, mut orphans) = (db.conn().await?, Orphans::default());
    let mut missing = Vec::new();
    for locator in places(found, place) {
        missing.extend(recovery::on_record(&mut conn, &locator).await?);
    }
    for one in found {
        let id = match one {
            Found::Sound(manifest) => &manifest.snapshot_id,
            Found::Damaged { snapshot_id, reason, .. } => {
                orphans.damaged.push((snapshot_id.clone(), reason.clone()));
                snapshot_id
            }
        };
        missing.retain(|other| other != id);
        let Found::Sound(manifest) = one else { continue };
        if !snapshots::existing(&mut conn, std::slice::from_ref(id)).await?.is_empty() {
            orphans.matching += 1;
        } else if !recovery::is_under_way(&mut conn, &manifest.job_id).await? {
            orphans.without_record.push(id.clone());
        }
    }
    orphans.without_bytes = missing;
    Ok(orphans)
}

/// Where records must say that snapshots of this place lie: one place for each worker whose snapshots are in it.
fn places(found: &[Found], place: &Place) -> Vec<xvault_core::snapshot::Locator> {
    let mut places: Vec<xvault_core::snapshot::Locator> = Vec::new();
    let sound = found.iter().filter_map(|one| match one {
        Found::Sound(manifest) => Some(manifest),
        Found::Damaged { .. } => None,
    });
    let workers = sound.map(|manifest| manifest.worker_id.clone());
    let named = match place {
        Place::Directory { worker_id, .. } => worker_id.clone(),
        Place::Bucket { .. } => None,
    };
    for worker in named.into_iter().chain(workers) {
        let top = place.top(&worker);
        if !places.contains(&top) {
            places.push(top);
        }
    }
    places
}

/// Takes away the record of a snapshot whose bytes are gone. Audited. False when there is none.
///
/// # Errors
/// When the database refuses: a job works on it, say.
pub async fn forget_record(db: &Db, id: &SnapshotId) -> Result<bool, RecoveryError> {
    let mut tx = db.begin().await?;
    let snapshot = match snapshots::get(&mut tx, &Scope::All, id).await {
        Err(DbError::NotFound) => return Ok(false),
        snapshot => snapshot?,
    };
    snapshots::delete(&mut tx, id).await?;
    let deed = Deed {
        action: "snapshot.forget_record",
        target_type: "snapshot",
        target_id: id.as_str(),
        tenant_id: Some(&snapshot.tenant_id),
        details: json!({ "source_id": snapshot.source_id, "why": "its bytes are gone" }),
    };
    record_by_system(&mut tx, deed, xvault_core::clock::now()).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(true)
}
