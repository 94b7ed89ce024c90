//! Table `tenants`.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::TenantId;

use super::status::Status;
use super::{Page, Result, Scope, instant, parsed, touched};

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    pub(crate) plan: String,
    pub(crate) status: Status,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

fn from_row(row: &AnyRow) -> Result<Tenant> {
    Ok(Tenant {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        plan: row.try_get("plan")?,
        status: parsed(row, "status")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

pub(crate) async fn insert(conn: &mut AnyConnection, tenant: &Tenant) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenants (id, name, plan, status, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant.id.as_str())
    .bind(&tenant.name)
    .bind(&tenant.plan)
    .bind(tenant.status.as_str())
    .bind(tenant.created_at.as_millisecond())
    .bind(tenant.updated_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// A tenant sees itself only.
pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &TenantId) -> Result<Tenant> {
    if !scope.admits(id) {
        return Err(super::Error::NotFound);
    }
    let row = sqlx::query("SELECT * FROM tenants WHERE id = $1").bind(id.as_str()).fetch_one(conn).await?;
    from_row(&row)
}

pub(crate) async fn list(conn: &mut AnyConnection, page: &Page) -> Result<Vec<Tenant>> {
    let rows = sqlx::query("SELECT * FROM tenants WHERE id < $1 ORDER BY id DESC LIMIT $2")
        .bind(page.before())
        .bind(page.probe_limit())
        .fetch_all(conn)
        .await?;
    rows.iter().map(from_row).collect()
}

/// The one that has been there for longest, of those that are not disabled.
pub(crate) async fn oldest_active(conn: &mut AnyConnection) -> Result<Option<TenantId>> {
    let row = sqlx::query("SELECT id FROM tenants WHERE status = 'active' ORDER BY id LIMIT 1");
    row.fetch_optional(conn).await?.map(|row| parsed(&row, "id")).transpose()
}

/// Writes name and status.
pub(crate) async fn update(conn: &mut AnyConnection, tenant: &Tenant) -> Result<()> {
    let result = sqlx::query("UPDATE tenants SET name = $2, status = $3, updated_at = $4 WHERE id = $1")
        .bind(tenant.id.as_str())
        .bind(&tenant.name)
        .bind(tenant.status.as_str())
        .bind(tenant.updated_at.as_millisecond())
        .execute(conn)
        .await?;
    touched(&result)
}

/// Makes others wait who would change this tenant, until the transaction ends.
pub(crate) async fn hold(conn: &mut AnyConnection, id: &TenantId) -> Result<()> {
    let result = sqlx::query("UPDATE tenants SET updated_at = updated_at WHERE id = $1")
        .bind(id.as_str())
        .execute(conn)
        .await?;
    touched(&result)
}
