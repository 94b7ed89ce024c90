//! Tokens of workers, for whoever has the database: the operator at the command line, and `xvault up`.

use serde_json::json;
use xvault_core::WorkerId;
use xvault_core::secret::SecretString;

use super::audit::{Deed, record_by_system};
use super::tokens;
use crate::db::workers;
use crate::{Db, DbError};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The machine gives no random numbers.
    #[error("{0}")]
    System(String),
    /// The database refuses.
    #[error("issue a worker's token")]
    Db(#[from] DbError),
}

/// Makes a worker known, or gives a known one a new token: the old one is void at once.
///
/// # Errors
/// When the database refuses.
pub async fn issue_worker_token(db: &Db, worker: &WorkerId) -> Result<SecretString, IssueError> {
    let token = tokens::make(tokens::Kind::Worker).map_err(|error| IssueError::System(error.to_string()))?;
    let now = xvault_core::clock::now();
    let mut tx = db.begin().await?;
    workers::set_token(&mut tx, worker, &token.hash, now).await?;
    let deed = Deed {
        action: "worker.issue_token",
        target_type: "worker",
        target_id: worker.as_str(),
        tenant_id: None,
        details: json!({}),
    };
    record_by_system(&mut tx, deed, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(token.secret)
}
