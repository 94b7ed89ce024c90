//! `/metrics` and `/healthz` for whoever watches the worker.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Prometheus's text format, as OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `stop`.
pub(crate) async fn run(listener: TcpListener, metrics: Metrics, stop: CancellationToken) {
    let router =
        Router::new().route("/metrics", get(show)).route("/healthz", get(health)).with_state(metrics);
    if let Err(error) = serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "metrics are not served any more");
    }
}

async fn show(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The process lives; a hub that is down is no reason to restart it.
async fn health(State(metrics): State<Metrics>) -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "status": "ok",
        "hub_reached": metrics.is_hub_reached(),
        "active_jobs": metrics.active_jobs(),
    }))
}
