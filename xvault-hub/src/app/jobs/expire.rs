//! Jobs whose worker has gone silent.

use crate::app::wake;
use crate::db::{self, jobs, jobs::JobRow};
use crate::{DbError, Hub};

/// Ends the leases that have run out, at most `limit`, and wakes other workers. Gives how many there were.
pub(crate) async fn expire_due(hub: &Hub, limit: u32) -> db::Result<u32> {
    let now = hub.clock().now();
    let due = jobs::expired(&mut *hub.db().conn().await?, now, limit).await?;
    let mut ended = 0;
    for job in &due {
        ended += u32::from(expire(hub, job).await?);
    }
    Ok(ended)
}

/// False when the worker was faster after all, or another hub.
async fn expire(hub: &Hub, job: &JobRow) -> Result<bool, DbError> {
    let now = hub.clock().now();
    let Ok(life) = job.life.expire(now) else { return Ok(false) };
    let after = super::complete::requeued(job.with(life, now), now);
    if !jobs::save(&mut *hub.db().conn().await?, &after, now).await? {
        return Ok(false);
    }
    hub.metrics().lease_expired();
    if after.status().is_finished() {
        hub.metrics().finished(after.kind, after.status(), None);
    }
    let worker = job.worker_id.as_ref().map(xvault_core::WorkerId::as_str).unwrap_or_default();
    let status = after.status();
    tracing::warn!(job_id = %job.id, tenant_id = %job.tenant_id, worker_id = worker, %status, "lease expired");
    if !status.is_finished() {
        wake::push(hub, &after);
    }
    Ok(true)
}
