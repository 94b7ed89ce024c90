//! Serves a hub until it is told to stop.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Hub;

/// How long open requests may take once the hub stops.
const GRACE: Duration = Duration::from_secs(20);

/// Serves `hub` on `listener`, and runs its loops, until `stop`. Open requests are finished, within 20 s.
///
/// # Errors
/// When the listener fails.
pub async fn serve(hub: &Hub, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let background = tokio::spawn({
        let (hub, stop) = (hub.clone(), stop.clone());
        async move { hub.run_background(stop).await }
    });
    let app = hub.router().into_make_service_with_connect_info::<SocketAddr>();
    let stopping = stop.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { stopping.cancelled().await });
    let served = tokio::select! {
        served = server.into_future() => served,
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    };
    stop.cancel();
    let _panicked = background.await;
    served
}

/// Fires at Ctrl-C or SIGTERM.
///
/// # Errors
/// When signals can't be watched.
pub fn stop_on_signals() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let fired = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        fired.cancel();
    });
    Ok(stop)
}
