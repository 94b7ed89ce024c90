//! Where to connect, as whom, and whom to trust.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::source::SshAccount;

use super::HostKeyPolicy;
use crate::Network;

/// Everything a connection needs.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// Name or address of the server.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account on the server.
    pub username: String,
    /// How to log in.
    pub credential: SshCredential,
    /// How the server proves itself.
    pub host_key: HostKeyPolicy,
    /// How long to wait.
    pub timeouts: SshTimeouts,
    /// What may be connected to.
    pub network: Network,
}

impl SshOptions {
    /// From saved settings: a pinned key is demanded; without one every key is refused, and named.
    #[must_use]
    pub fn new(account: impl Into<SshAccount>, credential: SshCredential) -> Self {
        let SshAccount { host, port, username, host_key, .. } = account.into();
        Self {
            host,
            port,
            username,
            credential,
            host_key: host_key.map_or(HostKeyPolicy::Refuse, HostKeyPolicy::Pinned),
            timeouts: SshTimeouts::default(),
            network: Network::default(),
        }
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// `user@host:port`.
    #[must_use]
    pub fn account(&self) -> String {
        format!("{}@{}", self.username, self.server())
    }
}

/// How to log in. `Debug` shows only which way.
#[derive(Clone)]
pub enum SshCredential {
    /// The account's password; answers a keyboard-interactive prompt too.
    Password(SecretString),
    /// A private key in OpenSSH, PKCS#1 or PKCS#8 format.
    PrivateKey {
        /// The file's text.
        pem: SecretString,
        /// What it is encrypted with.
        passphrase: Option<SecretString>,
    },
    /// The keys of a running ssh-agent, one after the other.
    Agent {
        /// Its socket: the value of `SSH_AUTH_SOCK`.
        socket: PathBuf,
    },
}

impl SshCredential {
    /// As it is saved beside settings that say whether it is a password; private keys have no passphrase then.
    #[must_use]
    pub fn saved(use_password: bool, secret: SecretString) -> Self {
        match use_password {
            true => Self::Password(secret),
            false => Self::PrivateKey { pem: secret, passphrase: None },
        }
    }

    /// Whether a private key needs a passphrase, so that a program can ask for it before it connects.
    /// Text that is no key needs none: connecting says what is wrong with it.
    #[must_use]
    pub fn is_encrypted(pem: &SecretString) -> bool {
        let pem = pem.expose_secret();
        let openssh = russh::keys::PrivateKey::from_openssh(pem);
        openssh.is_ok_and(|key| key.is_encrypted()) || pem.lines().any(|line| line.contains("ENCRYPTED"))
    }
}

impl fmt::Debug for SshCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password([REDACTED])"),
            Self::PrivateKey { passphrase, .. } => {
                f.debug_struct("PrivateKey").field("encrypted", &passphrase.is_some()).finish_non_exhaustive()
            }
            Self::Agent { socket } => f.debug_struct("Agent").field("socket", socket).finish(),
        }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshTimeouts {
    /// Until the connection stands and the login is answered.
    pub connect: Duration,
    /// Without a byte while an answer is awaited.
    pub idle: Duration,
    /// Between keep-alive messages on a quiet connection; three unanswered ones end it.
    pub keepalive: Duration,
    /// How often a dropped connection is made again before the job fails; any progress starts the count afresh.
    pub reconnects: u32,
    /// Before the first of these attempts; doubles with each, up to half a minute.
    pub backoff: Duration,
}

impl Default for SshTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            keepalive: Duration::from_secs(15),
            reconnects: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let secret = || SecretString::from("hunter2".to_owned());
        let all = [
            SshCredential::Password(secret()),
            SshCredential::PrivateKey { pem: secret(), passphrase: Some(secret()) },
        ];
        assert!(!format!("{all:?} {all:#?}").contains("hunter2"));
    }
}
