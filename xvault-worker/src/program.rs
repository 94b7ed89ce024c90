//! `xvault-worker` as a program: flags, signals, exit code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use xvault::core::service::{Environment, init_logs};

use crate::args::Args;
use crate::{Feed, Worker};

/// Somebody did not want to wait.
const INTERRUPTED: i32 = 130;

/// Reads the command line, works until it is told to stop, and gives the exit code.
#[must_use]
pub fn run() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "xvault-worker: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<()> {
    let (config, redis_url) = args.settings(&Environment::of_process())?;
    init_logs(args.log_format(), args.log_filter()).context("WORKER_LOG is not understood")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let signals = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        tokio::spawn(watch_signals(signals, shutdown.clone()));
        let worker = Worker::new(config, Feed::Redis { url: redis_url })?;
        worker.run(shutdown).await.map_err(anyhow::Error::from)
    });
    // Blocked helper threads of a job that did not stop must not keep the program.
    runtime.shutdown_background();
    ended
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("listen for signals")
}

/// The first signal stops the worker in order, the second at once.
async fn watch_signals((mut terminate, mut interrupt): (Signal, Signal), shutdown: CancellationToken) {
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            std::process::exit(INTERRUPTED);
        }
        tracing::info!("stopping; once more stops at once");
        shutdown.cancel();
    }
}
