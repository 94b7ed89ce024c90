//! Table `refresh_tokens`: long-lived tokens, each good for one use, and which was given for which.
//!
//! Writers hold the user's row first ([`super::users::hold`]), so that no token is made while its family is revoked.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{SessionId, UserId};

use super::{Page, Result, instant, instant_opt, parsed, touched};

/// A row; the token's hash is what it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) id: String,
    pub(crate) user_id: UserId,
    /// All tokens that descend from one login.
    pub(crate) family_id: SessionId,
    /// The token that was shown for this one. None: a login was.
    pub(crate) parent_id: Option<String>,
    /// When that login was.
    pub(crate) session_at: Timestamp,
    /// Where the token was given to.
    pub(crate) ip: Option<String>,
    pub(crate) used_at: Option<Timestamp>,
    pub(crate) revoked: bool,
    pub(crate) expires_at: Timestamp,
    pub(crate) created_at: Timestamp,
}

/// What a token was changed for. Of several all but the last are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Successors {
    /// When the last one was given.
    pub(crate) newest_at: Timestamp,
    /// Whether any was used.
    pub(crate) used: bool,
}

fn from_row(row: &AnyRow) -> Result<RefreshToken> {
    Ok(RefreshToken {
        id: row.try_get("id")?,
        user_id: parsed(row, "user_id")?,
        family_id: parsed(row, "family_id")?,
        parent_id: row.try_get("parent_id")?,
        session_at: instant(row, "session_at")?,
        ip: row.try_get("ip")?,
        used_at: instant_opt(row, "used_at")?,
        revoked: row.try_get::<Option<i64>, _>("revoked_at")?.is_some(),
        expires_at: instant(row, "expires_at")?,
        created_at: instant(row, "created_at")?,
    })
}

pub(crate) async fn insert(conn: &mut AnyConnection, token: &RefreshToken, token_hash: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO refresh_tokens (id, user_id, family_id, parent_id, session_at, ip, token_hash, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&token.id)
    .bind(token.user_id.as_str())
    .bind(token.family_id.as_str())
    .bind(token.parent_id.as_deref())
    .bind(token.session_at.as_millisecond())
    .bind(token.ip.as_deref())
    .bind(token_hash)
    .bind(token.expires_at.as_millisecond())
    .bind(token.created_at.as_millisecond())
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

/// What a token was changed for. None: nothing yet.
pub(crate) async fn successors(conn: &mut AnyConnection, id: &str) -> Result<Option<Successors>> {
    let row = sqlx::query(
        "SELECT MAX(created_at) AS newest_at, COUNT(used_at) AS used FROM refresh_tokens WHERE parent_id = $1",
    )
    .bind(id)
    .fetch_one(conn)
    .await?;
    let used = row.try_get::<i64, _>("used")? > 0;
    Ok(instant_opt(&row, "newest_at")?.map(|newest_at| Successors { newest_at, used }))
}

/// Revokes what a token was changed for.
pub(crate) async fn revoke_successors(conn: &mut AnyConnection, id: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE refresh_tokens SET revoked_at = $2 WHERE parent_id = $1 AND revoked_at IS NULL")
        .bind(id)
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// The unused tokens of a user, one of each session, the last given first; one more than the page holds.
pub(crate) async fn live(
    conn: &mut AnyConnection,
    user_id: &UserId,
    now: Timestamp,
    page: &Page,
) -> Result<Vec<RefreshToken>> {
    let query = sqlx::query(
        "SELECT * FROM refresh_tokens WHERE user_id = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2
             AND id < $3
         ORDER BY id DESC LIMIT $4",
    )
    .bind(user_id.as_str())
    .bind(now.as_millisecond())
    .bind(page.before())
    .bind(page.probe_limit());
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// Ends a session of a user. [`Error::NotFound`](super::Error::NotFound) for one that is over, or another's.
pub(crate) async fn revoke_of(
    conn: &mut AnyConnection,
    user_id: &UserId,
    family_id: &SessionId,
    now: Timestamp,
) -> Result<()> {
    let result = sqlx::query(
        "UPDATE refresh_tokens SET revoked_at = $3 WHERE user_id = $1 AND family_id = $2 AND revoked_at IS NULL",
    )
    .bind(user_id.as_str())
    .bind(family_id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&result)
}

/// Ends a session. Gives how many tokens were still good for something.
pub(crate) async fn revoke_family(
    conn: &mut AnyConnection,
    family_id: &SessionId,
    now: Timestamp,
) -> Result<u64> {
    let result =
        sqlx::query("UPDATE refresh_tokens SET revoked_at = $2 WHERE family_id = $1 AND revoked_at IS NULL")
            .bind(family_id.as_str())
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
