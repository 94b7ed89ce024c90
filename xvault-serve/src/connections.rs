//! Accepts connections, so many at once, and ends those that are silent or don't read.

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

use crate::crowd::{Counted, Crowd};
use crate::stalling::Stalling;

/// What an address hears that has as many connections as it may.
const CROWDED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 101\r\n\
    Retry-After: 10\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n\
    {\"error\":\"too many connections of your address are open; close some\",\"code\":\"crowded\",\"details\":null}";

/// What connections are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many are open at once. Others wait in the listener's queue.
    pub open: usize,
    /// How many of one address are, or of one network of IPv6; others are refused. None: no limit but `open`.
    pub per_address: Option<usize>,
    /// How long one may take to send a request's head, also after the request before.
    pub silence: Duration,
    /// How long a peer may leave an answer unread.
    pub stall: Duration,
    /// How fast it must read at least. None: as slowly as it likes.
    pub pace: Option<Pace>,
}

/// How fast a peer must read an answer: so many bytes in each so long time that it lets the answer wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At least so many.
    pub bytes: u64,
    /// Within so long.
    pub within: Duration,
}

/// Serves `app` until `stop`, then until what has begun is done. Connections are cut when this is dropped. Each request has
/// its peer's [`ConnectInfo`].
pub async fn serve(mut listener: TcpListener, app: Router, limits: Limits, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.open.min(Semaphore::MAX_PERMITS)));
    let crowd = Crowd::new(limits.per_address.unwrap_or(usize::MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (place, stream, peer) = accept(&mut listener, &room) => {
                let Some(counted) = crowd.admit(peer.ip()) else {
                    refuse(&stream);
                    continue;
                };
                let served = serve_one(stream, peer, app.clone(), limits, stop.clone());
                connections.spawn(held(served, place, counted));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection keeps its place until it ends.
async fn held(served: impl Future<Output = ()>, _place: Option<OwnedSemaphorePermit>, _counted: Counted) {
    served.await;
}

/// Says why, if that can be done at once: nobody waits for who has too many already.
fn refuse(stream: &TcpStream) {
    if let Err(error) = stream.try_write(CROWDED) {
        tracing::debug!(%error, "a refusal was not sent");
    }
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
    limits: Limits,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        app.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.silence);
    let connection =
        http.serve_connection(TokioIo::new(Stalling::new(stream, limits.stall, limits.pace)), service);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(CROWDED).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(body.starts_with('{') && body.ends_with('}'));
    }
}
