//! The worker's own address for downloads.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::outflow::MAX_STALL;

/// Serves until `stop`, and then what has begun.
pub(crate) async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    let listener = listener.tap_io(limit);
    let app = router.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "downloads are not served any more");
    }
}

/// A connection whose peer reads nothing ends by itself.
fn limit(stream: &mut TcpStream) {
    let millis = u32::try_from(MAX_STALL.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&*stream, millis) {
        tracing::debug!(%error, "a connection has no time limit");
    }
}
