//! What a verification has found: checked, written down with the job's end, and shouted about where it is damage.

use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::error::chain;
use xvault_core::protocol::{Finding, TaskResult, VerifyDepth};
use xvault_core::{SnapshotId, SourceId, WorkerId};

use super::request::depth;
use crate::api::error::{Error, Result};
use crate::app::audit::{Deed, record_by_worker};
use crate::app::jobs::cleaned;
use crate::app::retention;
use crate::db::snapshots::{self, Snapshot};
use crate::db::{self, Scope, jobs::JobRow, sources};
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

/// Writes down what is known of a snapshot now, in the transaction that completes the job.
pub(crate) async fn settle(
    hub: &Hub,
    conn: &mut AnyConnection,
    job: &JobRow,
    id: &SnapshotId,
    (depth, finding): (VerifyDepth, &Finding),
) -> db::Result<()> {
    let now = hub.clock().now();
    let snapshot = match snapshots::get(conn, &Scope::All, id).await {
        Err(DbError::NotFound) => return Ok(()),
        snapshot => snapshot?,
    };
    let after = snapshot.soundness.after(&job.id, depth, &printable(finding), now);
    snapshots::set_soundness(conn, id, &after, now).await?;
    let action = match (&snapshot.soundness.damage, &after.damage) {
        (_, Some(_)) if matches!(finding, Finding::Damaged { .. }) => "snapshot.damaged",
        (Some(_), None) => "snapshot.sound",
        _ => return Ok(()),
    };
    let damage = after.damage.or(snapshot.soundness.damage.clone()).map(|damage| damage.what);
    note(conn, hub, job, &snapshot, (action, json!({ "depth": depth, "damage": damage }))).await
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
    let damage = cleaned(damage, MAX_DAMAGE);
    tracing::error!(snapshot_id = snapshot, tenant_id = %job.tenant_id, worker_id = worker, %depth, damage, "a snapshot is damaged");
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
