//! The worker of xVault: runs the jobs of a hub, pulling from sources into an encrypted store.
//!
//! - [`Worker`]: opens the store, runs until it is told to stop, and drains;
//! - [`WorkerConfig`]: what it is told at its start; [`args::Args`] reads the same from flags and environment;
//! - [`Feed`]: where its wake-up calls come from, Redis or a hub in the same program ([`LocalFeed`]);
//! - [`Worker::download_router`]: its downloads, for an HTTP server of the same program;
//! - [`program`]: all of it as a program.
//!
//! ```
//! use tokio::sync::mpsc::channel;
//! use tokio_util::sync::CancellationToken;
//! use xvault_worker::{Feed, LocalFeed, Worker, WorkerConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let backups = scratch.path().join("backups");
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // The hub of this program sends a message for each job into one of these.
//! let (_shared_jobs, shared) = channel(1000);
//! let (_own_jobs, own) = channel(1000);
//! let (_quick_jobs, quick) = channel(1000);
//!
//! let token = "xvw_token-that-the-hub-gave".into();
//! let config = WorkerConfig::new("worker-1".parse()?, token, "http://127.0.0.1:8080", &backups);
//! let worker = Worker::new(config, Feed::Local(LocalFeed::new(shared, own, quick)))?;
//! println!("secrets for this worker are sealed to {}", worker.recipient());
//!
//! // Neither hub nor queue need to be there yet.
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(worker.run(shutdown.clone()));
//! shutdown.cancel();
//! running.await??;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What is promised
//!
//! - **The hub owns the job.** A message of a queue only wakes; what counts is the lease that a claim gives. Once the
//!   hub says that somebody else has the job, or that it is over, the job stops and nothing of it stays in the store.
//! - **Nobody needs to help.** Hub and queue may stall, vanish and come back empty: running jobs go on, and so does the worker. A hub
//!   that is away is told how a job ended when it comes back.
//! - **Nothing is removed on suspicion.** A snapshot goes when the hub refused it for certain, or says that nobody wants it.
//! - **Secrets stay inside.** A credential is opened in memory for one job, and never logged, reported or written.

pub mod args;
mod claims;
pub mod config;
mod downloads;
mod error;

mod heartbeat;
mod http;
mod hub;
mod identity;
mod jobs;
mod lease;
mod log_buffer;
mod metrics;
pub mod program;
mod queue;
mod reconcile;
mod report;
mod scratch;
mod slots;
mod vitals;
mod worker;

pub use config::WorkerConfig;
pub use error::Error;
pub use hub::ClientError;
pub use identity::{Error as IdentityError, IDENTITY_FILE};
pub use queue::{Feed, LocalFeed};
pub use worker::Worker;
