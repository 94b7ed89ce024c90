//! Table `tenant_keys`.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{Recipient, TenantId};

use super::{Result, parsed};

/// The status of keys that new snapshots are encrypted to.
const ACTIVE: &str = "active";

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct TenantKey {
    pub(crate) id: String,
    pub(crate) tenant_id: TenantId,
    pub(crate) public_key: Recipient,
    /// An age file to the KEK `kek_id`; absent when only the tenant can decrypt.
    pub(crate) encrypted_private_key: Option<Vec<u8>>,
    pub(crate) kek_id: Option<String>,
    pub(crate) purpose: String,
}

fn from_row(row: &AnyRow) -> Result<TenantKey> {
    Ok(TenantKey {
        id: row.try_get("id")?,
        tenant_id: parsed(row, "tenant_id")?,
        public_key: parsed(row, "public_key")?,
        encrypted_private_key: row.try_get("encrypted_private_key")?,
        kek_id: row.try_get("kek_id")?,
        purpose: row.try_get("purpose")?,
    })
}

pub(crate) async fn insert(conn: &mut AnyConnection, key: &TenantKey, now: Timestamp) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenant_keys (id, tenant_id, algorithm, public_key, encrypted_private_key, kek_id, purpose, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
    )
    .bind(&key.id)
    .bind(key.tenant_id.as_str())
    .bind(xvault_core::seal::ALGORITHM)
    .bind(key.public_key.to_string())
    .bind(key.encrypted_private_key.clone())
    .bind(key.kek_id.clone())
    .bind(&key.purpose)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// New snapshots are not encrypted to the keys of today any more. Their identities stay for old ones.
pub(crate) async fn rotate(conn: &mut AnyConnection, tenant_id: &TenantId, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE tenant_keys SET key_status = 'rotated', updated_at = $2 WHERE tenant_id = $1 AND key_status = 'active'",
    )
    .bind(tenant_id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// The keys whose identity is here, of today and of earlier, newest first.
pub(crate) async fn with_identity(conn: &mut AnyConnection, tenant_id: &TenantId) -> Result<Vec<TenantKey>> {
    let rows = sqlx::query(
        "SELECT * FROM tenant_keys WHERE tenant_id = $1 AND encrypted_private_key IS NOT NULL
             AND key_status <> 'disabled' ORDER BY created_at DESC, id DESC",
    )
    .bind(tenant_id.as_str())
    .fetch_all(conn)
    .await?;
    rows.iter().map(from_row).collect()
}

/// What is true of a key `k` whose identity is here, and opens artifacts: for the condition of a query.
macro_rules! opens_artifacts {
    () => {
        "k.encrypted_private_key IS NOT NULL AND k.key_status <> 'disabled' AND k.purpose <> 'index'"
    };
}

pub(crate) use opens_artifacts;

/// Whether an identity is here that opens the artifacts of the tenant that are encrypted to `recipient` first.
pub(crate) async fn can_open(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    recipient: &str,
) -> Result<bool> {
    let sql = concat!(
        "SELECT k.id FROM tenant_keys k WHERE k.tenant_id = $1 AND k.public_key = $2 AND ",
        opens_artifacts!(),
        " LIMIT 1"
    );
    let found = sqlx::query(sql).bind(tenant_id.as_str()).bind(recipient).fetch_optional(conn).await?;
    Ok(found.is_some())
}

/// The keys that new snapshots are encrypted to, oldest first.
pub(crate) async fn active(conn: &mut AnyConnection, tenant_id: &TenantId) -> Result<Vec<TenantKey>> {
    let rows = sqlx::query(
        "SELECT * FROM tenant_keys WHERE tenant_id = $1 AND key_status = 'active' ORDER BY created_at, id",
    )
    .bind(tenant_id.as_str())
    .fetch_all(conn)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Every key that the tenant ever had, newest first: old snapshots are encrypted to old ones.
pub(crate) async fn all(conn: &mut AnyConnection, tenant_id: &TenantId) -> Result<Vec<TenantKey>> {
    let rows =
        sqlx::query("SELECT * FROM tenant_keys WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC")
            .bind(tenant_id.as_str())
            .fetch_all(conn)
            .await?;
    rows.iter().map(from_row).collect()
}

/// Every key of every tenant with its status, by tenant and age.
pub(crate) async fn of_all(conn: &mut AnyConnection) -> Result<Vec<(TenantKey, String)>> {
    let rows =
        sqlx::query("SELECT * FROM tenant_keys ORDER BY tenant_id, created_at, id").fetch_all(conn).await?;
    rows.iter().map(|row| Ok((from_row(row)?, row.try_get("key_status")?))).collect()
}

/// Adds a key that comes from elsewhere. One that is there gets the identity that it lacks, and is rotated if it was rotated there:
/// that is never taken back. False when there is nothing to change.
pub(crate) async fn add_missing(
    conn: &mut AnyConnection,
    key: &TenantKey,
    status: &str,
    now: Timestamp,
) -> Result<bool> {
    let completed = complete(conn, key, now).await?;
    let rotated = status != ACTIVE && rotate_one(conn, key, now).await?;
    if is_known(conn, key, status).await? {
        return Ok(completed || rotated);
    }
    insert(conn, key, now).await?;
    sqlx::query("UPDATE tenant_keys SET key_status = $2 WHERE id = $1")
        .bind(&key.id)
        .bind(status)
        .execute(conn)
        .await?;
    Ok(true)
}

/// The identity opens what is encrypted to the key, for whichever purpose that is.
async fn complete(conn: &mut AnyConnection, key: &TenantKey, now: Timestamp) -> Result<bool> {
    let completed = sqlx::query(
        "UPDATE tenant_keys SET encrypted_private_key = $3, kek_id = $4, updated_at = $5
         WHERE tenant_id = $1 AND public_key = $2 AND encrypted_private_key IS NULL AND $4 IS NOT NULL",
    )
    .bind(key.tenant_id.as_str())
    .bind(key.public_key.to_string())
    .bind(key.encrypted_private_key.clone())
    .bind(key.kek_id.clone())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(completed.rows_affected() > 0)
}

async fn rotate_one(conn: &mut AnyConnection, key: &TenantKey, now: Timestamp) -> Result<bool> {
    let rotated = sqlx::query(
        "UPDATE tenant_keys SET key_status = 'rotated', updated_at = $4
         WHERE id = $1 AND tenant_id = $2 AND public_key = $3 AND key_status = 'active'",
    )
    .bind(&key.id)
    .bind(key.tenant_id.as_str())
    .bind(key.public_key.to_string())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(rotated.rows_affected() > 0)
}

/// A tenant may have brought the same key several times, and for both purposes. Another row says the same of it as this one,
/// unless this one alone is active.
async fn is_known(conn: &mut AnyConnection, key: &TenantKey, status: &str) -> Result<bool> {
    let known = sqlx::query(
        "SELECT id FROM tenant_keys WHERE tenant_id = $1 AND public_key = $2 AND purpose = $3
             AND (id = $4 OR key_status = 'active' OR $5 <> 'active')",
    )
    .bind(key.tenant_id.as_str())
    .bind(key.public_key.to_string())
    .bind(&key.purpose)
    .bind(&key.id)
    .bind(status);
    Ok(known.fetch_optional(conn).await?.is_some())
}
