//! Copies of snapshots in second stores: made until they are there, and read where the first place is gone.
//!
//! A snapshot's second store is its source's `replica_store_id`, or else the `replica_id` of the store that it lies in. Only
//! snapshots are copied, never copies.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{JobKind, SnapshotId, StoreId};

use super::jobs::{Reading, lock_readable, reading};
use super::wake;
use crate::api::error::{Error, Result};
use crate::db::jobs::JobRow;
use crate::db::snapshot_copies::{self, Copy, CopyStatus, Missing};
use crate::db::snapshots::Snapshot;
use crate::db::workers::{self, S3};
use crate::db::{Scope, jobs};
use crate::{DbError, Hub};

/// A copy that could not be made, or was called off, is tried anew so long after that.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
/// What fails for a while is tried until it works.
const ATTEMPTS: u32 = u32::MAX;
/// Where a job that reads a copy says which.
const FROM_STORE: &str = "from_store";

/// Makes the jobs that copy what has no copy yet; gives how many were looked at.
pub(crate) async fn make_missing(hub: &Hub, only: Option<&SnapshotId>, limit: u32) -> Result<u32> {
    let since = hub.clock().now().checked_sub(AGAIN).unwrap_or(Timestamp::MIN);
    let missing = snapshot_copies::missing(&mut *hub.db().conn().await?, only, since, limit).await?;
    for one in &missing {
        if let Some(job) = make(hub, one).await? {
            wake::push(hub, &job);
        }
    }
    Ok(u32::try_from(missing.len()).unwrap_or(u32::MAX))
}

/// None: it is not to be read any more, or another hub was faster.
async fn make(hub: &Hub, missing: &Missing) -> Result<Option<JobRow>> {
    let mut tx = hub.db().begin().await?;
    let snapshot = match lock_readable(&mut tx, &Scope::All, &missing.snapshot_id).await {
        Err(error) if ["deleting", "tenant_disabled", "not_found"].iter().any(|code| error.is(code)) => {
            return Ok(None);
        }
        snapshot => snapshot?,
    };
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
    tx.commit().await.map_err(DbError::from)?;
    Ok(Some(job))
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

/// The job, sent to where the snapshot can be read: to the copy that its payload names as `from_store`, or, for a restore or a look
/// inside, to any copy while the worker on whose disk the snapshot lies is away. 422 when it names a store without a copy.
pub(crate) async fn placed(conn: &mut AnyConnection, snapshot: &Snapshot, job: JobRow) -> Result<JobRow> {
    let named = job.payload.get(FROM_STORE).and_then(|value| value.as_str()).map(str::to_owned);
    let copies = snapshot_copies::of(conn, &snapshot.id).await?;
    let mut readable = copies.into_iter().filter(|copy| copy.status == CopyStatus::Copied);
    let found = match named {
        Some(name) if snapshot.store_id.as_ref().is_some_and(|own| own.as_str() == name) => None,
        Some(name) => Some(readable.find(|copy| copy.store_id.as_str() == name).ok_or_else(|| {
            Error::invalid_field(
                FROM_STORE,
                "no copy of the snapshot lies in that store; `locators` tells where it lies",
            )
        })?),
        None if is_out_of_reach(conn, snapshot, job.kind).await? => readable.next(),
        None => None,
    };
    Ok(match found {
        Some(copy) => from_copy(job, copy.store_id),
        None => job,
    })
}

/// The snapshot as it can be read now: while the worker on whose disk it lies is away, as it lies in a second store, if it does.
pub(crate) async fn reachable(conn: &mut AnyConnection, snapshot: Snapshot) -> Result<Snapshot> {
    if !is_out_of_reach(conn, &snapshot, JobKind::Restore).await? {
        return Ok(snapshot);
    }
    let copies = snapshot_copies::of(conn, &snapshot.id).await?;
    Ok(match copies.into_iter().find(|copy| copy.status == CopyStatus::Copied) {
        Some(Copy { store_id, locator, .. }) => {
            Snapshot { worker_id: None, store_id: Some(store_id), locator, ..snapshot }
        }
        None => snapshot,
    })
}

fn from_copy(job: JobRow, store_id: StoreId) -> JobRow {
    JobRow { store_id: Some(store_id), target_worker_id: None, capability: Some(S3.to_owned()), ..job }
}

/// What proves a snapshot sound or not is about its first place.
async fn is_out_of_reach(conn: &mut AnyConnection, snapshot: &Snapshot, kind: JobKind) -> Result<bool> {
    let (Some(worker), JobKind::Restore | JobKind::Browse) = (&snapshot.worker_id, kind) else {
        return Ok(false);
    };
    Ok(workers::get(conn, worker).await?.status == "offline")
}
