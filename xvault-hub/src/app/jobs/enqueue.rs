//! New jobs.

use serde_json::json;
use sqlx::{Any, Transaction};
use xvault_core::{JobKind, SourceId, SourceSettings, TenantId, WorkerId};

use super::{commit, probes};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::again::again;
use crate::app::audit::{Deed, record};
use crate::app::wake;
use crate::db::schedules::Schedule;
use crate::db::sources::{self, SourceStatus};
use crate::db::{Scope, jobs, jobs::JobRow, needs, needs::Needs, workers, workers::S3};
use crate::{DbError, Hub};

/// The kind of source that only a worker with its own disk can pull.
const LOCAL: &str = "local";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NewJob {
    /// Pull a source into a new snapshot.
    Backup(SourceId),
    /// Log in at a source and look.
    Probe(SourceId),
}

/// What was found out about a new job.
struct Plan {
    tenant_id: TenantId,
    source_id: SourceId,
    kind: JobKind,
    target_worker_id: Option<WorkerId>,
    capability: Option<String>,
}

/// Makes a job and wakes a worker for it. 404 when the source is not in `scope`; 409 `source_busy`, `source_disabled`,
/// `tenant_disabled` or `no_worker`.
pub(crate) async fn enqueue(hub: &Hub, who: &Principal, scope: &Scope, new: NewJob) -> Result<JobRow> {
    let job = again(|| add(hub, who, scope, new.clone())).await?;
    wake::push(hub, &job);
    Ok(job)
}

async fn add(hub: &Hub, who: &Principal, scope: &Scope, new: NewJob) -> Result<JobRow> {
    let plan = plan(hub, scope, new).await?;
    let job = wake::with_message(row(hub, who.actor.id().to_owned(), &plan), hub.clock().now());
    let mut tx = hub.db().begin().await?;
    lock_source(&mut tx, scope, &job, &plan.source_id).await?;
    match jobs::insert(&mut tx, &job).await {
        Err(DbError::Duplicate) => {
            tx.rollback().await.map_err(DbError::from)?;
            return Err(excluded(hub, &job).await?);
        }
        inserted => inserted?,
    }
    if job.kind == JobKind::Probe {
        probes::admit(&mut tx, &job.tenant_id).await?;
    }
    note(&mut tx, hub, who, &job, "job.enqueue").await?;
    commit(tx).await?;
    Ok(job)
}

/// The backup that a schedule asks for, to be added. Refused as [`enqueue`] would.
pub(crate) async fn scheduled_backup(hub: &Hub, schedule: &Schedule, needs: &Needs) -> Result<JobRow> {
    let plan = planned(hub, JobKind::Backup, schedule.source_id.clone(), needs).await?;
    let job = row(hub, "scheduler".to_owned(), &plan);
    let job = JobRow { schedule_id: Some(schedule.id.clone()), ..job };
    Ok(wake::with_message(job, hub.clock().now()))
}

/// From here on nobody deletes or disables the source before the job is there.
async fn lock_source(
    tx: &mut Transaction<'static, Any>,
    scope: &Scope,
    job: &JobRow,
    id: &SourceId,
) -> Result<()> {
    let source = sources::lock(tx, scope, id).await.map_err(Error::of("source"))?;
    if job.kind == JobKind::Backup && source.status == SourceStatus::Disabled {
        return Err(source_disabled());
    }
    Ok(())
}

fn source_disabled() -> Error {
    Error::conflict("source_disabled", "the source is disabled; enable it first")
}

/// Writes down who did what to a job.
pub(super) async fn note(
    tx: &mut Transaction<'static, Any>,
    hub: &Hub,
    who: &Principal,
    job: &JobRow,
    action: &str,
) -> Result<()> {
    Ok(record(tx, hub, who, job_deed(job, action)).await?)
}

/// What was done to a job.
pub(crate) fn job_deed<'a>(job: &'a JobRow, action: &'a str) -> Deed<'a> {
    let mut details = json!({ "type": job.kind, "source_id": job.source_id, "snapshot_id": job.snapshot_id });
    if let Some(schedule) = &job.schedule_id {
        details["schedule_id"] = json!(schedule);
    }
    let (target_id, tenant_id) = (job.id.as_str(), Some(&job.tenant_id));
    Deed { action, target_type: "job", target_id, tenant_id, details }
}

/// Why a job can't be, when another one excludes it.
pub(super) async fn excluded(hub: &Hub, job: &JobRow) -> Result<Error> {
    if job.kind == JobKind::DeleteSnapshot {
        return Ok(Error::conflict("deletion_running", "another job deletes the snapshot already"));
    }
    if job.kind == JobKind::Verify {
        return Ok(Error::conflict("verify_running", "another job verifies the snapshot already"));
    }
    let running = match &job.source_id {
        Some(source) => jobs::unfinished(&mut *hub.db().conn().await?, source, job.kind).await?,
        None => None,
    };
    let what = if job.kind == JobKind::Probe { "test" } else { "backup" };
    let error = Error::conflict("source_busy", format!("another {what} of this source is queued or running"));
    Ok(error.details(json!({ "job_id": running })))
}

async fn plan(hub: &Hub, scope: &Scope, new: NewJob) -> Result<Plan> {
    match new {
        NewJob::Backup(source_id) => pulling(hub, scope, JobKind::Backup, source_id).await,
        NewJob::Probe(source_id) => pulling(hub, scope, JobKind::Probe, source_id).await,
    }
}

async fn pulling(hub: &Hub, scope: &Scope, kind: JobKind, source_id: SourceId) -> Result<Plan> {
    let mut conn = hub.db().conn().await?;
    let needs = needs::of_source(&mut conn, scope, &source_id).await.map_err(Error::of("source"))?;
    drop(conn);
    planned(hub, kind, source_id, &needs).await
}

async fn planned(hub: &Hub, kind: JobKind, source_id: SourceId, needs: &Needs) -> Result<Plan> {
    check_enabled(needs, kind)?;
    let target_worker_id = route(hub, &needs.settings).await?;
    let kind_of_source = needs.settings.kind();
    let capability = Some(match (kind, &needs.store_id) {
        (JobKind::Backup, Some(_)) => format!("{kind_of_source}+{S3}"),
        _ => kind_of_source.to_owned(),
    });
    let tenant_id = needs.tenant_id.clone();
    Ok(Plan { tenant_id, source_id, kind, target_worker_id, capability })
}

/// A disabled source may be probed: that is how it is mended.
pub(super) fn check_enabled(needs: &Needs, kind: JobKind) -> Result<()> {
    if needs.tenant_disabled {
        Err(Error::conflict("tenant_disabled", "the tenant is disabled"))
    } else if needs.source_disabled && kind == JobKind::Backup {
        Err(source_disabled())
    } else if needs.store_disabled && kind == JobKind::Backup {
        Err(Error::conflict("store_disabled", "the source's store is disabled; enable it, or name another"))
    } else {
        Ok(())
    }
}

/// The only worker that can pull a source. None: any that knows its type.
pub(super) async fn route(hub: &Hub, settings: &SourceSettings) -> Result<Option<WorkerId>> {
    if settings.kind() != LOCAL {
        return Ok(None);
    }
    let able = workers::available(&mut *hub.db().conn().await?, Some(LOCAL)).await?;
    match <[workers::Worker; 1]>::try_from(able) {
        Ok([worker]) => Ok(Some(worker.id)),
        Err(able) if able.is_empty() => Err(Error::conflict(
            "no_worker",
            "no worker that is online may read its own disk; start one with WORKER_ALLOW_LOCAL",
        )),
        Err(_) => Err(Error::conflict(
            "no_worker",
            "several workers may read their own disks, so which one is meant is unclear; drain all but that one",
        )),
    }
}

fn row(hub: &Hub, created_by: String, plan: &Plan) -> JobRow {
    // A probe answers a person who waits: it is not tried for minutes. It takes its turn all the same, or tests would go before
    // everybody's backups.
    let max_attempts = if plan.kind == JobKind::Probe { 1 } else { hub.settings().max_attempts };
    let (tenant_id, source_id) = (plan.tenant_id.clone(), plan.source_id.clone());
    JobRow {
        target_worker_id: plan.target_worker_id.clone(),
        capability: plan.capability.clone(),
        created_by: Some(created_by),
        ..JobRow::new(plan.kind, tenant_id, source_id, max_attempts, hub.clock().now())
    }
}
