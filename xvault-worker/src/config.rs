//! What a worker is told at its start.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use xvault::core::secret::SecretString;
use xvault::core::{EgressPolicy, WorkerId};

/// Jobs at a time.
pub(crate) const CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
/// How long running jobs may take when the worker is stopped.
pub(crate) const DRAIN: Duration = Duration::from_secs(300);
/// Downloads at a time.
pub(crate) const DOWNLOADS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);
/// Connections for downloads that are open at once.
pub(crate) const DOWNLOAD_CONNECTIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// Of these, of one address.
pub(crate) const DOWNLOAD_CONNECTIONS_PER_ADDRESS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
/// How long a client may leave what is sent to it unread.
pub(crate) const DOWNLOAD_STALL: Duration = Duration::from_secs(60);
/// A modem is faster.
pub(crate) const DOWNLOAD_MIN_RATE: u64 = 1 << 10;
/// Room on the disk that no backup may use.
pub(crate) const MIN_FREE: u64 = 1 << 30;
/// How long a sweep of a bucket may take.
pub(crate) const SWEEP_LIMIT: Duration = Duration::from_secs(3600);
/// How long a deletion may take in each place.
pub(crate) const DELETION_LIMIT: Duration = Duration::from_secs(900);

/// A worker's settings. Begin with [`WorkerConfig::new`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// Its name, as the hub knows it.
    pub worker_id: WorkerId,
    /// The token that the hub gave for it.
    pub token: SecretString,
    /// Where the hub is: `http://127.0.0.1:8080`.
    pub hub_url: String,
    /// PEM file with the certificate authorities that the hub's certificate may be of: these and no others. The system's by default.
    pub hub_ca_file: Option<PathBuf>,
    /// The directory that snapshots lie in. Made when it is missing. Holds the worker's own key, too.
    pub storage_base: PathBuf,
    /// The directory that long parts of uploads to buckets wait in, encrypted: up to 15 GiB for a backup. `storage_base` by default.
    pub upload_dir: Option<PathBuf>,
    /// How many jobs run at a time.
    pub concurrency: NonZeroUsize,
    /// Directories of this machine that `local` sources may read: those that operators made, for whatever tenant. None: the worker
    /// takes no `local` sources.
    pub allow_local: Vec<PathBuf>,
    /// How long running jobs may take to end once the worker is to stop. What still runs then is handed back to the hub.
    pub drain: Duration,
    /// Bytes of the disk that must stay free: a backup that needs them is put off.
    pub min_free: u64,
    /// What tenants may have it connect to: their sources and stores, and where they restore to. Everything by default.
    pub egress: EgressPolicy,
    /// Whether database tools with known holes are used: a hostile database server can use those against this machine.
    pub allow_outdated_tools: bool,
    /// The server that restore tests load PostgreSQL's dumps into: `postgres://user:password@host:5432`. None: they are unpacked only.
    pub scratch_postgres_url: Option<SecretString>,
    /// The same for the dumps of MySQL and MariaDB: `mysql://user:password@host:3306`.
    pub scratch_mysql_url: Option<SecretString>,
    /// Whether an account may be used there that reaches the files and programs of the server's machine: so can every dump then.
    pub scratch_superuser: bool,
    /// Where `/metrics` and `/healthz` are served. Nowhere by default.
    pub metrics_addr: Option<SocketAddr>,
    /// Where downloads are served. Nowhere by default, unless by [`Worker::download_router`](crate::Worker::download_router).
    pub download_addr: Option<SocketAddr>,
    /// What links to these downloads begin with: `https://worker-1.example`. `http://` and `download_addr` by default.
    pub download_url: Option<String>,
    /// How many downloads run at a time, besides jobs.
    pub downloads: NonZeroUsize,
    /// How many connections are open at once at `download_addr`; others wait.
    pub download_connections: NonZeroUsize,
    /// How many of them are of one address; others are refused.
    pub download_connections_per_address: NonZeroUsize,
    /// How long a client may leave what is sent to it unread: then its download ends.
    pub download_stall: Duration,
    /// How many bytes per second a client must read at least, over five times that long: else its connection ends. 0: no limit.
    pub download_min_rate: u64,
    /// How long a sweep of a bucket may take: the server may be anybody's, and must not keep this worker for ever. An hour; the next
    /// sweep goes on.
    pub sweep_limit: Duration,
    /// How long a deletion may take in each place where the snapshot lies: it has a few objects. A quarter of an hour; the next
    /// attempt goes on.
    pub deletion_limit: Duration,
}

impl WorkerConfig {
    /// Two jobs at a time, no local sources, 1 GiB kept free, five minutes to drain.
    pub fn new(
        worker_id: WorkerId,
        token: SecretString,
        hub_url: impl Into<String>,
        storage_base: impl Into<PathBuf>,
    ) -> Self {
        Self {
            worker_id,
            token,
            hub_url: hub_url.into(),
            hub_ca_file: None,
            storage_base: storage_base.into(),
            upload_dir: None,
            concurrency: CONCURRENCY,
            allow_local: Vec::new(),
            drain: DRAIN,
            min_free: MIN_FREE,
            egress: EgressPolicy::default(),
            allow_outdated_tools: false,
            scratch_postgres_url: None,
            scratch_mysql_url: None,
            scratch_superuser: false,
            metrics_addr: None,
            download_addr: None,
            download_url: None,
            downloads: DOWNLOADS,
            download_connections: DOWNLOAD_CONNECTIONS,
            download_connections_per_address: DOWNLOAD_CONNECTIONS_PER_ADDRESS,
            download_stall: DOWNLOAD_STALL,
            download_min_rate: DOWNLOAD_MIN_RATE,
            sweep_limit: SWEEP_LIMIT,
            deletion_limit: DELETION_LIMIT,
        }
    }
}
