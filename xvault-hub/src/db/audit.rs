//! Table `audit_events`: who did what to which target, from where. Rows are added and read, never changed.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use xvault_core::TenantId;

use super::newest::Newest;
use super::{Binds, Page, Result, Scope, instant, json, parsed_opt, places};

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

/// Which events a list shows, besides its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) action: Option<String>,
    pub(crate) target_id: Option<String>,
    /// Done then or later.
    pub(crate) since: Option<Timestamp>,
    /// Done before.
    pub(crate) until: Option<Timestamp>,
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
    insert_all(conn, std::slice::from_ref(event)).await
}

/// Adds all of them.
pub(crate) async fn insert_all(conn: &mut AnyConnection, events: &[Event]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let text = format!(
        "INSERT INTO audit_events
             (id, tenant_id, actor_type, actor_id, action, target_type, target_id, ip, details, created_at)
         VALUES {}",
        places(events.len(), 10)
    );
    events.iter().fold(sqlx::query(AssertSqlSafe(text)), bind).execute(conn).await?;
    Ok(())
}

fn bind<'q>(query: Binds<'q>, event: &Event) -> Binds<'q> {
    query
        .bind(event.id.clone())
        .bind(event.tenant_id.as_ref().map(ToString::to_string))
        .bind(event.actor_type.clone())
        .bind(event.actor_id.clone())
        .bind(event.action.clone())
        .bind(event.target_type.clone())
        .bind(event.target_id.clone())
        .bind(event.ip.clone())
        .bind(event.details.to_string())
        .bind(event.created_at.as_millisecond())
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    scope: &Scope,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Event>> {
    let rows = Newest {
        values: &[("action", filter.action.as_deref()), ("target_id", filter.target_id.as_deref())],
        since: filter.since,
        until: filter.until,
        ..Newest::all("SELECT * FROM audit_events", scope, page)
    };
    rows.fetch(conn).await?.iter().map(from_row).collect()
}
