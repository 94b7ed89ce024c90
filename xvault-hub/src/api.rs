//! HTTP: handlers parse, authorise, call `app`, and answer. One file per resource.

pub(crate) mod client_address;
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
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::Hub;

/// The longest request body, in bytes.
const MAX_BODY: usize = 2 << 20;

fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::with_openapi(openapi::Head::openapi())
        .merge(health::routes())
        .merge(metrics::routes())
        .nest("/api/v1", v1::routes())
        .nest("/internal", internal::routes())
}

/// The API's description, OpenAPI 3.1, from the handlers themselves.
#[must_use]
pub fn openapi() -> OpenApi {
    openapi::complete(routes().split_for_parts().1)
}

pub(crate) fn router(hub: Hub) -> Router {
    let document = openapi::served(&openapi());
    let page = SwaggerUi::new("/docs").config(Config::from(openapi::DOCUMENT));
    let (router, _) = routes().split_for_parts();
    router
        .route(openapi::DOCUMENT, get(move || async move { document.clone() }))
        .merge(Router::from(page).layer(map_response(layers::page_or_no_route)))
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
