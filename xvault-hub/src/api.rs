//! HTTP: handlers parse, authorise, call `app`, and answer. One file per resource.

pub(crate) mod client_address;
mod docs;
mod drain;
pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod fields;
mod health;
mod internal;
mod layers;
mod metrics;
mod openapi;
pub(crate) mod paging;
pub(crate) mod principal;
mod v1;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::Hub;

/// The longest request body, in bytes.
const MAX_BODY: usize = 2 << 20;

/// Which parts of the HTTP application are mounted.
///
/// ```
/// use xvault_hub::Mount;
///
/// let for_people = Mount { internal: false, metrics: false, ..Mount::ALL };
/// let for_workers = Mount { internal: true, ..Mount::NONE };
/// # let _ = (for_people, for_workers);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    /// `/api/v1`: for people and their programs.
    pub api: bool,
    /// `/docs` and `/api/v1/openapi.json`: what is mounted, described.
    pub docs: bool,
    /// `/internal`: for workers.
    pub internal: bool,
    /// `/healthz` and `/readyz`.
    pub health: bool,
    /// `/metrics`: for everybody who gets there.
    pub metrics: bool,
}

impl Mount {
    /// Everything.
    pub const ALL: Self = Self { api: true, docs: true, internal: true, health: true, metrics: true };
    /// Nothing, to begin with.
    pub const NONE: Self = Self { api: false, docs: false, internal: false, health: false, metrics: false };
}

fn routes(mount: Mount) -> OpenApiRouter<Hub> {
    let parts = [
        (mount.health, "", health::routes as fn() -> OpenApiRouter<Hub>),
        (mount.metrics, "", metrics::routes),
        (mount.api, "/api/v1", v1::routes),
        (mount.internal, "/internal", internal::routes),
    ];
    let head = OpenApiRouter::with_openapi(openapi::Head::openapi());
    parts.into_iter().filter(|(wanted, ..)| *wanted).fold(head, |router, (_, below, part)| match below {
        "" => router.merge(part()),
        below => router.nest(below, part()),
    })
}

/// The API's description, OpenAPI 3.1, from the handlers themselves.
#[must_use]
pub fn openapi() -> OpenApi {
    openapi::complete(routes(Mount::ALL).split_for_parts().1)
}

pub(crate) fn router(hub: Hub, mount: Mount) -> Router {
    let (router, document) = routes(mount).split_for_parts();
    let docs = if mount.docs { docs::routes(openapi::complete(document)) } else { Router::new() };
    router
        .merge(docs)
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(layers::limit_time))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(hub.clone(), metrics::measure))
        .layer(from_fn(layers::secure))
        .layer(from_fn(drain::drain))
        .layer(from_fn(layers::identify))
        .with_state(hub)
}
