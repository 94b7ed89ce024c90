//! `/metrics`: the fleet and this hub, for a monitoring system.

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{Error, ErrorBody, Result};
use super::layers;
use crate::Hub;
use crate::app::observe;
use crate::metrics;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(page))
}

/// Metrics
///
/// In the text format of OpenMetrics. Nothing in it names a tenant. What can't be had from the database or the queue is
/// left out, and `xvault_database_reachable` or `xvault_queue_reachable` is 0.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text"),
        (status = "5XX", body = ErrorBody),
    ),
)]
async fn page(State(hub): State<Hub>) -> Result<impl IntoResponse> {
    let observed = observe::fleet(&hub).await;
    let page = hub.metrics().page(observed).await.map_err(|error| Error::internal(&error))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page))
}

/// Counts the requests that match a route, and their time.
pub(super) async fn measure(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    let route = layers::route(&request).map(str::to_owned);
    let method = request.method().as_str().to_owned();
    let begun = tokio::time::Instant::now();
    let response = next.run(request).await;
    if let Some(route) = route {
        hub.metrics().answered(&method, &route, response.status().as_u16(), begun.elapsed());
    }
    response
}
