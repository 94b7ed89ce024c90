//! Starts private real servers for the tests of xVault, breaks connections on purpose, and
//! builds and compares awkward trees.
//!
//! - [`Sshd`]: OpenSSH on a free loopback port, stopped on drop; [`SshAgent`] beside it;
//! - [`Postgres`] and [`Redis`]: with passwords, to be stopped, stalled and restarted in the middle of things;
//! - [`Mariadb`] beside it, and [`databases`] with everything that dumps get wrong;
//! - [`SeaweedFs`], and [`Garage`] in the full run: S3 servers, with rclone and curl to ask them beside xVault;
//! - [`Wordpress`]: a site in a directory and a database, and PHP to serve it;
//! - [`Ftpd`]: ProFTPD, which has MLSD, and vsftpd, which has not, with and without TLS;
//! - [`FaultProxy`]: a TCP proxy that delays, cuts and stalls;
//! - [`trees`]: trees with every oddity a file system has, and [`assert_same_tree`];
//! - [`samples`]: the small files of a snapshot that never was; [`forge`]: snapshots that mean harm;
//! - [`tools`]: the real `age`, `zstd`, `tar`; a small file system to fill up.
//!
//! A database goes away with the test process, whatever becomes of that:
//!
//! ```
//! use xvault_testkit::{Postgres, Redis};
//!
//! let postgres = Postgres::shared();
//! let database = postgres.create_database();
//! assert_eq!(postgres.psql(&database, "SELECT 6 * 7"), "42\n");
//! let redis = Redis::builder().append_only().start();
//! assert_eq!(redis.cli(&["PING"]), "PONG");
//! ```
//!
//! Nothing here mocks. A missing program panics with the package that holds it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is a failed test, and says why"
)]

mod agent;
mod compare;
pub mod databases;
pub mod forge;
mod ftp_front;
mod ftpd;
mod garage;
mod keeper;
mod lent;
mod mariadb;
mod postgres;
mod proxy;
mod redis;
mod s3;
pub mod samples;
mod seaweedfs;
mod server;
mod smallfs;
mod sshd;
pub mod tools;
pub mod trees;
mod user;
mod wordpress;

pub use agent::SshAgent;
pub use compare::{MtimeMatch, TreeOptions, assert_same_tree};
pub use ftp_front::FtpFront;
pub use ftpd::{FtpKind, Ftpd, FtpdBuilder};
pub use garage::Garage;
pub use mariadb::Mariadb;
pub use postgres::{Postgres, PostgresBuilder};
pub use proxy::FaultProxy;
pub use redis::{Redis, RedisBuilder};
pub use s3::{S3Access, S3Answer};
pub use seaweedfs::SeaweedFs;
pub use server::unused_port;
pub use smallfs::SmallFs;
pub use sshd::{HostKey, Sshd, SshdBuilder};
pub use tools::tool;
pub use wordpress::{Wordpress, WordpressServer};
