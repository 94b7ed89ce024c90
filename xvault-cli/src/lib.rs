//! The `xvault` command, as a function: [`main`] is all that its program calls.

mod args;
mod commands;
mod database;
mod flags;
mod ftp;
mod hints;
mod hooks;
mod keys;
mod known_certificates;
mod login;
mod output;
mod source_url;
mod store;
mod units;
mod wordpress;

use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;
use xvault::core::{Dispose, Disposition};

use args::Cli;
use output::{Output, write_stderr};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All is well.
    Done,
    /// Done, and something could not be read.
    Warnings,
}

/// Flags that make no sense together, where clap can't tell.
#[derive(Debug)]
struct WrongUsage(String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const WARNINGS: u8 = 3;
const INTERRUPTED: u8 = 130;

/// Reads the command line, does what it says, and gives the exit code: 0 done, 1 failed, 2 wrong usage, 3 done with
/// warnings, 130 interrupted.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            write_stderr(&format!("xvault: start the runtime: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let output = Output::new(cli.output);
    let code = runtime.block_on(run(cli, &output));
    // Blocked helper threads of a cancelled job must not keep the program.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli, output: &Output) -> ExitCode {
    let cancel = CancellationToken::new();
    tokio::spawn(watch_signals(cancel.clone(), output.clone()));
    let (is_listing, when_interrupted) = (cli.command.is_listing(), cli.command.when_interrupted());
    let result = commands::run(cli.command, output, &cancel).await;
    output.clear();
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Warnings) => ExitCode::from(WARNINGS),
        Err(_) if cancel.is_cancelled() => {
            output.error(when_interrupted, Disposition::Cancelled);
            ExitCode::from(INTERRUPTED)
        }
        Err(error) if is_listing && is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let message = xvault::core::error::chain(error.as_ref());
            output.error(&message, disposition(&error));
            if let Some(hint) = hint(&error) {
                output.say(&format!("xvault: {hint}"));
            }
            ExitCode::from(if error.is::<WrongUsage>() { USAGE } else { FAILED })
        }
    }
}

/// The first signal stops the job in order, the second stops the program.
async fn watch_signals(cancel: CancellationToken, output: Output) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for round in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if round > 0 {
            std::process::exit(i32::from(INTERRUPTED));
        }
        output.say("stopping; once more stops at once");
        cancel.cancel();
    }
}

/// Somebody who reads our output has enough of it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn disposition(error: &anyhow::Error) -> Disposition {
    error.downcast_ref::<xvault::Error>().map_or(Disposition::Permanent, Dispose::disposition)
}

/// What the user can do about it with a flag, or with patience.
fn hint(error: &anyhow::Error) -> Option<String> {
    let error = error.downcast_ref::<xvault::Error>()?;
    let flags = match error {
        xvault::Error::Source(error) | xvault::Error::Target(error) => hints::flags(error),
        _ => None,
    };
    let patience = || "this may work when it is tried again".to_owned();
    flags.or_else(|| (error.disposition() == Disposition::Transient).then(patience))
}
