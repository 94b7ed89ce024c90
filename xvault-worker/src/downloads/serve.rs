//! The worker's own address for downloads: whoever has a link can reach it, and so can everybody else.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use xvault_serve::{Limits, Pace};

use crate::config::WorkerConfig;

/// How long a connection may take to send a request's head.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// The slowest rate is kept over so many times as long as a client may read nothing at all: a slow line has its moments.
const PACE_SPANS: u32 = 5;

/// What connections are allowed.
pub(crate) fn limits(config: &WorkerConfig) -> Limits {
    Limits {
        open: config.download_connections.get(),
        per_address: Some(config.download_connections_per_address.get()),
        silence: MAX_SILENCE.min(config.download_stall),
        // Only where nobody is left who says it with a job's words.
        stall: config.download_stall * 2,
        pace: pace(config),
    }
}

/// None: clients may be as slow as they like.
fn pace(config: &WorkerConfig) -> Option<Pace> {
    let within = config.download_stall * PACE_SPANS;
    let bytes = config.download_min_rate.saturating_mul(within.as_secs());
    (bytes > 0).then_some(Pace { bytes, within })
}

/// Serves until `stop`, and then what has begun.
pub(crate) async fn run(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    xvault_serve::serve(listener, router, limits, stop).await;
}
