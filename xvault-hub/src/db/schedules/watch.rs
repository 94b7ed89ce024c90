//! Schedules whose sources were to have a snapshot by now, and those that have one again.
//!
//! Nothing is expected of sources and tenants that are disabled.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};

use super::{Schedule, from_row};
use crate::db::{Result, instant_opt};

/// A schedule, with the time of the last whole snapshot of its source.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) schedule: Schedule,
    pub(crate) last_success_at: Option<Timestamp>,
}

fn watched(row: &sqlx::any::AnyRow) -> Result<Watched> {
    Ok(Watched { schedule: from_row(row)?, last_success_at: instant_opt(row, "last_success_at")? })
}

/// Those that the watch has to look at, because time is up since they were last looked at, the latest first.
pub(crate) async fn late(conn: &mut AnyConnection, now: Timestamp, limit: u32) -> Result<Vec<Watched>> {
    let query = sqlx::query(
        "SELECT c.*, (SELECT MAX(n.created_at) FROM snapshots n WHERE n.source_id = c.source_id
             AND n.status = 'completed' AND n.damaged_at IS NULL) AS last_success_at
         FROM schedules c JOIN sources s ON s.id = c.source_id JOIN tenants t ON t.id = c.tenant_id
         WHERE c.enabled = 1 AND c.overdue_at IS NULL AND c.overdue_after <= $1
             AND s.status = 'active' AND t.status = 'active'
         ORDER BY c.overdue_after LIMIT $2",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(watched).collect()
}

/// Those that are told to be overdue, and have a whole snapshot since it was expected.
pub(crate) async fn back(conn: &mut AnyConnection, limit: u32) -> Result<Vec<Watched>> {
    let query = sqlx::query(
        "SELECT * FROM (SELECT c.*, (SELECT MAX(n.created_at) FROM snapshots n WHERE n.source_id = c.source_id
                 AND n.status = 'completed' AND n.damaged_at IS NULL) AS last_success_at
             FROM schedules c WHERE c.overdue_at IS NOT NULL) AS told
         WHERE last_success_at >= expected_at LIMIT $1",
    )
    .bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(watched).collect()
}

/// How many sources are told to be overdue.
pub(crate) async fn overdue(conn: &mut AnyConnection) -> Result<i64> {
    // SQLite takes the tables of a CROSS JOIN in their order, and would begin with all sources else.
    let row = sqlx::query(
        "SELECT COUNT(*) AS sources FROM schedules c CROSS JOIN sources s CROSS JOIN tenants t
         WHERE c.overdue_at IS NOT NULL AND s.id = c.source_id AND s.status = 'active'
             AND t.id = c.tenant_id AND t.status = 'active'",
    );
    Ok(row.fetch_one(conn).await?.try_get("sources")?)
}
