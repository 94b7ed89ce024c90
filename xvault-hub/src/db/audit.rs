//! Table `audit_events`: who did what to which target, from where. Rows are added and read, never changed.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::TenantId;

use super::{Page, Result, Scope, instant, json, parsed_opt};

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) actor_type: String,
    pub(crate) actor_id: Option<String>,
    pub(crate) action: String,
    pub(crate) target_type: String,
    pub(crate) target_id: Option<String>,
    pub(crate) ip: Option<String>,
    /// No secrets.
    pub(crate) details: serde_json::Value,
    pub(crate) created_at: Timestamp,
}

fn from_row(row: &AnyRow) -> Result<Event> {
    Ok(Event {
        id: row.try_get("id")?,
        tenant_id: parsed_opt(row, "tenant_id")?,
        actor_type: row.try_get("actor_type")?,
        actor_id: row.try_get("actor_id")?,
        action: row.try_get("action")?,
        target_type: row.try_get("target_type")?,
        target_id: row.try_get("target_id")?,
        ip: row.try_get("ip")?,
        details: json(row, "details")?,
        created_at: instant(row, "created_at")?,
    })
}

pub(crate) async fn insert(conn: &mut AnyConnection, event: &Event) -> Result<()> {
    sqlx::query(
        "INSERT INTO audit_events
             (id, tenant_id, actor_type, actor_id, action, target_type, target_id, ip, details, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&event.id)
    .bind(event.tenant_id.as_ref().map(TenantId::as_str))
    .bind(&event.actor_type)
    .bind(event.actor_id.clone())
    .bind(&event.action)
    .bind(&event.target_type)
    .bind(event.target_id.clone())
    .bind(event.ip.clone())
    .bind(event.details.to_string())
    .bind(event.created_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn list(conn: &mut AnyConnection, scope: &Scope, page: &Page) -> Result<Vec<Event>> {
    let query = match scope {
        Scope::Tenant(tenant) => sqlx::query(
            "SELECT * FROM audit_events WHERE id < $1 AND tenant_id = $3 ORDER BY id DESC LIMIT $2",
        )
        .bind(page.before())
        .bind(page.probe_limit())
        .bind(tenant.as_str()),
        Scope::All => sqlx::query("SELECT * FROM audit_events WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(page.before())
            .bind(page.probe_limit()),
    };
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}
