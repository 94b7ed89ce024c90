//! Jobs that read a snapshot: made while nobody can begin to delete it, for none that is `deleting`, and run where it lies.

use serde_json::Value;
use sqlx::AnyConnection;
use xvault_core::{JobKind, SnapshotId};

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::app::wake;
use crate::db::snapshots::{Snapshot, SnapshotStatus};
use crate::db::{Scope, jobs::JobRow, snapshots, sources};

/// What is to be done with a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// One of [`JobKind::READING`].
    pub(crate) kind: JobKind,
    pub(crate) snapshot_id: SnapshotId,
    /// What its worker has to know besides: no secrets.
    pub(crate) payload: Value,
    /// One for somebody who waits for the answer.
    pub(crate) max_attempts: u32,
}

/// The snapshot, which nobody begins to delete before the transaction ends.
pub(crate) async fn lock_readable(
    conn: &mut AnyConnection,
    scope: &Scope,
    id: &SnapshotId,
) -> Result<Snapshot> {
    let seen = snapshots::get(conn, scope, id).await.map_err(Error::of("snapshot"))?;
    sources::lock_snapshots(conn, &seen.source_id).await?;
    let snapshot = snapshots::get(conn, scope, id).await.map_err(Error::of("snapshot"))?;
    if snapshot.status == SnapshotStatus::Deleting {
        return Err(Error::conflict("deleting", "the snapshot is being deleted: it can't be read any more"));
    }
    if snapshots::tenant_is_disabled(conn, id).await? {
        return Err(Error::conflict("tenant_disabled", "the tenant is disabled"));
    }
    Ok(snapshot)
}

/// The job, to be added in the transaction that has the snapshot locked. `created_by` is who asked for it; None: the hub itself.
pub(crate) fn reading(hub: &Hub, snapshot: &Snapshot, new: &Reading, created_by: Option<String>) -> JobRow {
    let (tenant_id, source_id, now) =
        (snapshot.tenant_id.clone(), snapshot.source_id.clone(), hub.clock().now());
    let job = JobRow {
        snapshot_id: Some(snapshot.id.clone()),
        target_worker_id: snapshot.worker_id.clone(),
        capability: snapshot.capability(),
        store_id: snapshot.store_id.clone(),
        payload: new.payload.clone(),
        created_by,
        ..JobRow::new(new.kind, tenant_id, source_id, new.max_attempts, now)
    };
    wake::with_message(job, now)
}
