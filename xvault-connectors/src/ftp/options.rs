//! Which server, how it proves itself, how long is waited.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xvault_core::secret::SecretString;
use xvault_core::source::{FtpSettings, FtpTls};

use crate::Network;
use crate::tls::Trust;

/// How to connect to an FTP server.
#[derive(Debug, Clone)]
pub struct FtpOptions {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account.
    pub username: String,
    /// Its password. Without one, an anonymous login is tried.
    pub password: Option<SecretString>,
    /// How the connections are encrypted.
    pub tls: FtpTls,
    /// Certificates in PEM that are trusted instead of the machine's.
    pub ca: Option<String>,
    /// The certificate that alone is believed.
    pub fingerprint: Option<String>,
    /// How many connections are made at most.
    pub max_connections: usize,
    /// How long is waited, and how often tried.
    pub timeouts: FtpTimeouts,
    /// What may be connected to.
    pub network: Network,
}

impl FtpOptions {
    /// From saved settings.
    #[must_use]
    pub fn new(settings: &FtpSettings, password: Option<SecretString>) -> Self {
        Self {
            host: settings.host.clone(),
            port: settings.port(),
            username: settings.username.clone(),
            password,
            tls: settings.tls_mode,
            ca: settings.tls_ca.clone(),
            fingerprint: settings.tls_fingerprint.clone(),
            max_connections: settings.max_connections.into(),
            timeouts: FtpTimeouts::default(),
            network: Network::default(),
        }
    }

    /// Whose certificate is believed.
    pub(crate) fn trust(&self) -> Trust<'_> {
        let (ca, fingerprint) = (self.ca.as_deref(), self.fingerprint.as_deref());
        Trust { host: &self.host, server: self.server(), ca, fingerprint, named: false }
    }

    /// `host:port`.
    #[must_use]
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// How long is waited, and how often a lost connection is made again.
#[derive(Debug, Clone)]
pub struct FtpTimeouts {
    /// Until a connection stands: the first one with its login, one for data by itself.
    pub connect: Duration,
    /// Without a byte while an answer or data is awaited.
    pub idle: Duration,
    /// Between NOOPs on a connection that has nothing to do.
    pub keepalive: Duration,
    /// A file that is fetched ahead and not taken for so long is let go, and asked for again when its turn comes: servers
    /// give up on clients that take nothing.
    pub stall: Duration,
    /// How often a connection is made again, or a transfer begun again, before the job fails; any progress starts the count afresh.
    pub reconnects: u32,
    /// Before the first of these attempts; doubles with each, up to half a minute.
    pub backoff: Duration,
}

impl Default for FtpTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            keepalive: Duration::from_secs(30),
            stall: Duration::from_secs(45),
            reconnects: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

impl FtpTimeouts {
    /// The pause before attempt number `attempt`, which counts from 1.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        const MAX: Duration = Duration::from_secs(30);
        self.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(MAX)
    }
}

/// What all sessions of one server have found out: none has to find it out again.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: FtpOptions,
    /// EPSV does not work here.
    old_passive: AtomicBool,
    /// MLSD does not work here.
    no_mlsd: AtomicBool,
    /// `LIST -a` is not understood here.
    plain_list: AtomicBool,
    /// LIST does not tell links from files here: DOS's.
    no_kinds: AtomicBool,
    /// Transfers do not begin in the middle here, whatever REST is answered.
    no_restart: AtomicBool,
    /// Whether Telnet's commands are taken out of paths here, once that is known.
    pub(super) telnet: OnceLock<bool>,
}

impl Shared {
    pub(crate) fn new(options: FtpOptions) -> Self {
        let no = || AtomicBool::new(false);
        let telnet = OnceLock::new();
        Self {
            options,
            old_passive: no(),
            no_mlsd: no(),
            plain_list: no(),
            no_kinds: no(),
            no_restart: no(),
            telnet,
        }
    }

    pub(crate) fn uses_old_passive(&self) -> bool {
        self.old_passive.load(Ordering::Relaxed)
    }

    pub(crate) fn use_old_passive(&self) {
        self.old_passive.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_no_mlsd(&self) -> bool {
        self.no_mlsd.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up_mlsd(&self) {
        self.no_mlsd.store(true, Ordering::Relaxed);
    }

    pub(crate) fn tells_no_kinds(&self) -> bool {
        self.no_kinds.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_no_kinds(&self) {
        self.no_kinds.store(true, Ordering::Relaxed);
    }

    pub(crate) fn restarts(&self) -> bool {
        !self.no_restart.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up_restarts(&self) {
        self.no_restart.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lists_plainly(&self) -> bool {
        self.plain_list.load(Ordering::Relaxed)
    }

    pub(crate) fn list_plainly(&self) {
        self.plain_list.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let settings = FtpSettings::new("h", "u", vec!["/".into()]);
        let options = FtpOptions::new(&settings, Some(SecretString::from("hunter2".to_owned())));
        assert!(!format!("{options:?} {options:#?}").contains("hunter2"));
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let timeouts = FtpTimeouts::default();
        let pauses = [1, 2, 3, 7, 100].map(|attempt| timeouts.pause(attempt).as_millis());
        assert_eq!(pauses, [500, 1000, 2000, 30_000, 30_000]);
    }
}
