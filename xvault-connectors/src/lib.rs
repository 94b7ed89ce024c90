//! Every system xVault talks to.

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
pub mod tool;
pub mod wordpress;

pub use control::Control;
pub use database::{DatabaseLoad, DatabaseLogin, Scratch};
pub use error::Error;
pub use ftp::{FtpOptions, FtpTimeouts};
pub use network::{Network, Resolve, SystemResolver, Unreachable};
pub use source::{
    Emitter, FtpSource, Hooked, LocalSource, MysqlSource, PostgresSource, Probe, ProbedPath, PullSummary,
    SftpSource, Source, SshSource, WordpressSource,
};
pub use ssh::{HostKeyPolicy, SshCredential, SshOptions};
pub use store::{FsStore, MemoryStore, S3Options, S3Store, Staging, Store, StoreWriter, Swept};
pub use target::{SftpTarget, SftpTargetOptions, Target};
