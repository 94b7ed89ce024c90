//! An account on an SSH server: where it is, who it is, and how the server proves itself.

use super::server::{HOST, invalid, is_host, is_word};
use super::{InvalidSettings, SshHop, SshSettings};

/// What all settings that lead to an SSH server say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAccount {
    /// Name or address of the server.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account on the server.
    pub username: String,
    /// Whether the credential is a password; otherwise it is a private key.
    pub use_password: bool,
    /// The server's key as pinned.
    pub host_key: Option<String>,
}

impl From<&SshSettings> for SshAccount {
    fn from(settings: &SshSettings) -> Self {
        let SshSettings { host, port, username, use_password, host_key, .. } = settings.clone();
        Self { host, port, username, use_password, host_key }
    }
}

impl From<&SshHop> for SshAccount {
    fn from(hop: &SshHop) -> Self {
        let SshHop { host, port, username, use_password, host_key, .. } = hop.clone();
        Self { host, port, username, use_password, host_key }
    }
}

/// What the fields of an account are called in JSON, and what makes them necessary.
pub(super) struct SshFields {
    host: &'static str,
    port: &'static str,
    username: &'static str,
    host_key: &'static str,
    because: &'static str,
}

impl SshFields {
    /// Of types that log in over SSH.
    pub(super) const OWN: Self =
        Self { host: "host", port: "port", username: "username", host_key: "host_key", because: "" };
    /// Of types that may.
    pub(super) const HOP: Self = Self {
        host: "ssh_host",
        port: "ssh_port",
        username: "ssh_username",
        host_key: "ssh_host_key",
        because: " with `use_ssh`",
    };
}

impl SshAccount {
    pub(super) fn validate(&self, fields: &SshFields) -> Result<(), InvalidSettings> {
        let because = fields.because;
        if !is_host(&self.host) {
            return invalid(fields.host, &format!("{HOST}{because}"));
        }
        if self.port == 0 {
            return invalid(fields.port, "it must be between 1 and 65535");
        }
        if !is_word(&self.username) {
            return invalid(fields.username, &format!("1 to 255 bytes without spaces are needed{because}"));
        }
        if self.host_key.as_deref().is_some_and(|key| !is_fingerprint(key)) {
            return invalid(
                fields.host_key,
                "a fingerprint as `ssh-keygen -l` prints is needed: SHA256: and 43 characters",
            );
        }
        Ok(())
    }
}

fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|digest| {
        digest.len() == 43 && digest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    })
}
