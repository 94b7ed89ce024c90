//! Where log lines go: standard error, as text or as JSON.

use std::io;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is shown unless somebody asks for more. apalis tells of every restart that the worker tells of itself.
pub const DEFAULT_FILTER: &str = "info,apalis=error,apalis_core=error,apalis_redis=error";

/// Sends all log lines of the program to standard error. Does nothing where that was set up before.
///
/// # Errors
/// When `filter` is not understood (`info,xvault_worker=debug` would be).
pub fn init(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    let installed = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    };
    // A program that embeds the worker has its own.
    drop(installed);
    Ok(())
}
