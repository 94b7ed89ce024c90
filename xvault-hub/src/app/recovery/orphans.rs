//! Bytes without a record, and records without bytes. Finding them deletes nothing.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::{SnapshotId, WorkerId};

use super::RecoveryError;
use super::listing::{Found, Place};
use super::stores::{KnownStore, store_of};
use crate::app::audit::{Deed, record_by_system};
use crate::db::snapshots::{self, SnapshotStatus};
use crate::db::{Scope, recovery, snapshot_copies};
use crate::{Db, DbError};

/// What a store and the hub's records do not agree about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Snapshots that lie in the store and are on no record.
    pub without_record: Vec<SnapshotId>,
    /// Snapshots that lie in the store and are on record as lying elsewhere only.
    pub elsewhere: Vec<SnapshotId>,
    /// Records of snapshots that do not lie there.
    pub without_bytes: Vec<SnapshotId>,
    /// Snapshots of which the records say that a copy lies there, which does not.
    pub copies_without_bytes: Vec<SnapshotId>,
    /// What lies there damaged, whether on record or not.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Snapshots that lie there and are on record as lying there.
    pub matching: u64,
}

/// Compares a store with the records. What a running backup has just made is no orphan, and what is being deleted has no
/// record to compare.
///
/// # Errors
/// When the database does not answer, or a bucket is of no store that the hub knows.
pub async fn orphans(db: &Db, found: &[Found], place: &Place) -> Result<Orphans, RecoveryError> {
    let (mut conn, mut orphans) = (db.conn().await?, Orphans::default());
    let store = store_of(&mut conn, place).await?;
    let mut missing = on_record(&mut conn, found, place, store.as_ref()).await?;
    let mut copies = match &store {
        Some(store) => recovery::copies_in(&mut conn, &store.id, &store.bucket).await?,
        None => Vec::new(),
    };
    for one in found {
        let (id, manifest) = match one {
            Found::Sound(manifest) => (&manifest.snapshot_id, Some(manifest)),
            Found::Damaged { snapshot_id, reason, .. } => {
                orphans.damaged.push((snapshot_id.clone(), reason.clone()));
                (snapshot_id, None)
            }
        };
        // Both, so that neither is missed afterwards.
        let is_on_record = take(&mut missing, id) | take(&mut copies, id);
        let Some(manifest) = manifest else { continue };
        if is_on_record {
            orphans.matching += 1;
        } else {
            match snapshots::get(&mut conn, &Scope::All, id).await {
                Ok(record) if record.status == SnapshotStatus::Deleting => {}
                Ok(_) => orphans.elsewhere.push(id.clone()),
                Err(DbError::NotFound) if recovery::is_under_way(&mut conn, &manifest.job_id).await? => {}
                Err(DbError::NotFound) => orphans.without_record.push(id.clone()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    (orphans.without_bytes, orphans.copies_without_bytes) = (missing, copies);
    Ok(orphans)
}

/// Whether it was among them; it is not any more.
fn take(ids: &mut Vec<SnapshotId>, id: &SnapshotId) -> bool {
    let before = ids.len();
    ids.retain(|other| other != id);
    ids.len() < before
}

/// The snapshots of which the records say that they lie at this place: of a directory, on the disks of those workers whose
/// snapshots are in it, and of the one that was named.
async fn on_record(
    conn: &mut AnyConnection,
    found: &[Found],
    place: &Place,
    store: Option<&KnownStore>,
) -> Result<Vec<SnapshotId>, RecoveryError> {
    let (path, named) = match (place, store) {
        (_, Some(store)) => return Ok(recovery::in_store(conn, &store.id, &store.bucket).await?),
        (Place::Directory { path, worker_id }, None) => (path, worker_id),
        (Place::Bucket { .. }, None) => return Ok(Vec::new()),
    };
    let makers = found.iter().filter_map(|one| match one {
        Found::Sound(manifest) => Some(manifest.worker_id.clone()),
        Found::Damaged { .. } => None,
    });
    let workers: std::collections::BTreeSet<WorkerId> = match named {
        Some(worker) => [worker.clone()].into(),
        None => makers.collect(),
    };
    let (mut ids, top) = (Vec::new(), format!("{}/tenants/", path.trim_end_matches('/')));
    for worker in workers {
        ids.extend(recovery::on_disk(conn, &worker, &top).await?);
    }
    Ok(ids)
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

/// Takes away the record of a copy whose bytes are gone: the hub then has it made anew. Audited. False when there is none.
///
/// # Errors
/// When the database refuses, or a bucket is of no store that the hub knows.
pub async fn forget_copy(db: &Db, id: &SnapshotId, place: &Place) -> Result<bool, RecoveryError> {
    let mut tx = db.begin().await?;
    let Some(store) = store_of(&mut tx, place).await? else { return Ok(false) };
    let Some(tenant_id) = snapshot_copies::forget(&mut tx, id, &store.id).await? else { return Ok(false) };
    let deed = Deed {
        action: "snapshot.forget_copy",
        target_type: "snapshot",
        target_id: id.as_str(),
        tenant_id: Some(&tenant_id),
        details: json!({ "store_id": store.id, "why": "its bytes are gone" }),
    };
    record_by_system(&mut tx, deed, xvault_core::clock::now()).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(true)
}
