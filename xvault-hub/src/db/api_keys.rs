//! Table `api_keys`: tokens for programs.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{ApiKeyId, TenantId, UserId};

use super::status::Status;
use super::{Page, Result, Scope, instant, instant_opt, parsed, parsed_opt, touched};
use crate::api::principal::Role;

/// A row; the key's hash is what it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub(crate) id: ApiKeyId,
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The key's first characters.
    pub(crate) hint: String,
    pub(crate) created_by: Option<UserId>,
    pub(crate) last_used_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
}

fn from_row(row: &AnyRow) -> Result<ApiKey> {
    Ok(ApiKey {
        id: parsed(row, "id")?,
        tenant_id: parsed(row, "tenant_id")?,
        name: row.try_get("name")?,
        role: parsed(row, "role")?,
        hint: row.try_get("hint")?,
        created_by: parsed_opt(row, "created_by")?,
        last_used_at: instant_opt(row, "last_used_at")?,
        expires_at: instant_opt(row, "expires_at")?,
        revoked_at: instant_opt(row, "revoked_at")?,
        created_at: instant(row, "created_at")?,
    })
}

pub(crate) async fn insert(conn: &mut AnyConnection, key: &ApiKey, token_hash: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO api_keys (id, tenant_id, name, role, token_hash, hint, created_by, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(key.id.as_str())
    .bind(key.tenant_id.as_str())
    .bind(&key.name)
    .bind(key.role.as_str())
    .bind(token_hash)
    .bind(&key.hint)
    .bind(key.created_by.as_ref().map(UserId::as_str))
    .bind(key.expires_at.map(Timestamp::as_millisecond))
    .bind(key.created_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &ApiKeyId) -> Result<ApiKey> {
    let query = match scope {
        Scope::Tenant(tenant) => sqlx::query("SELECT * FROM api_keys WHERE id = $1 AND tenant_id = $2")
            .bind(id.as_str())
            .bind(tenant.as_str()),
        Scope::All => sqlx::query("SELECT * FROM api_keys WHERE id = $1").bind(id.as_str()),
    };
    from_row(&query.fetch_one(conn).await?)
}

pub(crate) async fn list(conn: &mut AnyConnection, scope: &Scope, page: &Page) -> Result<Vec<ApiKey>> {
    let query = match scope {
        Scope::Tenant(tenant) => {
            sqlx::query("SELECT * FROM api_keys WHERE id < $1 AND tenant_id = $3 ORDER BY id DESC LIMIT $2")
                .bind(page.before())
                .bind(page.probe_limit())
                .bind(tenant.as_str())
        }
        Scope::All => sqlx::query("SELECT * FROM api_keys WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(page.before())
            .bind(page.probe_limit()),
    };
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// The key that is shown, with its tenant's status.
pub(crate) async fn by_hash(conn: &mut AnyConnection, token_hash: &str) -> Result<Option<(ApiKey, Status)>> {
    let row = sqlx::query(
        "SELECT k.*, t.status AS tenant_status FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.token_hash = $1",
    )
    .bind(token_hash)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((from_row(&row)?, parsed(&row, "tenant_status")?))).transpose()
}

/// Notes that a key was used.
pub(crate) async fn note_use(conn: &mut AnyConnection, id: &ApiKeyId, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE api_keys SET last_used_at = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// Revokes a key; one that is revoked already stays as it is.
pub(crate) async fn revoke(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    id: &ApiKeyId,
    now: Timestamp,
) -> Result<()> {
    let result = sqlx::query(
        "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE id = $1 AND tenant_id = $2",
    )
    .bind(id.as_str())
    .bind(tenant_id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&result)
}
