//! `/api/v1/jobs`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::job::{JobKind, JobStatus};
use xvault_core::protocol::{Finding, JobProgress, ProbeReport, RestoreReport, VerifyDepth};
use xvault_core::{JobId, ScheduleId, SnapshotId, SourceId, StoreId, TenantId, WorkerId};

use super::downloads::DownloadLink;
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::paging::{cut, page};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::downloads;
use crate::app::jobs::{self, NewJob};
use crate::db::jobs::{Filter, JobRow};
use crate::db::{Page, Scope};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get))
        .routes(routes!(cancel))
        .routes(routes!(retry))
}

/// What a person can ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum NewJobKind {
    /// Pull the source into a snapshot.
    #[default]
    Backup,
    /// Log in at the source and look at its paths.
    Probe,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateJob {
    /// Whose source it is. Operators must say, here or in the query; others may leave it out.
    tenant_id: Option<TenantId>,
    source_id: SourceId,
    /// `backup` when absent.
    #[serde(rename = "type")]
    kind: Option<NewJobKind>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListJobs {
    /// Whose: for operators, who see everybody's otherwise.
    pub(super) tenant_id: Option<TenantId>,
    /// Only those of this source.
    source_id: Option<SourceId>,
    /// Only those that stand there.
    status: Option<JobStatus>,
    /// Only those of this type.
    #[serde(rename = "type")]
    kind: Option<JobKind>,
    /// Only those that this worker works on, or was the last to.
    worker_id: Option<WorkerId>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListJobs {
    pub(super) fn parts(self) -> Result<(Option<TenantId>, Filter, Page)> {
        let page = page(self.limit, self.cursor.as_deref())?;
        let filter = Filter {
            source_id: self.source_id,
            status: self.status,
            kind: self.kind,
            worker_id: self.worker_id,
        };
        Ok((self.tenant_id, filter, page))
    }
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub(super) struct Job {
    id: JobId,
    tenant_id: TenantId,
    source_id: Option<SourceId>,
    #[serde(rename = "type")]
    kind: JobKind,
    pub(super) status: JobStatus,
    /// Which attempt this is, or how many there were.
    attempt: u32,
    /// After so many failed attempts it fails. Null: it is tried until it is done.
    max_attempts: Option<u32>,
    /// How many times a worker had it, attempts that were handed back or started anew by a person included.
    runs: u32,
    /// Who works on it, or last did.
    worker_id: Option<WorkerId>,
    /// The only worker that may run it.
    target_worker_id: Option<WorkerId>,
    /// The schedule that made it. Absent: somebody asked for it.
    schedule_id: Option<ScheduleId>,
    /// The snapshot that it made, deletes or restores.
    snapshot_id: Option<SnapshotId>,
    /// How far the present or last attempt has come.
    progress: Option<JobProgress>,
    /// What a probe saw.
    pub(super) probe: Option<ProbeReport>,
    /// What a verification found.
    verification: Option<Verification>,
    /// What a restore gave back, or will once its link is opened.
    restore: Option<RestoreReport>,
    /// Of a completed deletion: the stores where copies stayed, because nobody may delete there.
    copies_kept: Option<Vec<StoreId>>,
    /// The link of a completed restore whose target is a download, while it is good and its worker is there. Null in lists.
    download: Option<DownloadLink>,
    /// What it, or its last attempt, failed with: a word for programs.
    error_code: Option<String>,
    /// The same as a sentence for people.
    error_message: Option<String>,
    /// When the pause after a failed attempt ends, while it is queued.
    not_before: Option<Timestamp>,
    /// When the present or last attempt began.
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What came of a verification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
struct Verification {
    /// How far it went.
    depth: VerifyDepth,
    finding: Finding,
}

/// What came of a deletion.
#[derive(Debug, Deserialize)]
struct CopiesKept {
    copies_kept: Vec<StoreId>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
    next_cursor: Option<String>,
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        let status = row.status();
        // The snapshot of an unfinished or failed backup does not exist.
        let has_snapshot = row.kind != JobKind::Backup || status == JobStatus::Completed;
        let (error_code, error_message) = row.life.error.map(|error| (error.code, error.message)).unzip();
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            source_id: row.source_id,
            kind: row.kind,
            status,
            attempt: row.life.attempt,
            max_attempts: Some(row.life.max_attempts).filter(|&max| max < u32::MAX),
            runs: row.runs,
            worker_id: row.worker_id,
            target_worker_id: row.target_worker_id,
            schedule_id: row.schedule_id,
            snapshot_id: row.snapshot_id.filter(|_| has_snapshot),
            verification: row.result.as_ref().and_then(|value| Verification::deserialize(value).ok()),
            progress: row.progress.and_then(read),
            probe: row.result.clone().filter(|_| row.kind == JobKind::Probe).and_then(read),
            copies_kept: row
                .result
                .as_ref()
                .and_then(|value| CopiesKept::deserialize(value).ok())
                .map(|kept| kept.copies_kept),
            restore: row.result.filter(|_| row.kind == JobKind::Restore).and_then(read),
            download: None,
            error_code,
            error_message,
            not_before: (status == JobStatus::Queued).then_some(row.not_before),
            started_at: row.started_at,
            finished_at: row.finished_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// A value that was checked when it was stored.
fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

impl Job {
    /// Whether something happened between `earlier` and now that a person wants to see: a renewed lease is nothing.
    pub(super) fn differs(&self, earlier: &Self) -> bool {
        *self != Self { updated_at: self.updated_at, ..earlier.clone() }
    }
}

/// Start a backup
///
/// The job waits for a worker. A source has one unfinished backup and one unfinished test at a time.
#[utoipa::path(
    post, path = "/jobs", tag = "jobs",
    params(NamedTenant),
    request_body = CreateJob,
    responses(
        (status = 201, body = Job),
        (status = 409, body = ErrorBody, description = "A backup (or test) of the source is under way (`source_busy`), \
            it, its store or its tenant is disabled (`source_disabled`, `store_disabled`, `tenant_disabled`), or no worker can run it \
            (`no_worker`)."),
        (status = 429, body = ErrorBody, description = "Too many tests of the tenant's sources are under way: wait as long as \
            `Retry-After` says."),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateJob>,
) -> Result<(StatusCode, Json<Job>)> {
    who.require(Role::Member)?;
    let scope = Scope::Tenant(who.tenant(named.or(body.tenant_id)?)?);
    let new = match body.kind.unwrap_or_default() {
        NewJobKind::Backup => NewJob::Backup(body.source_id),
        NewJobKind::Probe => NewJob::Probe(body.source_id),
    };
    Ok((StatusCode::CREATED, Json(jobs::enqueue(&hub, &who, &scope, new).await?.into())))
}

/// List jobs
///
/// Newest first.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs",
    params(ListJobs),
    responses((status = 200, body = Jobs)),
)]
async fn list(State(hub): State<Hub>, who: Principal, Query(query): Query<ListJobs>) -> Result<Json<Jobs>> {
    let (tenant_id, filter, page) = query.parts()?;
    answer_list(&hub, &who.scope(tenant_id)?, &filter, &page).await
}

/// A page of jobs, for tenants and operators alike.
pub(super) async fn answer_list(
    hub: &Hub,
    scope: &Scope,
    filter: &Filter,
    page: &Page,
) -> Result<Json<Jobs>> {
    let (rows, next_cursor) = cut(page, jobs::list(hub, scope, filter, page).await?, |row| row.id.as_str());
    Ok(Json(Jobs { jobs: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a job
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = JobId, Path)),
    responses((status = 200, body = Job)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<JobId>) -> Result<Json<Job>> {
    let row = jobs::get(&hub, &who.scope(None)?, &id).await?;
    let download = downloads::of_job(&hub, &row).await?.map(DownloadLink::from);
    Ok(Json(Job { download, ..row.into() }))
}

/// Cancel a job
///
/// It is over at once; its worker learns with its next call, and removes what it has stored.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", tag = "jobs",
    params(("id" = JobId, Path)),
    responses(
        (status = 200, body = Job),
        (status = 409, body = ErrorBody, description = "It is over already (`job_finished`)."),
    ),
)]
async fn cancel(State(hub): State<Hub>, who: Principal, Path(id): Path<JobId>) -> Result<Json<Job>> {
    who.require(Role::Member)?;
    Ok(Json(jobs::cancel(&hub, &who, &who.scope(None)?, &id).await?.into()))
}

/// Try a failed or canceled job again
///
/// With all its attempts. It is checked like a new one: whoever asks must be allowed what it does.
#[utoipa::path(
    post, path = "/jobs/{id}/retry", tag = "jobs",
    params(("id" = JobId, Path)),
    responses(
        (status = 200, body = Job),
        (status = 403, body = ErrorBody, description = "The token's role does not suffice: a deletion, a test of a store, or a restore to \
            another source's server takes an admin."),
        (status = 409, body = ErrorBody, description = "It is neither failed nor canceled (`not_retriable`). Or another job does the \
            same (`source_busy`, `deletion_running`, `verify_running`), a backup can't be (`source_disabled`, `store_disabled`, \
            `tenant_disabled`, `no_worker`), the snapshot is held, locked or being deleted (`held`, `locked`, `deleting`), or it can't be \
            restored or verified so any more (`no_identity`, `damaged`, `no_copy`, `source_gone`, `host_key_not_pinned`)."),
        (status = 429, body = ErrorBody, description = "Too many tests of the tenant's sources are under way: wait as long as \
            `Retry-After` says."),
    ),
)]
async fn retry(State(hub): State<Hub>, who: Principal, Path(id): Path<JobId>) -> Result<Json<Job>> {
    who.require(Role::Member)?;
    Ok(Json(jobs::retry(&hub, &who, &who.scope(None)?, &id).await?.into()))
}
