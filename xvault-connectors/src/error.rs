//! What can go wrong between xVault and another system.

use std::time::Duration;

use xvault_core::egress::Denied;
use xvault_core::source::InvalidSettings;
use xvault_core::{Dispose, Disposition, SinkError};

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
    },

    /// The server does not prove itself by its certificate, or offers no encryption where that is demanded.
    #[error(
        "TLS with {server}: {reason}; save the certificate of the server or of its authority as `tls_ca`, or change `tls_mode`"
    )]
    Tls {
        /// `host:port`.
        server: String,
        /// What the client said.
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

    /// A site's configuration can't be understood, or does not say what is needed.
    #[error(
        "{file}: {reason} (strings, constants, `.`, `getenv()` with a default and conditions on them are understood; otherwise \
         back the site up with a source of type `mysql` beside one of type `ssh`)"
    )]
    SiteConfig {
        /// Its path.
        file: String,
        /// The line and the construct.
        reason: String,
    },

    /// A command around a backup failed, whose failure is to fail the backup.
    #[error("the hook `{hook}` {reason}")]
    Hook {
        /// `before` or `after`.
        hook: &'static str,
        /// How it ended, and its last line.
        reason: String,
    },

    /// Something that was asked for by name is not there.
    #[error("{0} does not exist")]
    NotFound(String),

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

impl Error {
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
            | Self::UnknownCertificate { .. }
            | Self::ChangedCertificate { .. }
            | Self::Credential(_)
            | Self::SiteConfig { .. }
            | Self::Hook { .. }
            | Self::NotFound(_)
            | Self::NotAllowed(_)
            | Self::Egress(_)
            | Self::Protocol { .. }
            | Self::Remote { .. }
            | Self::Denied { .. }
            | Self::Untrusted { .. }
            | Self::Tool { .. }
            | Self::DumpRefused { .. }
            | Self::Target(_)
            | Self::Damaged { .. } => Disposition::Permanent,
            Self::Connection { .. } | Self::Timeout { .. } | Self::Incomplete(_) => Disposition::Transient,
            Self::Io { source, .. } => source.disposition(),
            Self::Store { disposition, .. } | Self::Push { disposition, .. } => *disposition,
            Self::Sink(error) => error.disposition(),
            Self::Cancelled => Disposition::Cancelled,
        }
    }
}
