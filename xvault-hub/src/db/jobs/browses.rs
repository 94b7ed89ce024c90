//! Jobs that look into a snapshot: there for as long as somebody waits.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{JobId, TenantId};

use crate::db::{Result, parsed};

/// How many of a tenant are queued or under way.
pub(crate) async fn count_unfinished_browses(conn: &mut AnyConnection, tenant_id: &TenantId) -> Result<i64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS browses FROM jobs
         WHERE tenant_id = $1 AND type = 'browse' AND status IN ('queued', 'running', 'finalizing')",
    )
    .bind(tenant_id.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get("browses")?)
}

/// Those that were made before, and are not over.
pub(crate) async fn unfinished_browses(
    conn: &mut AnyConnection,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<JobId>> {
    let rows = sqlx::query(
        "SELECT id FROM jobs WHERE type = 'browse' AND status IN ('queued', 'running', 'finalizing') AND created_at < $1
         ORDER BY id LIMIT $2",
    )
    .bind(before.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// Removes one that is over, with what it found.
pub(crate) async fn delete_browse(conn: &mut AnyConnection, id: &JobId) -> Result<()> {
    sqlx::query(
        "DELETE FROM jobs WHERE id = $1 AND type = 'browse' AND status IN ('completed', 'failed', 'canceled')",
    )
    .bind(id.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes all that were over before.
pub(crate) async fn delete_finished_browses(conn: &mut AnyConnection, before: Timestamp) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM jobs WHERE type = 'browse' AND status IN ('completed', 'failed', 'canceled') AND finished_at < $1",
    )
    .bind(before.as_millisecond())
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
