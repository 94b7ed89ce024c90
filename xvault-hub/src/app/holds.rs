//! Holds: snapshots that stay whatever retention and people say, until they are released.

use serde_json::{Value, json};
use sqlx::{Any, Transaction};
use xvault_core::job::JobError;
use xvault_core::{JobKind, JobStatus, SnapshotId};

use super::audit::{Deed, record};
use super::jobs::call_off;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, jobs, jobs::JobRow, snapshots};
use crate::{DbError, Hub};

/// How often a hold is tried anew because others changed what it is about.
const ROUNDS: u32 = 5;

/// Holds a snapshot, and calls its deletion off if nobody has begun it. Doing so again changes the reason. 409
/// `deletion_running` once its bytes may be going.
pub(crate) async fn hold(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SnapshotId,
    reason: &str,
) -> Result<Snapshot> {
    for _ in 0..ROUNDS {
        let snapshot = get(hub, scope, id).await?;
        if snapshot.hold_reason.as_deref() == Some(reason) {
            return Ok(snapshot);
        }
        if try_hold(hub, who, &snapshot, reason).await? {
            return get(hub, scope, id).await;
        }
    }
    Err(Error::conflict("contended", "the snapshot is being changed by others; try again"))
}

async fn get(hub: &Hub, scope: &Scope, id: &SnapshotId) -> Result<Snapshot> {
    snapshots::get(&mut *hub.db().conn().await?, scope, id).await.map_err(Error::of("snapshot"))
}

/// False when somebody else was faster with something.
async fn try_hold(hub: &Hub, who: &Principal, snapshot: &Snapshot, reason: &str) -> Result<bool> {
    if snapshot.deletion_began_at.is_some() {
        return Err(begun(None));
    }
    let mut tx = hub.db().begin().await?;
    let deletion = jobs::unfinished_deletion(&mut tx, &snapshot.id).await?;
    if let Some(job) = &deletion
        && !stop(&mut tx, hub, job).await?
    {
        return Ok(false);
    }
    if !snapshots::hold(&mut tx, &snapshot.id, reason, hub.clock().now()).await?
        // Made between the two statements before; from here on none is, because the snapshot is held.
        || jobs::unfinished_deletion(&mut tx, &snapshot.id).await?.is_some()
    {
        return Ok(false);
    }
    let called_off = deletion.as_ref().map(|job| &job.id);
    let details = json!({ "reason": reason, "canceled_job_id": called_off });
    note(&mut tx, hub, who, snapshot, "snapshot.hold", details).await?;
    tx.commit().await.map_err(DbError::from)?;
    if deletion.is_some() {
        hub.metrics().finished(JobKind::DeleteSnapshot, JobStatus::Canceled, None);
    }
    Ok(true)
}

/// Calls the deletion of a snapshot off that is to be held. False when the job was changed by somebody else.
async fn stop(tx: &mut Transaction<'static, Any>, hub: &Hub, job: &JobRow) -> Result<bool> {
    if job.status() != JobStatus::Queued {
        return Err(begun(Some(job)));
    }
    let why = JobError { code: "held".to_owned(), message: "the snapshot was put on hold".to_owned() };
    Ok(call_off(tx, job, why, hub.clock().now()).await?)
}

fn begun(job: Option<&JobRow>) -> Error {
    let message = "its deletion has begun: what is left of it may not be whole";
    Error::conflict("deletion_running", message).details(json!({ "job_id": job.map(|job| &job.id) }))
}

/// Lets a snapshot go again. One that is not held is fine.
pub(crate) async fn release(hub: &Hub, who: &Principal, scope: &Scope, id: &SnapshotId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    let snapshot = snapshots::get(&mut tx, scope, id).await.map_err(Error::of("snapshot"))?;
    if snapshots::release(&mut tx, id, hub.clock().now()).await? {
        let details = json!({ "reason": snapshot.hold_reason });
        note(&mut tx, hub, who, &snapshot, "snapshot.release", details).await?;
        tx.commit().await.map_err(DbError::from)?;
    }
    Ok(())
}

async fn note(
    tx: &mut Transaction<'static, Any>,
    hub: &Hub,
    who: &Principal,
    snapshot: &Snapshot,
    action: &str,
    details: Value,
) -> Result<()> {
    let deed = Deed {
        action,
        target_type: "snapshot",
        target_id: snapshot.id.as_str(),
        tenant_id: Some(&snapshot.tenant_id),
        details,
    };
    Ok(record(tx, hub, who, deed).await?)
}
