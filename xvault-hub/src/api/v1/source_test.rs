//! `/api/v1/sources/{id}/test`

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::job::{JobError, JobStatus};
use xvault_core::protocol::ProbeReport;
use xvault_core::{JobId, SourceId};

use super::jobs::Job;
use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::principal::{Principal, Role};
use crate::app::jobs;
use crate::db::Scope;
use crate::db::jobs::JobRow;

/// How long a test is waited for when nothing else is asked for.
const DEFAULT_WAIT_SECS: u64 = 10;
/// The longest wait.
const MAX_WAIT_SECS: u64 = 30;
/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(200);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(test))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TestQuery {
    /// How long to wait for the result.
    #[param(minimum = 0, maximum = 30, default = 10)]
    wait_seconds: Option<u64>,
}

/// How a test went, or how far it has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SourceTest {
    /// To be asked again when the wait was too short.
    job_id: JobId,
    status: JobStatus,
    /// What was seen.
    probe: Option<ProbeReport>,
    /// Why it failed.
    error: Option<JobError>,
}

impl From<JobRow> for SourceTest {
    fn from(row: JobRow) -> Self {
        let error = row.life.error.clone();
        let job_id = row.id.clone();
        let job = Job::from(row);
        Self { job_id, status: job.status, probe: job.probe, error }
    }
}

/// Test a source
///
/// A worker logs in and looks at the paths, without reading content. Waits for the result; a test that takes longer goes
/// on as job `job_id`. While one is under way its result is the answer to everybody who asks, unless the source was changed since it
/// began: then another follows it. A server whose key is not pinned is not logged in to: the answer has the key to pin.
#[utoipa::path(
    post, path = "/sources/{id}/test", tag = "sources",
    params(("id" = SourceId, Path), TestQuery),
    responses(
        (status = 200, body = SourceTest),
        (status = 409, body = ErrorBody, description = "No worker can run it (`no_worker`), or the tenant is disabled (`tenant_disabled`)."),
        (status = 429, body = ErrorBody, description = "Too many tests of the tenant's sources are under way: wait as long as \
            `Retry-After` says."),
    ),
)]
async fn test(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
    Query(query): Query<TestQuery>,
) -> Result<Json<SourceTest>> {
    who.require(Role::Member)?;
    let (scope, until) = (who.scope(None)?, wait_until(query.wait_seconds)?);
    loop {
        let found = jobs::probe(&hub, &who, &scope, &id).await?;
        let job = wait(&hub, found.job, until).await?;
        // What an outdated one saw is no answer; the next round begins one that sees the source as it is now.
        if !(found.is_outdated && job.status().is_finished()) {
            return Ok(Json(job.into()));
        }
    }
}

/// When the time is up. 400 for one that is too long.
pub(super) fn wait_until(seconds: Option<u64>) -> Result<Instant> {
    let seconds = seconds.unwrap_or(DEFAULT_WAIT_SECS);
    if seconds > MAX_WAIT_SECS {
        return Err(Error::bad_request(format!("`wait_seconds` must be between 0 and {MAX_WAIT_SECS}")));
    }
    Ok(Instant::now() + Duration::from_secs(seconds))
}

/// The job when it is over, or when the time is up.
pub(super) async fn wait(hub: &Hub, mut job: JobRow, until: Instant) -> Result<JobRow> {
    let scope = Scope::Tenant(job.tenant_id.clone());
    while !job.status().is_finished() && Instant::now() < until {
        tokio::time::sleep(POLL).await;
        job = jobs::get(hub, &scope, &job.id).await?;
    }
    Ok(job)
}
