//! Table `refresh_tokens`: long-lived tokens, each good for one use.
//!
//! Writers hold the user's row first ([`super::users::hold`]), so that no token is made while its family is revoked.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::UserId;

use super::{Result, instant, instant_opt, parsed};

/// A row; the token's hash is what it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) user_id: UserId,
    /// All tokens that descend from one login.
    pub(crate) family_id: String,
    pub(crate) used_at: Option<Timestamp>,
    pub(crate) revoked: bool,
    pub(crate) expires_at: Timestamp,
}

fn from_row(row: &AnyRow) -> Result<RefreshToken> {
    Ok(RefreshToken {
        user_id: parsed(row, "user_id")?,
        family_id: row.try_get("family_id")?,
        used_at: instant_opt(row, "used_at")?,
        revoked: row.try_get::<Option<i64>, _>("revoked_at")?.is_some(),
        expires_at: instant(row, "expires_at")?,
    })
}

pub(crate) async fn insert(
    conn: &mut AnyConnection,
    token: &RefreshToken,
    token_hash: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO refresh_tokens (id, user_id, family_id, token_hash, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(xvault_core::clock::new_id())
    .bind(token.user_id.as_str())
    .bind(&token.family_id)
    .bind(token_hash)
    .bind(token.expires_at.as_millisecond())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn by_hash(conn: &mut AnyConnection, token_hash: &str) -> Result<Option<RefreshToken>> {
    let row = sqlx::query("SELECT * FROM refresh_tokens WHERE token_hash = $1")
        .bind(token_hash)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// Uses a token up. False when that can't be done, because it was used, revoked or has expired.
pub(crate) async fn consume(conn: &mut AnyConnection, token_hash: &str, now: Timestamp) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE refresh_tokens SET used_at = $2
         WHERE token_hash = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2",
    )
    .bind(token_hash)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Whether another token of the family was used since `at`: with the token of `token_hash` used then, whether the one that it gave
/// was.
pub(crate) async fn was_used_since(
    conn: &mut AnyConnection,
    family_id: &str,
    token_hash: &str,
    at: Timestamp,
) -> Result<bool> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS tokens FROM refresh_tokens WHERE family_id = $1 AND token_hash <> $2 AND used_at >= $3",
    )
    .bind(family_id)
    .bind(token_hash)
    .bind(at.as_millisecond())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get::<i64, _>("tokens")? > 0)
}

/// Ends a session. Gives how many tokens were still good for something.
pub(crate) async fn revoke_family(conn: &mut AnyConnection, family_id: &str, now: Timestamp) -> Result<u64> {
    let result =
        sqlx::query("UPDATE refresh_tokens SET revoked_at = $2 WHERE family_id = $1 AND revoked_at IS NULL")
            .bind(family_id)
            .bind(now.as_millisecond())
            .execute(conn)
            .await?;
    Ok(result.rows_affected())
}

/// Ends all sessions of a user.
pub(crate) async fn revoke_user(conn: &mut AnyConnection, user_id: &UserId, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE refresh_tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL")
        .bind(user_id.as_str())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes tokens that had run out by `before`. Gives how many.
pub(crate) async fn delete_expired(conn: &mut AnyConnection, before: Timestamp) -> Result<u64> {
    let result = sqlx::query("DELETE FROM refresh_tokens WHERE expires_at < $1")
        .bind(before.as_millisecond())
        .execute(conn)
        .await?;
    Ok(result.rows_affected())
}
