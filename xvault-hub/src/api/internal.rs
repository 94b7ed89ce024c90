//! `/internal`: what workers call. See [`xvault_core::protocol`].

mod downloads;
mod jobs;
mod workers;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use xvault_core::WorkerId;

use super::error::{Error, Result};
use super::principal::bearer;
use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().merge(workers::routes()).merge(jobs::routes()).merge(downloads::routes())
}

/// The worker that asks: the owner of the token in the `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WorkerPrincipal(WorkerId);

impl FromRequestParts<Hub> for WorkerPrincipal {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self> {
        let token = bearer(&parts.headers)?.to_owned();
        crate::app::workers::authenticate(hub, &token).await.map(Self)
    }
}
