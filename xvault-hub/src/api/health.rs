//! `/healthz` and `/readyz`: whether this hub runs, and whether it can serve.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{Error, Result};
use super::extract::Json;
use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Health {
    /// `ok`
    status: &'static str,
    /// Of the hub.
    version: &'static str,
}

const WELL: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Whether the hub runs
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(WELL)
}

/// Whether the hub can serve
///
/// Its database answers and lacks nothing that this version needs.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = Health)))]
async fn readyz(State(hub): State<Hub>) -> Result<Json<Health>> {
    hub.db().check_not_behind().await.map_err(|error| {
        tracing::warn!(cause = %xvault_core::error::chain(&error), "not ready");
        Error::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the database is away or not up to date")
    })?;
    Ok(Json(WELL))
}
