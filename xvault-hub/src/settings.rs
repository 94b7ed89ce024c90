//! What the hub's behaviour depends on, besides database, queue and keys.

use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use xvault_core::Recipient;
use xvault_core::secret::SecretSlice;

pub use crate::app::login_limits::LoginLimit;
pub use crate::app::streams::StreamLimit;

/// The shortest secret that access tokens are signed with: as long as the hash (RFC 7518, section 3.2).
const MIN_JWT_SECRET: usize = 32;

/// 6 MB/s on average: next to nothing for a disk.
const VERIFY_BYTES_PER_DAY: u64 = 500 << 30;

/// Whether strangers may make themselves a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Registration {
    /// An operator makes tenants.
    #[default]
    Closed,
    /// `POST /api/v1/auth/register` makes a tenant and its owner.
    Open,
}

impl FromStr for Registration {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            _ => Err("`open` or `closed` is needed"),
        }
    }
}

/// Whose stores may have an address in a private network, or on a worker's own machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PrivateStores {
    /// Those that operators made: a tenant's own could make workers ask what only they can reach.
    #[default]
    Operators,
    /// Everybody's, where all tenants are trusted.
    Everybody,
}

impl FromStr for PrivateStores {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "operators" => Ok(Self::Operators),
            "everybody" => Ok(Self::Everybody),
            _ => Err("`operators` or `everybody` is needed"),
        }
    }
}

/// How the hub behaves. Begin with [`Settings::with_jwt_secret`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// What access tokens are signed with.
    pub(crate) jwt_secret: SecretSlice<u8>,
    /// How long a worker may be silent before its job is given to another.
    pub lease: Duration,
    /// How often workers say that they live.
    pub heartbeat: Duration,
    /// How long an access token is good.
    pub access_token: Duration,
    /// How long a refresh token is good.
    pub refresh_token: Duration,
    /// After so many attempts a job fails.
    pub max_attempts: u32,
    /// How long job logs are kept.
    pub job_log_days: u32,
    /// How often schedules are looked at.
    pub scheduler_interval: Duration,
    /// How often the retention policies of all sources are applied, besides after each backup. Zero: never.
    pub retention_interval: Duration,
    /// How many bytes the verifications that the hub makes by itself may read in 24 hours of a worker's disk, or of a store. The
    /// one that goes beyond is the last. Zero: as many as there are.
    pub verify_bytes_per_day: u64,
    /// Whether strangers may make themselves a tenant.
    pub registration: Registration,
    /// How often somebody may try to log in.
    pub login_limit: LoginLimit,
    /// How long somebody who looks into a snapshot waits for the worker, at most 25 s.
    pub browse_wait: Duration,
    /// How many streams of events are open at once.
    pub stream_limit: StreamLimit,
    /// How many connections are open at once. Others wait.
    pub max_connections: u32,
    /// How long a connection may take to send the head of a request, also after the request before.
    pub max_silence: Duration,
    /// Proxies that tell truly, in `X-Forwarded-For`, where a request comes from. Of others the header is ignored.
    pub trusted_proxies: Vec<IpNet>,
    /// An offline key that every backup is encrypted to, too.
    pub recovery_recipient: Option<Recipient>,
    /// Whose stores may have an address in a private network.
    pub private_stores: PrivateStores,
}

/// Why there are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("HUB_JWT_SECRET must have at least {MIN_JWT_SECRET} bytes")]
pub struct SettingsError;

impl Settings {
    /// The defaults, with this secret for access tokens.
    ///
    /// # Errors
    /// When it is shorter than 32 bytes.
    pub fn with_jwt_secret(secret: &[u8]) -> Result<Self, SettingsError> {
        if secret.len() < MIN_JWT_SECRET {
            return Err(SettingsError);
        }
        Ok(Self {
            jwt_secret: SecretSlice::from(secret.to_vec()),
            lease: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            access_token: Duration::from_secs(15 * 60),
            refresh_token: Duration::from_secs(30 * 24 * 3600),
            max_attempts: 3,
            job_log_days: 90,
            scheduler_interval: Duration::from_secs(15),
            retention_interval: Duration::from_secs(6 * 3600),
            verify_bytes_per_day: VERIFY_BYTES_PER_DAY,
            registration: Registration::default(),
            login_limit: LoginLimit::default(),
            browse_wait: Duration::from_secs(20),
            stream_limit: StreamLimit::default(),
            max_connections: 4096,
            // Longer than proxies keep idle connections (60 s): else a request may meet one that is just being closed.
            max_silence: Duration::from_secs(75),
            trusted_proxies: Vec::new(),
            recovery_recipient: None,
            private_stores: PrivateStores::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_is_refused_and_no_secret_prints() {
        let error = Settings::with_jwt_secret(b"short").unwrap_err().to_string();
        assert!(error.contains("HUB_JWT_SECRET") && !error.contains("short"), "{error}");
        let settings = Settings::with_jwt_secret(b"0123456789abcdef0123456789abcdef").unwrap();
        assert!(!format!("{settings:?}").contains("0123"));
    }
}
