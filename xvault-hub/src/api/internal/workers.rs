//! `/internal/workers`

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::protocol::{Heartbeat, HeartbeatAnswer, Reconcile, ReconcileAnswer, Register, Registered};

use super::WorkerPrincipal;
use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::Json;
use crate::app::{jobs, workers};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(register)).routes(routes!(heartbeat)).routes(routes!(reconcile))
}

/// Register a worker
///
/// When it comes up. Doing so again replaces what was said before.
#[utoipa::path(
    post, path = "/workers/register", tag = "internal", operation_id = "register",
    request_body = Register,
    responses((status = 200, body = Registered)),
)]
async fn register(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Json(body): Json<Register>,
) -> Result<Json<Registered>> {
    Ok(Json(workers::register(&hub, &worker.0, &body).await?))
}

/// Say that a worker lives
///
/// The answer says what the hub wants of it.
#[utoipa::path(
    post, path = "/workers/heartbeat", tag = "internal", operation_id = "heartbeat",
    request_body = Heartbeat,
    responses((status = 200, body = HeartbeatAnswer)),
)]
async fn heartbeat(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Json(body): Json<Heartbeat>,
) -> Result<Json<HeartbeatAnswer>> {
    Ok(Json(workers::heartbeat(&hub, &worker.0, &body).await?))
}

/// Ask what is to become of stored snapshots
///
/// Those of attempts that lost their lease may go.
#[utoipa::path(
    post, path = "/workers/reconcile", tag = "internal", operation_id = "reconcile",
    request_body = Reconcile,
    responses((status = 200, body = ReconcileAnswer)),
)]
async fn reconcile(
    State(hub): State<Hub>,
    _: WorkerPrincipal,
    Json(body): Json<Reconcile>,
) -> Result<Json<ReconcileAnswer>> {
    Ok(Json(jobs::reconcile(&hub, body).await?))
}
