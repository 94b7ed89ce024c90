//! Bytes without a record, and records without bytes. Finding them deletes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{Manifest, SnapshotId, WorkerId};

use super::RecoveryError;
use super::listing::{Found, Listing, Place};
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
    /// What lies there with a sound manifest, and was found damaged by a verification.
    pub known_damaged: Vec<(SnapshotId, String)>,
    /// Snapshots that lie there and are on record as lying there.
    pub matching: u64,
}

/// Compares a store with the records. What a running backup has just made is no orphan, nor what is being deleted while it lies
/// there; what has come on record or was deleted since the listing was begun is not judged by it.
///
/// # Errors
/// When the database does not answer, or a bucket is of no store that the hub knows.
pub async fn orphans(db: &Db, listing: &Listing, place: &Place) -> Result<Orphans, RecoveryError> {
    let (mut conn, mut orphans) = (db.conn().await?, Orphans::default());
    let store = store_of(&mut conn, place).await?;
    let mut records = Records::read(&mut conn, listing, place, store.as_ref()).await?;
    for one in &listing.found {
        let (id, manifest) = match one {
            Found::Sound { manifest, .. } => (&manifest.snapshot_id, Some(manifest)),
            Found::Damaged { snapshot_id, reason, .. } => {
                orphans.damaged.push((snapshot_id.clone(), reason.clone()));
                (snapshot_id, None)
            }
        };
        let on_record = records.take(id);
        let Some(manifest) = manifest else { continue };
        if let Some(damage) = on_record {
            orphans.matching += 1;
            orphans.known_damaged.extend(damage.map(|damage| (id.clone(), damage)));
        } else {
            unrecorded(&mut conn, &mut orphans, (manifest, listing.begun_at), store.as_ref()).await?;
        }
    }
    records.left(&mut conn, listing.begun_at, &mut orphans).await?;
    Ok(orphans)
}

/// One that lies there and is not on record as lying there.
async fn unrecorded(
    conn: &mut AnyConnection,
    orphans: &mut Orphans,
    (manifest, listed_at): (&Manifest, Timestamp),
    store: Option<&KnownStore>,
) -> Result<(), RecoveryError> {
    let id = &manifest.snapshot_id;
    // Asked first: what its worker tells of in between is on record then.
    let is_under_way = recovery::is_under_way(conn, &manifest.job_id).await?;
    match snapshots::get(conn, &Scope::All, id).await {
        Ok(record) if record.status == SnapshotStatus::Deleting || record.created_at >= listed_at => {}
        Ok(_) => orphans.elsewhere.push(id.clone()),
        Err(DbError::NotFound) if is_under_way => {}
        Err(DbError::NotFound) if is_to_go(conn, store, id).await? => {}
        Err(DbError::NotFound) if recovery::was_deleted_since(conn, id, listed_at).await? => {}
        Err(DbError::NotFound) => orphans.without_record.push(id.clone()),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// What is on record as lying at a place, until it was found there.
struct Records {
    snapshots: BTreeMap<SnapshotId, Recorded>,
    copies: BTreeMap<SnapshotId, Timestamp>,
}

impl Records {
    async fn read(
        conn: &mut AnyConnection,
        listing: &Listing,
        place: &Place,
        store: Option<&KnownStore>,
    ) -> Result<Self, RecoveryError> {
        let snapshots = on_record(conn, &listing.found, place, store).await?;
        let copies = match store {
            Some(store) => recovery::copies_in(conn, &store.id, &store.bucket).await?,
            None => Vec::new(),
        };
        let snapshots = snapshots.into_iter().map(|one| (one.id.clone(), one)).collect();
        Ok(Self { snapshots, copies: copies.into_iter().collect() })
    }

    /// One that was among them, as a copy or as one that is not being deleted, with what is damaged of it; it is not among them any more.
    fn take(&mut self, id: &SnapshotId) -> Option<Option<String>> {
        let (snapshot, copy) = (self.snapshots.remove(id), self.copies.remove(id));
        snapshot.filter(|one| !one.is_deleting).map(|one| one.damage).or(copy.map(|_| None))
    }

    /// Tells those that were not found, unless they came on record after somebody began to look.
    async fn left(
        self,
        conn: &mut AnyConnection,
        listed_at: Timestamp,
        orphans: &mut Orphans,
    ) -> Result<(), RecoveryError> {
        for (id, one) in self.snapshots {
            if one.created_at >= listed_at {
                continue;
            }
            if !one.is_deleting {
                orphans.without_bytes.push(id);
            } else if !recovery::is_worked_on(conn, &id).await? {
                orphans.deleting_without_bytes.push(id);
            }
        }
        let old = self.copies.into_iter().filter(|(_, copied_at)| *copied_at < listed_at);
        orphans.copies_without_bytes = old.map(|(id, _)| id).collect();
        Ok(())
    }
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
