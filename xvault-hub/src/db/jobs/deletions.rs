//! Jobs that delete snapshots.

use sqlx::AnyConnection;
use xvault_core::{JobId, SnapshotId, SourceId};

use super::JobRow;
use crate::db::{Result, parsed};

/// The deletion of this snapshot that is queued or under way: there is at most one.
pub(crate) async fn unfinished_deletion(
    conn: &mut AnyConnection,
    snapshot_id: &SnapshotId,
) -> Result<Option<JobRow>> {
    let sql = "SELECT * FROM jobs WHERE snapshot_id = $1 AND type = 'delete_snapshot'
                   AND status IN ('queued', 'running', 'finalizing')";
    JobRow::of_snapshot(conn, sql, snapshot_id).await
}

/// A job that reads the bytes of this snapshot ([`xvault_core::JobKind::READING`]), or is to, and is not finished. Not a copying that
/// no worker has: it may wait for its store for long, and is of no use any more.
pub(crate) async fn reader(conn: &mut AnyConnection, snapshot_id: &SnapshotId) -> Result<Option<JobId>> {
    let row = sqlx::query(
        "SELECT id FROM jobs WHERE snapshot_id = $1 AND type IN ('restore', 'verify', 'browse', 'replicate')
             AND status IN ('queued', 'running', 'finalizing') AND (type <> 'replicate' OR status <> 'queued')
         ORDER BY id LIMIT 1",
    )
    .bind(snapshot_id.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|row| parsed(&row, "id")).transpose()
}

/// The jobs about this snapshot that are queued or under way.
pub(crate) async fn unfinished_about(
    conn: &mut AnyConnection,
    snapshot_id: &SnapshotId,
) -> Result<Vec<JobRow>> {
    let query = sqlx::query(
        "SELECT * FROM jobs WHERE snapshot_id = $1 AND status IN ('queued', 'running', 'finalizing') ORDER BY id",
    )
    .bind(snapshot_id.as_str());
    query.fetch_all(conn).await?.iter().map(JobRow::read).collect()
}

/// Somebody asks for what the hub wanted by itself: from now on it is theirs, and not called off any more by the hub.
pub(crate) async fn adopt(conn: &mut AnyConnection, id: &JobId, created_by: &str) -> Result<()> {
    sqlx::query("UPDATE jobs SET created_by = $2 WHERE id = $1 AND created_by IS NULL")
        .bind(id.as_str())
        .bind(created_by)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletions that the hub wanted by itself and that no worker has begun.
pub(crate) async fn queued_by_hub(conn: &mut AnyConnection, source_id: &SourceId) -> Result<Vec<JobRow>> {
    let query = sqlx::query(
        "SELECT * FROM jobs WHERE source_id = $1 AND type = 'delete_snapshot' AND status = 'queued' AND created_by IS NULL
             AND NOT EXISTS (SELECT 1 FROM snapshots s
                 WHERE s.id = jobs.snapshot_id AND s.deletion_began_at IS NOT NULL)
         ORDER BY id",
    )
    .bind(source_id.as_str());
    query.fetch_all(conn).await?.iter().map(JobRow::read).collect()
}
