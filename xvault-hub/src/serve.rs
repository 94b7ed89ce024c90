//! Serves a hub until it is told to stop.

mod open_files;

use std::time::Duration;

use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use xvault_serve::Limits;

pub use open_files::raise_open_files;

use crate::Hub;

/// How long open requests may take once the hub stops.
const GRACE: Duration = Duration::from_secs(20);

/// How long a peer may leave an answer unread.
const MAX_STALL: Duration = Duration::from_secs(60);

/// That the server of a request stops: what a handler holds open for long ends then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

/// Serves `hub` on `listener`, and runs its loops, until `stop`. Open requests are finished, within 20 s; streams end at once.
///
/// # Errors
/// When the listener fails.
pub async fn serve(hub: &Hub, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    serve_beside(hub, Router::new(), listener, stop).await
}

/// As [`serve`], with other routes beside the hub's: those of a worker in the same program, say.
///
/// # Errors
/// When the listener fails.
pub async fn serve_beside(
    hub: &Hub,
    others: Router,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let background = tokio::spawn({
        let (hub, stop) = (hub.clone(), stop.clone());
        async move { hub.run_background(stop).await }
    });
    serve_app(hub, hub.router().merge(others), listener, stop.clone()).await;
    stop.cancel();
    let _panicked = background.await;
    Ok(())
}

/// As [`serve`], without the loops. It holds fewer connections than its settings say where the limit of open files is low: see
/// [`raise_open_files`].
pub async fn serve_http(hub: &Hub, listener: TcpListener, stop: CancellationToken) {
    serve_app(hub, hub.router(), listener, stop).await;
}

async fn serve_app(hub: &Hub, app: Router, listener: TcpListener, stop: CancellationToken) {
    let settings = hub.settings();
    let open = usize::try_from(open_files::room(settings.max_connections)).unwrap_or(usize::MAX);
    let limits =
        Limits { open, per_address: None, silence: settings.max_silence, stall: MAX_STALL, pace: None };
    let app = app.layer(Extension(Stopping(stop.clone())));
    tokio::select! {
        () = xvault_serve::serve(listener, app, limits, stop.clone()) => {}
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {}
    }
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
