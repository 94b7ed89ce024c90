//! HTTP: handlers parse, authorise, call `app`, and answer. One file per resource.

pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod fields;
pub(crate) mod paging;
pub(crate) mod principal;
mod v1;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::Hub;

/// The longest request body, in bytes.
const MAX_BODY: usize = 2 << 20;

/// The document's head.
#[derive(utoipa::OpenApi)]
#[openapi(info(title = "xVault hub", description = "Agentless, encrypted, multi-tenant backups."))]
struct Head;

fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::with_openapi(Head::openapi()).nest("/api/v1", v1::routes())
}

/// The API's description, OpenAPI 3.1, from the handlers themselves.
#[must_use]
pub fn openapi() -> OpenApi {
    routes().split_for_parts().1
}

pub(crate) fn router(hub: Hub) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(hub)
}
