//! Re-encrypts what is stored to a new key-encryption key.
//!
//! Hubs must know both keys, the new one first, before this runs; afterwards the old one can be taken away. It may be
//! interrupted and run again: what is done is not done twice.

use serde_json::json;
use xvault_core::secret::ExposeSecret as _;

use super::audit::{Deed, record_by_system};
use super::kek;
use crate::db::sealed::{self, Sealed, Table};
use crate::{Db, DbError, KeyError, Keys, StartError};

/// Secrets held in memory at once.
const BATCH: i64 = 100;

/// How many secrets were re-encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Passwords and private keys of sources and stores.
    pub credentials: u64,
    /// Identities of tenants.
    pub tenant_keys: u64,
    /// What requests to stores are signed with, where it is no credential of a tenant.
    pub stores: u64,
}

/// Why some may be left. Run it again once the cause is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// A key is missing, or the database is away: nothing was changed.
    #[error("rekey")]
    Start(#[from] StartError),
    /// The database refuses.
    #[error("rekey")]
    Db(#[from] DbError),
    /// One secret can't be opened, or not encrypted.
    #[error("rekey row {id} of {table}")]
    Secret {
        /// Which table.
        table: &'static str,
        /// Which row.
        id: String,
        /// Why not.
        source: KeyError,
    },
}

/// Encrypts credentials, tenants' identities and the check value to the first of `keys`.
///
/// # Errors
/// When a key is missing or a secret is damaged; what was done until then stays done.
pub async fn rekey(db: &Db, keys: &Keys) -> Result<Rekeyed, RekeyError> {
    let now = xvault_core::clock::now();
    kek::check(db, keys, now).await?;
    let done = Rekeyed {
        credentials: table(db, keys, Table::Credentials).await?,
        tenant_keys: table(db, keys, Table::TenantKeys).await?,
        stores: table(db, keys, Table::Stores).await?,
    };
    let mut tx = db.begin().await?;
    kek::rekey(&mut tx, keys).await?;
    let kek_id = keys.current_id();
    let deed = Deed {
        action: "kek.rekey",
        target_type: "kek",
        target_id: &kek_id,
        tenant_id: None,
        details: json!({ "credentials": done.credentials, "tenant_keys": done.tenant_keys, "stores": done.stores }),
    };
    record_by_system(&mut tx, deed, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(done)
}

/// Until no secret of another key is left; one that changes meanwhile is taken again.
async fn table(db: &Db, keys: &Keys, table: Table) -> Result<u64, RekeyError> {
    let (current, mut done) = (keys.current_id(), 0);
    loop {
        let batch = sealed::others(&mut *db.conn().await?, table, &current, BATCH).await?;
        if batch.is_empty() {
            return Ok(done);
        }
        done += rows(db, keys, table, &batch).await?;
    }
}

/// One transaction a batch, so that SQLite waits for its disk once.
async fn rows(db: &Db, keys: &Keys, table: Table, batch: &[Sealed]) -> Result<u64, RekeyError> {
    let (current, mut done) = (keys.current_id(), 0);
    let mut tx = db.begin().await?;
    for old in batch {
        let new = reseal(keys, old).map_err(|source| RekeyError::Secret {
            table: table.name(),
            id: old.id.clone(),
            source,
        })?;
        done += u64::from(sealed::replace(&mut tx, table, old, &new, &current).await?);
    }
    tx.commit().await.map_err(DbError::from)?;
    Ok(done)
}

fn reseal(keys: &Keys, old: &Sealed) -> Result<Vec<u8>, KeyError> {
    keys.seal(keys.open(&old.ciphertext, &old.kek_id)?.expose_secret())
}
