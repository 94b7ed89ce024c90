//! `/internal/downloads`

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::protocol::{OpenDownload, OpenedDownload};

use super::WorkerPrincipal;
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::Json;
use crate::app::downloads;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(open))
}

/// Open a download link
///
/// Somebody came to the worker with it. What has to be decrypted comes as a job that the worker holds from now on.
#[utoipa::path(
    post, path = "/downloads/open", tag = "internal", operation_id = "open_download",
    request_body = OpenDownload,
    responses(
        (status = 200, body = OpenedDownload),
        (status = 404, body = ErrorBody, description = "The token is not the hub's, or was altered."),
        (status = 409, body = ErrorBody, description = "The snapshot lies on another worker's disk (`not_here`), can't be \
            decrypted (`not_readable`), or its tenant is disabled (`tenant_disabled`)."),
        (status = 410, body = ErrorBody, description = "The link has expired (`link_expired`), was good for one use \
            (`link_used`), or its snapshot was deleted (`snapshot_gone`)."),
    ),
)]
async fn open(
    State(hub): State<Hub>,
    worker: WorkerPrincipal,
    Json(body): Json<OpenDownload>,
) -> Result<Json<OpenedDownload>> {
    Ok(Json(downloads::open(&hub, &worker.0, &body).await?))
}
