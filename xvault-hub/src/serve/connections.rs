//! Accepts connections, so many at once, and ends those that are silent or don't read.
//!
//! `axum::serve` waits for ever for a peer that has sent half a request, or none.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Stopping;
use super::stalling::Stalling;

/// How long a peer may leave an answer unread.
const MAX_STALL: Duration = Duration::from_secs(60);

/// What connections are allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many are open at once. Others wait in the listener's queue.
    pub(super) open: u32,
    /// How long one may take to send a request's head, also after the request before.
    pub(super) silence: Duration,
}

/// Serves `app` until `stop`, then until what has begun is done. Connections are cut when this is dropped.
pub(super) async fn serve(mut listener: TcpListener, app: Router, limits: Limits, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(usize::try_from(limits.open).unwrap_or(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (place, stream, peer) = accept(&mut listener, &room) => {
                let served = serve_one(stream, peer, app.clone(), limits.silence, stop.clone());
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is room for it. None as the place would mean that nobody counts.
async fn accept(
    listener: &mut TcpListener,
    room: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, TcpStream, SocketAddr) {
    let place = room.clone().acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await;
    (place, stream, peer)
}

/// What goes wrong with one connection is its peer's affair.
async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    silence: Duration,
    stop: CancellationToken,
) {
    let stopping = Stopping(stop.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(stopping.clone());
        app.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(silence);
    let connection = http.serve_connection(TokioIo::new(Stalling::new(stream, MAX_STALL)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
