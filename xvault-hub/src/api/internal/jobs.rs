//! `/internal/jobs`

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::JobId;
use xvault_core::protocol::{Claim, ClaimAnswer, Complete, CompleteAnswer, LeaseAnswer, Logs, Renew, Report};

use super::WorkerPrincipal;
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::{Json, Path};
use crate::app::jobs;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(claim))
        .routes(routes!(renew))
        .routes(routes!(progress))
        .routes(routes!(logs))
        .routes(routes!(complete))
}

/// Take a job
///
/// The one that is named, or the one that shall go first. Secrets in the answer are sealed to the worker's own key.
#[utoipa::path(
    post, path = "/jobs/claim", tag = "internal", operation_id = "claim",
    request_body = Claim,
    responses((status = 200, body = ClaimAnswer)),
)]
async fn claim(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Json(body): Json<Claim>,
) -> Result<Json<ClaimAnswer>> {
    Ok(Json(jobs::claim(&hub, &worker.0, body).await?))
}

/// Keep a lease alive
#[utoipa::path(
    post, path = "/jobs/{id}/renew", tag = "internal", operation_id = "renew",
    params(("id" = JobId, Path)),
    request_body = Renew,
    responses(
        (status = 200, body = LeaseAnswer),
        (status = 409, body = ErrorBody, description = "The lease is lost, or the job is over: stop."),
    ),
)]
async fn renew(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Path(id): Path<JobId>,
    Json(body): Json<Renew>,
) -> Result<Json<LeaseAnswer>> {
    Ok(Json(jobs::renew(&hub, &worker.0, &id, body).await?))
}

/// Say how far a job has come
///
/// Keeps the lease alive, too.
#[utoipa::path(
    post, path = "/jobs/{id}/progress", tag = "internal", operation_id = "progress",
    params(("id" = JobId, Path)),
    request_body = Report,
    responses(
        (status = 200, body = LeaseAnswer),
        (status = 409, body = ErrorBody, description = "The lease is lost, or the job is over: stop."),
    ),
)]
async fn progress(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Path(id): Path<JobId>,
    Json(body): Json<Report>,
) -> Result<Json<LeaseAnswer>> {
    Ok(Json(jobs::report(&hub, &worker.0, &id, body).await?))
}

/// Add to a job's log
///
/// Keeps the lease alive, too. Lines that came before are kept once.
#[utoipa::path(
    post, path = "/jobs/{id}/logs", tag = "internal", operation_id = "logs",
    params(("id" = JobId, Path)),
    request_body = Logs,
    responses(
        (status = 200, body = LeaseAnswer),
        (status = 409, body = ErrorBody, description = "The lease is lost, or the job is over: stop."),
    ),
)]
async fn logs(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Path(id): Path<JobId>,
    Json(body): Json<Logs>,
) -> Result<Json<LeaseAnswer>> {
    Ok(Json(jobs::add_logs(&hub, &worker.0, &id, body).await?))
}

/// Say how an attempt ended
///
/// May be repeated when the answer was lost.
#[utoipa::path(
    post, path = "/jobs/{id}/complete", tag = "internal", operation_id = "complete",
    params(("id" = JobId, Path)),
    request_body = Complete,
    responses(
        (status = 200, body = CompleteAnswer),
        (status = 409, body = ErrorBody, description = "The lease is lost, or the job is over: remove what was stored."),
        (status = 422, body = ErrorBody, description = "The result is not what was asked for."),
    ),
)]
async fn complete(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Path(id): Path<JobId>,
    Json(body): Json<Complete>,
) -> Result<Json<CompleteAnswer>> {
    Ok(Json(jobs::complete(&hub, &worker.0, &id, body).await?))
}
