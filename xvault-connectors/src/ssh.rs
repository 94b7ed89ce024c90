//! SSH: one authenticated connection, and what runs over it.
//!
//! - [`SshOptions`]: where to, as whom, and whom to trust;
//! - [`Session`]: the connection;
//! - [`Exec`]: a command on the other side;
//! - [`sftp`]: a byte-clean SFTP client.

mod auth;
mod exec;
mod greeting;
mod host_key;
mod known_hosts;
mod leash;
mod options;
pub mod quote;
mod room;
mod session;
pub mod sftp;
pub(crate) mod shell;

pub use exec::{Exec, ExecEvent, ExecInput, Exit};
pub use host_key::HostKeyPolicy;
pub use options::{SshCredential, SshOptions, SshTimeouts};
pub use session::Session;
