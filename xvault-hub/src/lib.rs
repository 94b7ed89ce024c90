//! xVault's control plane: tenants, sources, jobs and snapshots over HTTP.
//!
//! The hub keeps who owns what, decides what is to be done and when, and never sees backup data. Workers
//! (`xvault-worker`) do the work. In reading order:
//!
//! - [`Hub`]: the whole of it as a value; [`Hub::router`] to mount, [`Hub::start_background`] beside it;
//! - [`Db`]: PostgreSQL or SQLite; [`Keys`]: the key-encryption keys; [`queue`]: how workers are woken;
//! - `api` parses and authorises, `app` decides, `db` stores: one file per resource, use case and table.
//!
//! A program that owns its database and its server mounts the hub beside what it has. The hub sets nothing of the process: no
//! subscriber of `tracing`, no panic hook, no signal handlers; those are [`program`]'s and [`stop_on_signals`]'s.
//!
//! ```
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use axum::routing::get;
//! use sqlx::any::AnyPoolOptions;
//! use xvault_hub::queue::LocalQueue;
//! use xvault_hub::{Clock, Db, Hub, HubParts, Keys, Mount, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let url = format!("sqlite:{}?mode=rwc", dir.path().join("program.db").display());
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // The program's own pool, whose connections are as the hub needs them.
//! sqlx::any::install_default_drivers();
//! let pool = AnyPoolOptions::new()
//!     .after_connect(|connection, _| Box::pin(Db::prepare(connection)))
//!     .connect(&url)
//!     .await?;
//! sqlx::query("CREATE TABLE notes (text TEXT)").execute(&pool).await?;
//!
//! let db = Db::from_pool(pool.clone()).await?;
//! db.migrate().await?;
//! let hub = Hub::new(HubParts {
//!     db,
//!     clock: Clock::system(),
//!     keys: Keys::generate(), // a program that stops one day keeps them: Keys::parse
//!     queue: Arc::new(LocalQueue::default()),
//!     settings: Settings::with_jwt_secret(b"at least thirty-two bytes of secret")?,
//! })
//! .await?;
//!
//! let app: Router = Router::new()
//!     .route("/", get(async || "the program's own page"))
//!     .nest("/backup", hub.router_of(Mount { metrics: false, ..Mount::ALL }));
//! let background = hub.start_background();
//! // Serve `app` with `into_make_service_with_connect_info::<SocketAddr>()`, and then:
//! background.stop().await;
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

pub use api::Mount;
pub use app::operators::{FirstLogin, KeepError, OperatorError, reset_operator};
pub use app::recovery;
pub use app::rekey::{RekeyError, Rekeyed, rekey};
pub use app::worker_tokens::{IssueError, issue_worker_token};
pub use background::Background;
pub use clock::Clock;
pub use db::{Db, Dialect, Error as DbError, Migration};
pub use ipnet::IpNet;
pub use keys::{Error as KeyError, Keys};
pub use serve::{raise_open_files, serve, serve_beside, serve_http, stop_on_signals};
pub use settings::{LoginLimit, PrivateStores, Registration, Settings, SettingsError, StreamLimit};
pub use state::{Hub, HubParts, StartError};
