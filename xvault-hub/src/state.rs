//! The hub as a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use xvault_core::WorkerId;
use xvault_core::secret::SecretString;

use crate::api::Mount;
use crate::app::access_token::AccessTokens;
use crate::app::downloads::DownloadTokens;
use crate::app::login_limits::LoginLimits;
use crate::app::operators::{self, FirstLogin, KeepError, OperatorError};
use crate::app::passwords::Passwords;
use crate::app::streams::Streams;
use crate::app::worker_tokens::{IssueError, issue_worker_token};
use crate::metrics::Metrics;
use crate::queue::JobQueue;
use crate::{Clock, Db, DbError, KeyError, Keys, Settings, api, app};

/// What a hub is made of.
#[derive(Debug)]
pub struct HubParts {
    /// Its database, migrated.
    pub db: Db,
    /// Its time.
    pub clock: Clock,
    /// The key-encryption keys.
    pub keys: Keys,
    /// How it wakes workers.
    pub queue: Arc<dyn JobQueue>,
    /// How it behaves.
    pub settings: Settings,
}

/// The control plane. Clones share it.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: HubParts,
    access: AccessTokens,
    download_tokens: DownloadTokens,
    passwords: Passwords,
    limits: LoginLimits,
    streams: Streams,
    metrics: Metrics,
    missed: AtomicBool,
}

/// Why a hub can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database refuses.
    #[error("start the hub")]
    Db(#[from] DbError),
    /// The key-encryption key is not that of this database.
    #[error("start the hub")]
    Keys(#[from] KeyError),
}

impl Hub {
    /// Puts a hub together.
    ///
    /// # Errors
    /// When the database can't be read, or its secrets are encrypted to other keys.
    pub async fn new(parts: HubParts) -> Result<Self, StartError> {
        parts.clock.correct(parts.db.now_millis()).await?;
        app::kek::check(&parts.db, &parts.keys, parts.clock.now()).await?;
        let access = AccessTokens::new(&parts.settings.jwt_secret, parts.settings.access_token);
        let download_tokens = DownloadTokens::new(&parts.settings.jwt_secret);
        let limits = LoginLimits::new(parts.settings.login_limit);
        let streams = Streams::new(parts.settings.stream_limit);
        Ok(Self(Arc::new(Inner {
            parts,
            access,
            download_tokens,
            passwords: Passwords::default(),
            limits,
            streams,
            metrics: Metrics::default(),
            missed: AtomicBool::new(false),
        })))
    }

    /// Makes the first operator, unless there is one. What is not given is made up, and a password that was is returned:
    /// show it once.
    ///
    /// # Errors
    /// When what is given is no address or too short a password, or the database fails.
    pub async fn ensure_first_operator(
        &self,
        email: Option<&str>,
        password: Option<SecretString>,
    ) -> Result<Option<FirstLogin>, OperatorError> {
        operators::ensure_first(self, email, password, |_| Ok(())).await
    }

    /// As [`Hub::ensure_first_operator`], and a login that was made up is given to `keep` before it is good: when that fails there
    /// is no operator yet, and the next start makes another.
    ///
    /// # Errors
    /// As [`Hub::ensure_first_operator`], and when `keep` fails.
    pub async fn ensure_first_operator_kept(
        &self,
        email: Option<&str>,
        password: Option<SecretString>,
        keep: impl FnOnce(&FirstLogin) -> Result<(), KeepError>,
    ) -> Result<Option<FirstLogin>, OperatorError> {
        operators::ensure_first(self, email, password, keep).await
    }

    /// As [`crate::reset_operator`], in the hub's own database.
    ///
    /// # Errors
    /// As [`crate::reset_operator`].
    pub async fn reset_operator(
        &self,
        email: Option<&str>,
        keep: impl FnOnce(&FirstLogin) -> Result<(), KeepError>,
    ) -> Result<FirstLogin, OperatorError> {
        operators::reset_operator(self.db(), email, keep).await
    }

    /// As [`crate::issue_worker_token`], for a worker in the same program.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn issue_worker_token(&self, worker: &WorkerId) -> Result<SecretString, IssueError> {
        issue_worker_token(self.db(), worker).await
    }

    /// The HTTP application: `/api/v1`, `/internal`, `/docs`, `/healthz`, `/readyz`, `/metrics`. It may be nested below any path.
    ///
    /// Serve it with [`Router::into_make_service_with_connect_info::<SocketAddr>`](Router::into_make_service_with_connect_info), as
    /// [`crate::serve`] does: it is from `ConnectInfo` that the hub knows who asks. Without it all clients count as one against the
    /// limits of logins, so that a stranger's attempts keep everybody out, and the audit log has no addresses. Behind a proxy,
    /// [`Settings::trusted_proxies`] must name it, for the same reason.
    pub fn router(&self) -> Router {
        self.router_of(Mount::ALL)
    }

    /// As [`Hub::router`], with some parts of it only: `/internal` on an address that only workers reach, say.
    pub fn router_of(&self, mount: Mount) -> Router {
        api::router(self.clone(), mount)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.parts.db
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.parts.clock
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.parts.keys
    }

    pub(crate) fn queue(&self) -> &dyn JobQueue {
        &*self.0.parts.queue
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.parts.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn access(&self) -> &AccessTokens {
        &self.0.access
    }

    pub(crate) fn download_tokens(&self) -> &DownloadTokens {
        &self.0.download_tokens
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(crate) fn limits(&self) -> &LoginLimits {
        &self.0.limits
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// A worker that asked to keep a lease could not be served: a database may be read that can't be written.
    pub(crate) fn miss_renewal(&self) {
        self.0.missed.store(true, Ordering::Relaxed);
    }

    /// Whether [`Hub::miss_renewal`] was called since this was.
    pub(crate) fn has_missed_renewals(&self) -> bool {
        self.0.missed.swap(false, Ordering::Relaxed)
    }
}
