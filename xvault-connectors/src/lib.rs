//! Every system xVault talks to: sources that are pulled, stores that snapshots lie in, and what is restored into.
//!
//! This crate is async and needs a tokio runtime. It seals and opens nothing: `xvault` and `xvault-archive` do. In reading order:
//!
//! - [`Source`]: one system to pull a backup from; [`LocalSource`], [`SftpSource`], [`SshSource`], [`FtpSource`], [`PostgresSource`],
//!   [`MysqlSource`] and [`WordpressSource`] take the settings of their type ([`xvault_core::source`]) and how to log in; [`Hooked`] runs
//!   commands around one; [`source::open`] makes the one that settings of any type describe, logging in by [`Saved`] or your own [`Logins`];
//! - [`Emitter`]: what a source of your own pushes its entries through; [`Source`] has one in full;
//! - [`SshOptions`], [`FtpOptions`], [`DatabaseLogin`]: how to log in, by secrets that are held in memory alone, and what the server must
//!   prove; [`tool`]: how the programs are found and held that dump databases; [`Network`]: what may be connected to;
//! - [`Store`]: a place for snapshots, [`FsStore`], [`S3Store`] or [`MemoryStore`]; [`snapshot`]: which are there;
//! - [`Target`]: what files are restored into, such as [`SftpTarget`]; [`DatabaseLoad`]: what a dump is loaded into; [`Scratch`]: the proof
//!   that one can be;
//! - [`Control`]: cancellation, progress and bandwidth of all of these; [`Error`]: what went wrong, and whether it helps to try again;
//! - [`conformance`]: what each [`Source`] and each [`Store`] must pass, yours too;
//! - [`ssh`], [`ftp`], [`wordpress`]: what the sources are made of.
//!
//! ```no_run
//! use xvault_connectors::{DatabaseLogin, PostgresSource, Source};
//! use xvault_core::secret::SecretString;
//! use xvault_core::source::DatabaseCredential;
//! use xvault_core::{FtpSettings, PostgresSettings};
//!
//! # async fn run(password: SecretString) -> Result<(), Box<dyn std::error::Error>> {
//! // What a user saves of a source, and the secret, which is kept elsewhere.
//! let mut settings = PostgresSettings::new("db.example", "xvault_backup");
//! settings.database = Some("shop".into());
//! let credential = DatabaseCredential { password: Some(password.clone()), ssh: None };
//!
//! // The tools are those of this machine. Debian's may have known holes, and are refused unless that is allowed.
//! let mut login = DatabaseLogin::new(&settings.server(), credential);
//! login.tools.allow_outdated = true;
//! let mut source = PostgresSource::new(&settings, login)?;
//!
//! // Log in, and look at what would be pulled. `xvault::backup` pulls it, into a `Store`.
//! for found in source.probe().await?.paths {
//!     println!("{}: {}", found.path, found.error.as_deref().unwrap_or("can be read"));
//! }
//!
//! // Its siblings read alike: settings, and how to log in.
//! use xvault_connectors::{FtpOptions, FtpSource};
//! let settings = FtpSettings::new("files.example", "web", vec!["/www".into()]);
//! let _files = FtpSource::new(&settings, FtpOptions::new(&settings, Some(password.clone())))?;
//!
//! // Whatever the type is: settings as they are saved, and the credential beside them.
//! use xvault_connectors::{Saved, source};
//! let settings = serde_json::from_str(r#"{"type": "ssh", "config": {"host": "web.example", "username": "web", "paths": ["/srv"], "use_password": true}}"#)?;
//! let mut any = source::open(&settings, &Saved::new(Some(password))).await?;
//! println!("{:?}", any.probe().await?.host_key);
//! # Ok(())
//! # }
//! ```

pub mod conformance;
mod control;
pub mod database;
mod error;
pub mod ftp;
mod network;
pub mod snapshot;
pub mod source;
pub mod ssh;
pub mod store;
pub mod target;
mod tls;
mod tls_fault;
pub mod tool;
pub mod wordpress;

pub use control::Control;
pub use database::{DatabaseLoad, DatabaseLogin, Scratch};
pub use error::{Door, Error};
pub use ftp::{FtpOptions, FtpTimeouts};
pub use network::{Network, Resolve, SystemResolver, Unreachable};
pub use source::{
    Emitter, FtpSource, Hooked, LocalSource, Logins, MysqlSource, PostgresSource, Probe, ProbedPath,
    PullSummary, Saved, SftpSource, Source, SshSource, WordpressSource,
};
pub use ssh::{HostKeyPolicy, SshCredential, SshOptions};
pub use store::{FsStore, MemoryStore, S3Options, S3Store, Staging, Store, StoreWriter, Swept};
pub use target::{SftpTarget, SftpTargetOptions, Target};
pub use tls_fault::TlsFault;
