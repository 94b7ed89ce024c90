//! Table `tenant_keys`.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{Recipient, TenantId};

use super::{Result, parsed};

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

/// Adds a key that comes from elsewhere, or to a known one the identity that it lacks. False when there is nothing to add.
pub(crate) async fn add_missing(
    conn: &mut AnyConnection,
    key: &TenantKey,
    status: &str,
    now: Timestamp,
) -> Result<bool> {
    let completed = sqlx::query(
        "UPDATE tenant_keys SET encrypted_private_key = $3, kek_id = $4, updated_at = $5
         WHERE tenant_id = $1 AND public_key = $2 AND encrypted_private_key IS NULL AND $4 IS NOT NULL",
    )
    .bind(key.tenant_id.as_str())
    .bind(key.public_key.to_string())
    .bind(key.encrypted_private_key.clone())
    .bind(key.kek_id.clone())
    .bind(now.as_millisecond())
    .execute(&mut *conn)
    .await?;
    let known = sqlx::query("SELECT id FROM tenant_keys WHERE tenant_id = $1 AND public_key = $2")
        .bind(key.tenant_id.as_str())
        .bind(key.public_key.to_string())
        .fetch_optional(&mut *conn)
        .await?;
    if known.is_some() {
        return Ok(completed.rows_affected() > 0);
    }
    insert(conn, key, now).await?;
    sqlx::query("UPDATE tenant_keys SET key_status = $2 WHERE id = $1")
        .bind(&key.id)
        .bind(status)
        .execute(conn)
        .await?;
    Ok(true)
}
