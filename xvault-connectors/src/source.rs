//! What a system we can pull a backup from looks like, whatever its protocol.

pub(crate) mod bad_names;
pub(crate) mod custom;
pub(crate) mod dump;
mod emitter;
pub(crate) mod excludes;
mod ftp;
mod hooked;
mod in_time;
mod link;
mod local;
mod look;
mod mysql;
mod nested;
mod open;
mod postgres;
mod sftp;
mod ssh;
mod wordpress;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::time::timeout;
use xvault_core::EntrySink;
use xvault_core::snapshot::{ContentSummary, Evidence};

use crate::{Control, Error};

pub use emitter::Emitter;
pub use ftp::FtpSource;
pub use hooked::Hooked;
pub(crate) use link::Link;
pub use local::LocalSource;
pub use mysql::MysqlSource;
pub use open::{Logins, Saved, open};
pub use postgres::PostgresSource;
pub use sftp::SftpSource;
pub(crate) use sftp::scope::real_path;
pub use ssh::SshSource;
#[doc(hidden)]
pub use ssh::repack;
pub use wordpress::WordpressSource;

/// One system we can pull a backup from.
///
/// A `Source` is used for one job: probe, or pull, or both in this order. Every implementation passes
/// [`crate::conformance::source`].
///
/// One of your own, whose one file ends with a line that says so:
///
/// ```
/// use xvault_connectors::{Control, Emitter, Error, Probe, ProbedPath, PullSummary, Source};
/// use xvault_core::snapshot::Evidence;
/// use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, Metadata};
///
/// struct Report;
///
/// #[async_trait::async_trait]
/// impl Source for Report {
///     fn kind(&self) -> &'static str {
///         "report"
///     }
///
///     async fn probe(&mut self) -> Result<Probe, Error> {
///         let path = ProbedPath { path: "report.csv".into(), kind: Some("file"), error: None };
///         Ok(Probe { server: Some("reports 1.0".into()), host_key: None, paths: vec![path], notes: vec![] })
///     }
///
///     async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
///         // It counts, throttles, tells progress, and notices that the job was cancelled.
///         let mut emitter = Emitter::new(sink, control);
///         let path = EntryPath::new("report.csv").map_err(|error| Error::Incomplete(error.to_string()))?;
///         let metadata = Metadata { mode: 0o600, ..Metadata::default() };
///         // Of a file whose length is known, `EntryKind::File` says it, and a body of another length is an error.
///         emitter.begin(Entry { path, kind: EntryKind::Stream, metadata }).await?;
///         for row in ["1,one\n", "2,two\n", "-- complete\n"] {
///             emitter.data(row.into()).await?;
///         }
///         emitter.end().await?;
///         // What is known to have come to its end: `Walk` of what was listed and read, `Dump` of what a tool wrote.
///         Ok(emitter.finish(Evidence::Walk { directories: 0, files: 1 }))
///     }
/// }
/// ```
#[async_trait]
pub trait Source: Send {
    /// The word for this kind of source in manifests: `local`, `sftp`, `ssh`…
    fn kind(&self) -> &'static str;

    /// Connects, authenticates and looks at the configured paths without reading content. What "test connection" runs; somebody waits
    /// for it, so it is over in ten seconds.
    ///
    /// # Errors
    /// When the system can't be reached, does not let us in, or has not told in time. A missing path is no error here:
    /// it is told in [`Probe::paths`].
    async fn probe(&mut self) -> Result<Probe, Error>;

    /// Pushes every entry, in a stable order, into `sink`; returns what was pulled and what could not be.
    ///
    /// Each path occurs once. What can't be read becomes a warning; a configured path that does not
    /// exist or can't be opened, a listing that fails half-way or missing [`Evidence`] is an error.
    ///
    /// # Errors
    /// After an error, or when the future is dropped, what `sink` holds is not a backup.
    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error>;

    /// How long a pull that is cancelled may take to wind up, before it is dropped.
    fn wind_up(&self) -> Duration {
        Duration::ZERO
    }
}

/// What a pull brought, with the proof that it came to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSummary {
    /// What was handed to the sink.
    pub content: ContentSummary,
    /// How the connector knows that nothing is missing.
    pub evidence: Evidence,
}

/// What a user needs to know before saving a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The server's own name for itself (`SSH-2.0-OpenSSH_9.2`); `None` for this machine.
    pub server: Option<String>,
    /// The fingerprint the server proved itself with, to be pinned.
    pub host_key: Option<String>,
    /// One per configured path, or per database.
    pub paths: Vec<ProbedPath>,
    /// What else is worth knowing: "no remote tar, SFTP will be used".
    pub notes: Vec<String>,
}

/// Whoever waits for a probe is told after so long that there is no answer.
const PROBE_PATIENCE: Duration = Duration::from_millis(9_500);

/// A look at `server`, as long as somebody waits for it.
pub(crate) async fn probe_in_time(
    server: String,
    look: impl Future<Output = Result<Probe, Error>>,
) -> Result<Probe, Error> {
    let after = PROBE_PATIENCE;
    let late = |_| Error::Timeout { what: format!("{server} (a test of it)"), after };
    timeout(after, look).await.map_err(late)?
}

/// A configured path as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbedPath {
    /// As configured.
    pub path: String,
    /// `directory`, `file`, `symlink`, `database`; `None` when it could not be looked at.
    pub kind: Option<&'static str>,
    /// Why it could not be looked at.
    pub error: Option<String>,
}
