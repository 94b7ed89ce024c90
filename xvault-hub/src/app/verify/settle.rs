//! What a verification has found: checked, written down with the job's end, and shouted about where it is damage.

use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::error::chain;
use xvault_core::protocol::{Finding, TaskResult, VerifyDepth};
use xvault_core::{SnapshotId, SourceId, StoreId, WorkerId};

use super::request::depth;
use crate::api::error::{Error, Result};
use crate::app::audit::{Deed, record_by_worker};
use crate::app::jobs::{chosen_store, cleaned};
use crate::app::retention;
use crate::db::snapshots::{self, Snapshot, Soundness};
use crate::db::{self, Scope, jobs::JobRow, snapshot_copies, sources};
use crate::{DbError, Hub};

/// The longest description of damage that is kept, in bytes.
const MAX_DAMAGE: usize = 4096;

/// What is kept of a finding in the job's row. A worker that did something else than it was told is refused.
pub(crate) fn checked(job: &JobRow, found: VerifyDepth, finding: &Finding) -> Result<Value> {
    if depth(job) != Some(found) {
        return Err(Error::invalid_field("outcome.result.depth", "it is not that of the assignment"));
    }
    Ok(json!({ "depth": found, "finding": printable(finding) }))
}

/// A worker's words, as they can be stored and shown.
fn printable(finding: &Finding) -> Finding {
    match finding {
        Finding::Damaged { damage } => Finding::Damaged { damage: cleaned(damage, MAX_DAMAGE) },
        sound @ Finding::Ok { .. } => sound.clone(),
    }
}

/// What was known of the bytes that a verification has looked at, and which of the places they lie in.
struct Seen {
    snapshot: Snapshot,
    before: Soundness,
    /// None: the first one.
    copy_in: Option<StoreId>,
}

/// None: the snapshot is gone, or its copy.
async fn seen(conn: &mut AnyConnection, job: &JobRow, id: &SnapshotId) -> db::Result<Option<Seen>> {
    let snapshot = match snapshots::get(conn, &Scope::All, id).await {
        Err(DbError::NotFound) => return Ok(None),
        snapshot => snapshot?,
    };
    let Some(store) = chosen_store(job).filter(|store| snapshot.store_id.as_ref() != Some(store)) else {
        let before = snapshot.soundness.clone();
        return Ok(Some(Seen { snapshot, before, copy_in: None }));
    };
    let copy = snapshot_copies::of(conn, id).await?.into_iter().find(|copy| copy.store_id == store);
    Ok(copy.map(|copy| Seen { snapshot, before: copy.soundness, copy_in: Some(store) }))
}

/// Writes down what is known of a snapshot or its copy now, in the transaction that completes the job.
pub(crate) async fn settle(
    hub: &Hub,
    conn: &mut AnyConnection,
    job: &JobRow,
    id: &SnapshotId,
    (depth, finding): (VerifyDepth, &Finding),
) -> db::Result<()> {
    let now = hub.clock().now();
    let Some(Seen { snapshot, before, copy_in }) = seen(conn, job, id).await? else { return Ok(()) };
    let after = before.after(&job.id, depth, &printable(finding), now);
    match &copy_in {
        Some(store) => snapshots::set_soundness_of_copy(conn, (id, store), &after, now).await?,
        None => snapshots::set_soundness(conn, id, &after, now).await?,
    };
    let action = match (&before.damage, &after.damage, &copy_in) {
        (_, Some(_), None) if matches!(finding, Finding::Damaged { .. }) => "snapshot.damaged",
        (_, Some(_), Some(_)) if matches!(finding, Finding::Damaged { .. }) => "snapshot.copy_damaged",
        (Some(_), None, None) => "snapshot.sound",
        (Some(_), None, Some(_)) => "snapshot.copy_sound",
        _ => return Ok(()),
    };
    let damage = after.damage.or(before.damage).map(|damage| damage.what);
    let details = json!({ "depth": depth, "damage": damage, "store_id": copy_in });
    note(conn, hub, job, &snapshot, (action, details)).await
}

async fn note(
    conn: &mut AnyConnection,
    hub: &Hub,
    job: &JobRow,
    snapshot: &Snapshot,
    (action, mut details): (&str, Value),
) -> db::Result<()> {
    details["job_id"] = json!(job.id);
    details["source_id"] = json!(snapshot.source_id);
    let (target_id, tenant_id) = (snapshot.id.as_str(), Some(&snapshot.tenant_id));
    let deed = Deed { action, target_type: "snapshot", target_id, tenant_id, details };
    match &job.worker_id {
        Some(worker) => record_by_worker(conn, worker, deed, hub.clock().now()).await,
        None => Ok(()),
    }
}

/// Once it is written down: tells what was found, and calls off what retention wanted to go because it counted on a damaged
/// snapshot.
pub(crate) async fn tell(hub: &Hub, job: &JobRow, result: &TaskResult) {
    let TaskResult::Verify { depth, finding: Finding::Damaged { damage } } = result else { return };
    let worker = job.worker_id.as_ref().map(WorkerId::as_str).unwrap_or_default();
    let snapshot = job.snapshot_id.as_ref().map(SnapshotId::as_str).unwrap_or_default();
    let (damage, store) = (cleaned(damage, MAX_DAMAGE), chosen_store(job));
    let store = store.as_ref().map(StoreId::as_str).unwrap_or_default();
    tracing::error!(snapshot_id = snapshot, tenant_id = %job.tenant_id, worker_id = worker, store_id = store, %depth, damage, "a snapshot is damaged");
    hub.metrics().damage_found();
    let Some(source) = &job.source_id else { return };
    if let Err(error) = spare(hub, source).await {
        hub.metrics().retention_failed();
        tracing::warn!(source_id = %source, cause = chain(&error), "deletions that counted on a damaged snapshot could not be called off");
    }
}

/// Not in the transaction before: whoever makes a job of a snapshot locks its source first, and that one has written a job.
async fn spare(hub: &Hub, source: &SourceId) -> db::Result<()> {
    let mut tx = hub.db().begin().await?;
    sources::lock_snapshots(&mut tx, source).await?;
    retention::spare(&mut tx, hub, source).await?;
    Ok(tx.commit().await?)
}
