//! Copies of snapshots in second stores: made until they are there, and read where the first place is gone.
//!
//! A snapshot's second store is its source's `replica_store_id`, or else the `replica_id` of the store that it lies in. Only
//! snapshots are copied, never copies.

mod place;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::job::{JobError, Life};
use xvault_core::{JobKind, SnapshotId, StoreId};

pub(crate) use place::{copied, place, place_for, reachable, sound_stores};

use super::jobs::{Reading, lock_readable, reading};
use super::stores::is_same_place;
use super::wake;
use crate::api::error::Result;
use crate::db::jobs::JobRow;
use crate::db::snapshot_copies::{self, Copy, Missing};
use crate::db::snapshots::Snapshot;
use crate::db::workers::S3;
use crate::db::{Scope, jobs, stores};
use crate::{DbError, Hub};

/// A copy that could not be made, or was called off, is tried anew so long after that.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
/// What fails for a while is tried until it works.
const ATTEMPTS: u32 = u32::MAX;

/// Makes the jobs that copy what has no copy yet; gives how many were looked at.
pub(crate) async fn make_missing(hub: &Hub, only: Option<&SnapshotId>, limit: u32) -> Result<u32> {
    let since = hub.clock().now().checked_sub(AGAIN).unwrap_or(Timestamp::MIN);
    let missing = snapshot_copies::missing(&mut *hub.db().conn().await?, only, since, limit).await?;
    for one in &missing {
        if let Some(job) = make(hub, one, since).await? {
            wake::push(hub, &job);
        }
    }
    Ok(u32::try_from(missing.len()).unwrap_or(u32::MAX))
}

/// None: it is not to be read any more, or somebody was faster.
async fn make(hub: &Hub, missing: &Missing, since: Timestamp) -> Result<Option<JobRow>> {
    let mut tx = hub.db().begin().await?;
    let snapshot = match lock_readable(&mut tx, &Scope::All, &missing.snapshot_id).await {
        Err(error) if ["deleting", "tenant_disabled", "not_found"].iter().any(|code| error.is(code)) => {
            return Ok(None);
        }
        snapshot => snapshot?,
    };
    // Since it was listed, a job may have been made and have ended.
    let still = snapshot_copies::missing(&mut tx, Some(&snapshot.id), since, 1).await?;
    if !still.iter().any(|still| still.store_id == missing.store_id) {
        return Ok(None);
    }
    let new = Reading {
        kind: JobKind::Replicate,
        snapshot_id: snapshot.id.clone(),
        payload: serde_json::json!({}),
        max_attempts: ATTEMPTS,
    };
    let job = JobRow {
        store_id: Some(missing.store_id.clone()),
        capability: Some(S3.to_owned()),
        ..reading(hub, &snapshot, &new, None)
    };
    match jobs::insert(&mut tx, &job).await {
        Err(DbError::Duplicate) => return Ok(None),
        inserted => inserted?,
    }
    if lies_there(&mut tx, &snapshot, &missing.store_id).await? {
        let now = hub.clock().now();
        jobs::save(&mut tx, &job.with(no_copy(&job)?, now), now).await?;
        tx.commit().await.map_err(DbError::from)?;
        return Ok(None);
    }
    tx.commit().await.map_err(DbError::from)?;
    Ok(Some(job))
}

/// Whether the second store is the snapshot's own place by another name: stores of before that was asked may be.
async fn lies_there(conn: &mut AnyConnection, snapshot: &Snapshot, second: &StoreId) -> Result<bool> {
    let Some(first) = &snapshot.store_id else { return Ok(false) };
    let first = stores::get(conn, &Scope::All, first).await?;
    let second = stores::get(conn, &Scope::All, second).await?;
    Ok(is_same_place(&first, &second, Some(&snapshot.tenant_id)))
}

/// Told once in a while, as what can't be copied for another reason.
fn no_copy(job: &JobRow) -> Result<Life> {
    let message = "the second store is the place where the snapshot lies: name another one".to_owned();
    Ok(Life { error: Some(JobError { code: "same_place".to_owned(), message }), ..job.life.cancel()? })
}

/// A backup has ended: its copy need not wait for the next round.
pub(crate) fn after_backup(hub: &Hub, id: Option<&SnapshotId>) {
    let (hub, Some(id)) = (hub.clone(), id.cloned()) else { return };
    tokio::spawn(async move {
        if let Err(error) = make_missing(&hub, Some(&id), 1).await {
            let error = error.message().to_owned();
            tracing::warn!(snapshot_id = %id, error, "a new snapshot's copy waits for the next round");
        }
    });
}

/// The copies of a snapshot, those included that stayed when it went.
pub(crate) async fn of(hub: &Hub, id: &SnapshotId) -> Result<Vec<Copy>> {
    Ok(snapshot_copies::of(&mut *hub.db().conn().await?, id).await?)
}

/// Whether a store lets the hub delete, as far as is known; a worker's disk does.
pub(crate) async fn may_delete(hub: &Hub, store: Option<&StoreId>) -> Result<Option<bool>> {
    let Some(id) = store else { return Ok(Some(true)) };
    Ok(stores::get(&mut *hub.db().conn().await?, &Scope::All, id).await?.may_delete)
}
