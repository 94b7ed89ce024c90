//! The worker's own address for downloads: whoever has a link can reach it, and so can everybody else.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use xvault_serve::Limits;

use crate::config::WorkerConfig;

/// How long a connection may take to send a request's head.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// What connections are allowed.
pub(crate) fn limits(config: &WorkerConfig) -> Limits {
    Limits {
        open: config.download_connections.get(),
        per_address: Some(config.download_connections_per_address.get()),
        silence: MAX_SILENCE.min(config.download_stall),
        // Only where nobody is left who says it with a job's words.
        stall: config.download_stall * 2,
    }
}

/// Serves until `stop`, and then what has begun.
pub(crate) async fn run(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    xvault_serve::serve(listener, router, limits, stop).await;
}
