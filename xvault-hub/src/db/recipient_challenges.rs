//! Table `recipient_challenges`: what tenants have to decrypt before their snapshots are encrypted to a key of their own.

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{Recipient, TenantId};

use super::Result;

/// Notes a challenge. The one before for the same key is void.
pub(crate) async fn put(
    conn: &mut AnyConnection,
    (tenant_id, recipient): (&TenantId, &Recipient),
    token_hash: &str,
    (now, expires_at): (Timestamp, Timestamp),
) -> Result<()> {
    sqlx::query(
        "INSERT INTO recipient_challenges (tenant_id, recipient, token_hash, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, recipient) DO UPDATE SET token_hash = $3, expires_at = $4, created_at = $5",
    )
    .bind(tenant_id.as_str())
    .bind(recipient.to_string())
    .bind(token_hash)
    .bind(expires_at.as_millisecond())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Uses a challenge up. False when there is none of that key and word, or no longer.
pub(crate) async fn take(
    conn: &mut AnyConnection,
    (tenant_id, recipient): (&TenantId, &Recipient),
    token_hash: &str,
    now: Timestamp,
) -> Result<bool> {
    let done = sqlx::query(
        "DELETE FROM recipient_challenges
         WHERE tenant_id = $1 AND recipient = $2 AND token_hash = $3 AND expires_at > $4",
    )
    .bind(tenant_id.as_str())
    .bind(recipient.to_string())
    .bind(token_hash)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes what nobody can answer any more.
pub(crate) async fn delete_expired(conn: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let done = sqlx::query("DELETE FROM recipient_challenges WHERE expires_at <= $1")
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}
