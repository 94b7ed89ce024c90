//! The hub as a value.

use std::sync::Arc;

use axum::Router;

use crate::queue::JobQueue;
use crate::{Clock, Db, DbError, KeyError, Keys, Settings, api};

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
pub struct Hub(Arc<HubParts>);

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
        parts.clock.correct(parts.db.now_millis().await?);
        Ok(Self(Arc::new(parts)))
    }

    /// The HTTP application: `/api/v1`, `/internal`, `/docs`, `/healthz`, `/readyz`, `/metrics`.
    pub fn router(&self) -> Router {
        api::router(self.clone())
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub(crate) fn queue(&self) -> &dyn JobQueue {
        &*self.0.queue
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }
}
