//! What can go wrong between xVault and another system.

use std::time::Duration;

use xvault_core::egress::Denied;
use xvault_core::source::{FtpTls, InvalidSettings};
use xvault_core::{Dispose, Disposition, SinkError};

use crate::TlsFault;

/// An error of a source or a store. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings can't work, whatever the server says.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),

    /// Nobody has vouched for this server yet.
    #[error(
        "the host key of {server} is unknown: {fingerprint}; compare it with `ssh-keygen -lf` on the server, then pin it"
    )]
    UnknownHostKey {
        /// `host:port`.
        server: String,
        /// `SHA256:…`, to be pinned once it has been compared.
        fingerprint: String,
    },

    /// The server shows another key than the one it is known by.
    #[error(
        "the host key of {server} has CHANGED: expected {expected}, got {found}; somebody may be in between"
    )]
    ChangedHostKey {
        /// `host:port`.
        server: String,
        /// The fingerprint or fingerprints it is known by.
        expected: String,
        /// What it showed.
        found: String,
    },

    /// The server does not let us in.
    #[error("log in as {account}: {reason}")]
    Auth {
        /// `user@host:port`.
        account: String,
        /// What was tried, and what the server offers.
        reason: String,
        /// Where that is.
        door: Door,
    },

    /// The server does not prove itself by its certificate, or the two can't agree on TLS. [`TlsFault::of`] the reason tells what helps.
    #[error("TLS with {server}: {reason}{}", TlsFault::of(reason).cure())]
    Tls {
        /// `host:port`.
        server: String,
        /// What the client said.
        reason: String,
    },

    /// An FTP server does not encrypt in the way that the settings demand.
    #[error("{server} {}", unencrypted(*demanded, reason))]
    NoEncryption {
        /// `host:port`.
        server: String,
        /// What the settings demand.
        demanded: FtpTls,
        /// What it said instead.
        reason: String,
    },

    /// Nobody has vouched for this server's certificate.
    #[error(
        "the certificate of {server} is not to be trusted: {reason}; its SHA-256 is {fingerprint}: compare that with `openssl x509 -noout -fingerprint -sha256` on the server, then pin it, or give the certificate of its authority"
    )]
    UnknownCertificate {
        /// `host:port`.
        server: String,
        /// In hexadecimal with colons, to be pinned once it has been compared.
        fingerprint: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The server shows another certificate than the pinned one.
    #[error(
        "the certificate of {server} has CHANGED: expected {expected}, got {found}; it was renewed, or somebody is in between"
    )]
    ChangedCertificate {
        /// `host:port`.
        server: String,
        /// As pinned.
        expected: String,
        /// What it showed.
        found: String,
    },

    /// A credential that can't be used: not a key, or a key whose passphrase is missing or wrong.
    #[error("credential: {0}")]
    Credential(String),

    /// A login without a secret, where the settings say that there is one.
    #[error("the source has no credential: {0} is needed")]
    NoCredential(&'static str),

    /// A site's configuration can't be understood, or does not say what is needed.
    #[error("{file}: {reason}")]
    SiteConfig {
        /// Its path.
        file: String,
        /// The line and the construct, and what helps.
        reason: String,
    },

    /// A command around a backup failed, whose failure is to fail the backup.
    #[error("the hook `{hook}` {reason}")]
    Hook {
        /// `before` or `after`.
        hook: &'static str,
        /// How it ended, and its last line.
        reason: String,
        /// Why it could not be run, or not be watched to its end; `None`: it is the command itself that failed.
        #[source]
        cause: Option<Box<Error>>,
    },

    /// The account's shell runs none of our commands, so neither hooks nor tools run on that server.
    #[error("the account on {server} has no plain shell{}", after_colon(said))]
    NoShell {
        /// `host:port`.
        server: String,
        /// What it says instead.
        said: String,
    },

    /// Something that was asked for by name is not there.
    #[error("{0} does not exist")]
    NotFound(String),

    /// A configured path can't be read, so there is no backup of it.
    #[error("{0}")]
    Unreadable(String),

    /// A path that this program may not read on behalf of others: see [`LocalSource::only_below`](crate::LocalSource::only_below).
    #[error("{0} does not lie below a directory that may be backed up")]
    NotAllowed(String),

    /// A server that this program may not connect to: see [`Network`](crate::Network).
    #[error(transparent)]
    Egress(#[from] Denied),

    /// There is no way to the server, or it went away.
    #[error("connection to {server}: {reason}")]
    Connection {
        /// `host:port`.
        server: String,
        /// One sentence.
        reason: String,
        /// The cause, where it is an I/O error.
        #[source]
        source: Option<std::io::Error>,
    },

    /// Nothing came for too long.
    #[error("{what} did not answer within {after:?}")]
    Timeout {
        /// Who, and what was awaited.
        what: String,
        /// How long was waited.
        after: Duration,
    },

    /// The other side breaks its protocol, by defect or on purpose.
    #[error("{server} breaks the protocol: {detail}")]
    Protocol {
        /// Who.
        server: String,
        /// How.
        detail: String,
    },

    /// The evidence that everything was read is missing, so there is no backup.
    #[error("incomplete: {0}")]
    Incomplete(String),

    /// A command on the other side failed.
    #[error("remote command `{command}` failed: {reason}")]
    Remote {
        /// The program, without its arguments.
        command: String,
        /// Exit status and the end of what it printed to standard error.
        reason: String,
    },

    /// A tool of others failed, here or on an SSH server; or there is none that can be used.
    #[error("{tool}: {reason}")]
    Tool {
        /// The program, without its arguments.
        tool: String,
        /// Exit status and the end of what it printed to standard error; or why it can't be used.
        reason: String,
    },

    /// There are tools, but with known holes or too old for the server:
    /// [`ToolOptions::allow_outdated`](crate::tool::ToolOptions::allow_outdated) lets them in.
    #[error("{tool}: {reason}")]
    OutdatedTool {
        /// The program, without its arguments.
        tool: String,
        /// Why it is not used, and what to install.
        reason: String,
    },

    /// A dump was read to its end, and a database that is as it must be did not take it.
    #[error("{tool}: {reason}")]
    DumpRefused {
        /// The program that loads it, without its arguments.
        tool: String,
        /// Exit status and the end of what it printed to standard error.
        reason: String,
    },

    /// A database is not as it must be to be loaded into.
    #[error("{0}")]
    Target(String),

    /// An operation of this machine's file system failed.
    #[error("{action}")]
    Io {
        /// A verb phrase with the path: "read /srv/x".
        action: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },

    /// Something could not be restored to a target.
    #[error("{action}: {reason}")]
    Push {
        /// A verb phrase with the entry and the target: "write `srv/x` in /restored on host:22".
        action: String,
        /// What the other side says, or what is in the way.
        reason: String,
        /// Whether it may work later.
        disposition: Disposition,
    },

    /// An operation of a store failed.
    #[error("{action}")]
    Store {
        /// A verb phrase with the key: "write tenants/…/backup.tar.zst.enc".
        action: String,
        /// Whether it may work later.
        disposition: Disposition,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The store lets this credential in, but not do this.
    #[error("{action}")]
    Denied {
        /// A verb phrase with the key.
        action: String,
        /// What the store says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The server's certificate is of no authority that is trusted here, or of another name.
    #[error(
        "the certificate of {server} is not to be trusted: {reason}; is it the right address, and its CA certificate given?"
    )]
    Untrusted {
        /// `host:port`.
        server: String,
        /// One sentence.
        reason: String,
    },

    /// There is no database of the name that a dump is to be loaded into.
    #[error("database `{name}` does not exist: make it, or let it be created")]
    NoDatabase {
        /// Without control characters.
        name: String,
    },

    /// The database that a dump is to be loaded into holds something.
    #[error(
        "database `{name}` is not empty, it holds {count} tables, views, routines or the like: take another one, or allow that what the dump has too is replaced"
    )]
    NotEmpty {
        /// Without control characters.
        name: String,
        /// How many tables, views and the like.
        count: u64,
    },

    /// A file of a snapshot is damaged or is not what it should be.
    #[error("{file}: {reason}")]
    Damaged {
        /// Its key in the store.
        file: String,
        /// One sentence.
        reason: String,
    },

    /// The archive takes no more.
    #[error(transparent)]
    Sink(#[from] SinkError),

    /// Somebody asked for the work to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What one logs in at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// An SSH server.
    Ssh,
    /// An FTP server.
    Ftp,
    /// A database.
    Database,
}

/// What an FTP server does not do, and what to do about it.
fn unencrypted(demanded: FtpTls, reason: &str) -> String {
    match demanded {
        FtpTls::Implicit => format!(
            "does not speak TLS from the first byte: {reason}; `tls_mode` `explicit` begins it behind the greeting, at port 21 mostly"
        ),
        FtpTls::Explicit | FtpTls::Disable => format!(
            "offers no encryption: {reason}; without any (`tls_mode` `disable`), whoever is in between reads the password and all files"
        ),
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl Error {
    /// Whether a tool was refused that [`ToolOptions::allow_outdated`](crate::tool::ToolOptions::allow_outdated) lets in.
    #[must_use]
    pub fn is_outdated_tool(&self) -> bool {
        matches!(self, Self::OutdatedTool { .. })
    }

    /// Wraps an I/O error with what was being done.
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        |source| Self::Io { action, source }
    }
}

impl Dispose for Error {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Settings(_)
            | Self::UnknownHostKey { .. }
            | Self::ChangedHostKey { .. }
            | Self::Auth { .. }
            | Self::Tls { .. }
            | Self::NoEncryption { .. }
            | Self::UnknownCertificate { .. }
            | Self::ChangedCertificate { .. }
            | Self::Credential(_)
            | Self::NoCredential(_)
            | Self::SiteConfig { .. }
            | Self::Hook { cause: None, .. }
            | Self::NoShell { .. }
            | Self::NotFound(_)
            | Self::Unreadable(_)
            | Self::NotAllowed(_)
            | Self::Egress(_)
            | Self::Protocol { .. }
            | Self::Remote { .. }
            | Self::Denied { .. }
            | Self::Untrusted { .. }
            | Self::Tool { .. }
            | Self::OutdatedTool { .. }
            | Self::DumpRefused { .. }
            | Self::Target(_)
            | Self::NoDatabase { .. }
            | Self::NotEmpty { .. }
            | Self::Damaged { .. } => Disposition::Permanent,
            Self::Connection { .. } | Self::Timeout { .. } | Self::Incomplete(_) => Disposition::Transient,
            Self::Hook { cause: Some(cause), .. } => cause.disposition(),
            Self::Io { source, .. } => source.disposition(),
            Self::Store { disposition, .. } | Self::Push { disposition, .. } => *disposition,
            Self::Sink(error) => error.disposition(),
            Self::Cancelled => Disposition::Cancelled,
        }
    }
}
