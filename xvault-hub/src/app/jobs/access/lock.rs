//! What a job's objects are locked with, and that a worker did.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use xvault_core::{JobKind, ObjectLock, StoreId};

use super::super::assign::Unmet;
use crate::db::jobs::JobRow;
use crate::db::snapshots::Snapshot;
use crate::db::stores::Store;
use crate::db::{Scope, jobs, retention, snapshot_copies, snapshots};
use crate::{DbError, Hub};

type Result<T> = std::result::Result<T, Unmet>;

/// The lock that the job puts on all it writes into the store; it is written down what the worker was told. None: the store locks
/// nothing.
pub(super) async fn of_job(hub: &Hub, job: &JobRow, store: &Store) -> Result<Option<ObjectLock>> {
    let mut conn = hub.db().conn().await?;
    let lock = match (&store.object_lock, &job.source_id) {
        (Some(lock), Some(source)) => {
            let now = hub.clock().now();
            let keeping = retention::keeping(&mut conn, source).await?;
            let begun = begun_at(&mut conn, job, now).await?;
            // A zone that this hub does not know makes a difference of hours.
            let zone = keeping.zone().unwrap_or(TimeZone::UTC);
            Some(lock.of((begun, now), keeping.policy.as_ref(), &zone))
        }
        _ => None,
    };
    jobs::set_lock(&mut conn, &job.id, lock.map(|lock| lock.until)).await?;
    Ok(lock)
}

/// When the backup began of the snapshot that the job writes.
async fn begun_at(conn: &mut sqlx::AnyConnection, job: &JobRow, now: Timestamp) -> Result<Timestamp> {
    match (job.kind, &job.snapshot_id) {
        (JobKind::Replicate, Some(id)) => match snapshots::get(conn, &Scope::All, id).await {
            Err(DbError::NotFound) => Err(Unmet::NoSnapshot),
            snapshot => Ok(snapshot?.started_at),
        },
        _ => Ok(now),
    }
}

/// Whether the job's snapshot was locked in this store, although the store may lock nothing any more.
pub(super) async fn was_set(hub: &Hub, job: &JobRow, store: &StoreId) -> Result<bool> {
    let Some(id) = &job.snapshot_id else { return Ok(false) };
    let mut conn = hub.db().conn().await?;
    let in_place = match snapshots::get(&mut conn, &Scope::All, id).await {
        Ok(Snapshot { store_id, place_locked_until, .. }) => {
            store_id.as_ref() == Some(store) && place_locked_until.is_some()
        }
        Err(DbError::NotFound) => false,
        Err(error) => return Err(error.into()),
    };
    let copies = snapshot_copies::of(&mut conn, id).await?;
    let copied = |copy: &snapshot_copies::Copy| copy.store_id == *store && copy.locked_until.is_some();
    Ok(in_place || copies.iter().any(copied))
}
