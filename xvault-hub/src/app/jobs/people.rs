//! What people do with jobs: look, stop, try again.

use xvault_core::{JobId, JobKind};

use super::delete::taken_up;
use super::enqueue::{check_enabled, excluded, note, route};
use super::{RestoreOrder, change, change_locked, commit, lock_readable, probes, restore};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::principal::{Principal, Role};
use crate::app::{again::again, verify, wake};
use crate::db::jobs::{self, Filter, JobRow};
use crate::db::{Page, Scope, job_logs, needs, snapshots};

/// One job.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &JobId) -> Result<JobRow> {
    jobs::get(&mut *hub.db().conn().await?, scope, id).await.map_err(Error::of("job"))
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, filter: &Filter, page: &Page) -> Result<Vec<JobRow>> {
    Ok(jobs::list(&mut *hub.db().conn().await?, scope, filter, page).await?)
}

/// A job's log in order, from `after` on; one line more than `limit`.
pub(crate) async fn logs(
    hub: &Hub,
    scope: &Scope,
    id: &JobId,
    after: job_logs::After,
    limit: u32,
) -> Result<Vec<job_logs::Line>> {
    let mut conn = hub.db().conn().await?;
    jobs::get(&mut conn, scope, id).await.map_err(Error::of("job"))?;
    Ok(job_logs::list(&mut conn, id, after, limit).await?)
}

/// Stops a job at once; its worker learns with its next call. 409 `job_finished` when there is nothing to stop.
pub(crate) async fn cancel(hub: &Hub, who: &Principal, scope: &Scope, id: &JobId) -> Result<JobRow> {
    let job = again(|| stop(hub, who, scope, id)).await?;
    hub.metrics().finished(job.kind, job.status(), None);
    Ok(job)
}

async fn stop(hub: &Hub, who: &Principal, scope: &Scope, id: &JobId) -> Result<JobRow> {
    let stop = |job: &JobRow, now| Ok(job.with(job.life.cancel()?, now));
    let (mut tx, job) = change(hub, scope, id, stop).await?;
    if let (JobKind::DeleteSnapshot, Some(snapshot)) = (job.kind, &job.snapshot_id) {
        snapshots::unmark_deleting(&mut tx, snapshot, hub.clock().now()).await?;
    }
    note(&mut tx, hub, who, &job, "job.cancel").await?;
    commit(tx).await?;
    Ok(job)
}

/// Queues a failed or canceled job again, with all its attempts. 403 and 409 as for a new one of whoever asks now, and
/// `not_retriable`.
pub(crate) async fn retry(hub: &Hub, who: &Principal, scope: &Scope, id: &JobId) -> Result<JobRow> {
    let job = again(|| queue_again(hub, who, scope, id)).await?;
    wake::push(hub, &job);
    Ok(job)
}

async fn queue_again(hub: &Hub, who: &Principal, scope: &Scope, id: &JobId) -> Result<JobRow> {
    let before = get(hub, scope, id).await?;
    if matches!(before.kind, JobKind::DeleteSnapshot | JobKind::TestStore | JobKind::SweepStore) {
        who.require(Role::Admin)?;
    }
    before.life.retry(hub.clock().now())?;
    if matches!(RestoreOrder::of(&before), Some(RestoreOrder::Link { .. })) {
        let text =
            "the job served somebody who opened a download link, and is over; open the link, or a new one";
        return Err(Error::conflict("not_retriable", text));
    }
    let target_worker_id = target(hub, &before).await?;
    let queued = |job: &JobRow, now| {
        let job = job.with(job.life.retry(now)?, now);
        let job = JobRow {
            progress: None,
            result: None,
            started_at: None,
            finished_at: None,
            target_worker_id: target_worker_id.clone(),
            ..job
        };
        Ok(wake::with_message(job, now))
    };
    let reads = JobKind::READING.contains(&before.kind);
    let source = before.source_id.as_ref().filter(|_| reads || before.kind == JobKind::DeleteSnapshot);
    let (mut tx, job) = match change_locked(hub, scope, id, source, queued).await {
        Err(error) if error.is("duplicate") => return Err(excluded(hub, &before).await?),
        changed => changed?,
    };
    if job.kind == JobKind::Probe {
        probes::admit(&mut tx, &job.tenant_id).await?;
    }
    if let Some(snapshot) = job.snapshot_id.as_ref().filter(|_| reads) {
        let snapshot = lock_readable(&mut tx, scope, snapshot).await?;
        restore::check_again(&mut tx, who, &snapshot, &job).await?;
        verify::check_again(&mut tx, &snapshot, &job).await?;
    }
    if job.kind == JobKind::DeleteSnapshot {
        taken_up(&mut tx, hub, who, &job).await?;
    }
    note(&mut tx, hub, who, &job, "job.retry").await?;
    commit(tx).await?;
    Ok(job)
}

/// Who must run the job now: things may have changed since it was made.
async fn target(hub: &Hub, job: &JobRow) -> Result<Option<xvault_core::WorkerId>> {
    let (JobKind::Backup | JobKind::Probe, Some(source)) = (job.kind, &job.source_id) else {
        return Ok(job.target_worker_id.clone());
    };
    let mut conn = hub.db().conn().await?;
    let needs = needs::of_source(&mut conn, &Scope::Tenant(job.tenant_id.clone()), source)
        .await
        .map_err(Error::of("source"))?;
    drop(conn);
    check_enabled(&needs, job.kind)?;
    route(hub, &needs.settings).await
}
