//! Bytes without a record, and records without bytes. Finding them deletes nothing.

use sqlx::AnyConnection;
use xvault_core::{SnapshotId, WorkerId};

use super::RecoveryError;
use super::listing::{Found, Place};
use super::stores::{KnownStore, store_of};
use crate::db::recovery::Recorded;
use crate::db::snapshots::{self, SnapshotStatus};
use crate::db::{Scope, copy_attempts, recovery};
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
    /// The same of snapshots that are to be deleted, while no worker is at it: where theirs is gone, nobody ever will be.
    pub deleting_without_bytes: Vec<SnapshotId>,
    /// Snapshots of which the records say that a copy lies there, which does not.
    pub copies_without_bytes: Vec<SnapshotId>,
    /// What lies there damaged, whether on record or not.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Snapshots that lie there and are on record as lying there.
    pub matching: u64,
}

/// Compares a store with the records. What a running backup has just made is no orphan, nor what is being deleted while it lies
/// there.
///
/// # Errors
/// When the database does not answer, or a bucket is of no store that the hub knows.
pub async fn orphans(db: &Db, found: &[Found], place: &Place) -> Result<Orphans, RecoveryError> {
    let (mut conn, mut orphans) = (db.conn().await?, Orphans::default());
    let store = store_of(&mut conn, place).await?;
    let mut recorded = on_record(&mut conn, found, place, store.as_ref()).await?;
    let mut copies = match &store {
        Some(store) => recovery::copies_in(&mut conn, &store.id, &store.bucket).await?,
        None => Vec::new(),
    };
    for one in found {
        let (id, manifest) = match one {
            Found::Sound { manifest, .. } => (&manifest.snapshot_id, Some(manifest)),
            Found::Damaged { snapshot_id, reason, .. } => {
                orphans.damaged.push((snapshot_id.clone(), reason.clone()));
                (snapshot_id, None)
            }
        };
        // Both, so that neither is missed afterwards.
        let is_on_record = take(&mut recorded, id) | take_id(&mut copies, id);
        let Some(manifest) = manifest else { continue };
        if is_on_record {
            orphans.matching += 1;
        } else {
            match snapshots::get(&mut conn, &Scope::All, id).await {
                Ok(record) if record.status == SnapshotStatus::Deleting => {}
                Ok(_) => orphans.elsewhere.push(id.clone()),
                Err(DbError::NotFound) if recovery::is_under_way(&mut conn, &manifest.job_id).await? => {}
                Err(DbError::NotFound) if is_to_go(&mut conn, store.as_ref(), id).await? => {}
                Err(DbError::NotFound) => orphans.without_record.push(id.clone()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    let (deleting, missing): (Vec<_>, Vec<_>) = recorded.into_iter().partition(|one| one.is_deleting);
    orphans.without_bytes = missing.into_iter().map(|one| one.id).collect();
    for one in deleting {
        if !recovery::is_worked_on(&mut conn, &one.id).await? {
            orphans.deleting_without_bytes.push(one.id);
        }
    }
    orphans.copies_without_bytes = copies;
    Ok(orphans)
}

/// Whether a sweep removes it.
async fn is_to_go(
    conn: &mut AnyConnection,
    store: Option<&KnownStore>,
    id: &SnapshotId,
) -> Result<bool, DbError> {
    match store {
        Some(store) => copy_attempts::is_to_go(conn, id, &store.id).await,
        None => Ok(false),
    }
}

/// Whether it was among them, and is not being deleted; it is not among them any more.
fn take(recorded: &mut Vec<Recorded>, id: &SnapshotId) -> bool {
    let is_there = recorded.iter().any(|one| one.id == *id && !one.is_deleting);
    recorded.retain(|one| one.id != *id);
    is_there
}

/// Whether it was among them; it is not any more.
fn take_id(ids: &mut Vec<SnapshotId>, id: &SnapshotId) -> bool {
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
) -> Result<Vec<Recorded>, RecoveryError> {
    let (path, named) = match (place, store) {
        (_, Some(store)) => return Ok(recovery::in_store(conn, &store.id, &store.bucket).await?),
        (Place::Directory { path, worker_id }, None) => (path, worker_id),
        (Place::Bucket { .. }, None) => return Ok(Vec::new()),
    };
    let makers = found.iter().filter_map(|one| match one {
        Found::Sound { manifest, .. } => Some(manifest.worker_id.clone()),
        Found::Damaged { .. } => None,
    });
    let workers: std::collections::BTreeSet<WorkerId> = match named {
        Some(worker) => [worker.clone()].into(),
        None => makers.collect(),
    };
    let (mut recorded, top) = (Vec::new(), format!("{}/tenants/", path.trim_end_matches('/')));
    for worker in workers {
        recorded.extend(recovery::on_disk(conn, &worker, &top).await?);
    }
    Ok(recorded)
}
