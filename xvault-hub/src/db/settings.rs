//! Table `settings`: values of a tenant, or of the platform.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::TenantId;

use super::{Result, touched};

/// The platform's own values have this in the place of a tenant.
const PLATFORM: &str = "";

/// All values of a tenant: keys and JSON texts, sorted by key.
pub(crate) async fn of_tenant(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query("SELECT key, value FROM settings WHERE tenant_id = $1 ORDER BY key")
        .bind(tenant_id.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, row.try_get("value")?))).collect()
}

/// Gives a tenant's key a value.
pub(crate) async fn set(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    key: &str,
    value: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO settings (tenant_id, key, value, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
    )
    .bind(tenant_id.as_str())
    .bind(key)
    .bind(value)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a tenant's value away: the default holds again.
pub(crate) async fn unset(conn: &mut AnyConnection, tenant_id: &TenantId, key: &str) -> Result<()> {
    sqlx::query("DELETE FROM settings WHERE tenant_id = $1 AND key = $2")
        .bind(tenant_id.as_str())
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// A value of the platform.
pub(crate) async fn platform(conn: &mut AnyConnection, key: &str) -> Result<Option<String>> {
    let row = sqlx::query("SELECT value FROM settings WHERE tenant_id = $1 AND key = $2")
        .bind(PLATFORM)
        .bind(key)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.try_get("value")).transpose()?)
}

/// Gives the platform a value that it does not have. One that is there stays.
pub(crate) async fn set_platform_once(
    conn: &mut AnyConnection,
    key: &str,
    value: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO settings (tenant_id, key, value, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, key) DO NOTHING",
    )
    .bind(PLATFORM)
    .bind(key)
    .bind(value)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes a value of the platform from `old` to `new`. False when it is another by now.
pub(crate) async fn swap_platform(conn: &mut AnyConnection, key: &str, old: &str, new: &str) -> Result<bool> {
    let result =
        sqlx::query("UPDATE settings SET value = $4 WHERE tenant_id = $1 AND key = $2 AND value = $3")
            .bind(PLATFORM)
            .bind(key)
            .bind(old)
            .bind(new)
            .execute(conn)
            .await?;
    Ok(result.rows_affected() == 1)
}

/// Makes others wait who would change what there is one of on the platform, until the transaction ends. The platform has
/// no row of its own; that of the check value is always there.
pub(crate) async fn hold_platform(conn: &mut AnyConnection) -> Result<()> {
    let result =
        sqlx::query("UPDATE settings SET updated_at = updated_at WHERE tenant_id = $1 AND key = 'kek_check'")
            .bind(PLATFORM)
            .execute(conn)
            .await?;
    touched(&result)
}
