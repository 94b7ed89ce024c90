//! xVault's control plane: tenants, sources, jobs and snapshots over HTTP.
//!
//! The hub keeps who owns what, decides what is to be done and when, and never sees backup data. Workers
//! (`xvault-worker`) do the work. In reading order:
//!
//! - [`Hub`]: the whole of it as a value; [`Hub::router`] to mount, [`Hub::run_background`] beside it;
//! - [`Db`]: PostgreSQL or SQLite; [`Keys`]: the key-encryption keys; [`queue`]: how workers are woken;
//! - `api` parses and authorises, `app` decides, `db` stores: one file per resource, use case and table.
//!
//! ```
//! use std::sync::Arc;
//! use xvault_hub::queue::LocalQueue;
//! use xvault_hub::{Clock, Db, Hub, HubParts, Keys, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let file = dir.path().join("hub.db");
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let db = Db::connect(&format!("sqlite:{}", file.display()), 4).await?;
//! db.migrate().await?;
//! let hub = Hub::new(HubParts {
//!     db,
//!     clock: Clock::system(),
//!     keys: Keys::generate(),
//!     queue: Arc::new(LocalQueue::default()),
//!     settings: Settings::with_jwt_secret(b"at least thirty-two bytes of secret")?,
//! })
//! .await?;
//! let app: axum::Router = hub.router(); // mount it, or serve it
//! # let _ = app;
//! # Ok(())
//! # })
//! # }
//! ```

pub mod api;
mod app;
mod background;
mod clock;
pub mod config;
mod db;
mod keys;
#[cfg(test)]
mod logged;
mod metrics;
pub mod program;
pub mod queue;
mod schedule;
mod serve;
mod settings;
mod state;

pub use app::operators::{FirstLogin, KeepError, OperatorError, reset_operator};
pub use app::rekey::{RekeyError, Rekeyed, rekey};
pub use app::worker_tokens::{IssueError, issue_worker_token};
pub use clock::Clock;
pub use db::{Db, Dialect, Error as DbError, Migration};
pub use ipnet::IpNet;
pub use keys::{Error as KeyError, Keys};
pub use serve::{serve, serve_http, stop_on_signals};
pub use settings::{LoginLimit, Registration, Settings, SettingsError, StreamLimit};
pub use state::{Hub, HubParts, StartError};
