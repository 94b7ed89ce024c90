//! Restores that wait for a worker.

use sqlx::AnyConnection;

use super::JobRow;
use crate::db::Result;

/// Queued restores of snapshots that lie on the disk of a worker that is gone, and in a second store, too; oldest first.
pub(crate) async fn restores_of_gone_workers(conn: &mut AnyConnection, limit: u32) -> Result<Vec<JobRow>> {
    let query = sqlx::query(
        "SELECT j.* FROM jobs j JOIN workers w ON w.id = j.target_worker_id
         WHERE j.type = 'restore' AND j.status = 'queued' AND (w.status = 'offline' OR w.token_hash IS NULL)
             AND EXISTS (SELECT 1 FROM snapshot_copies c WHERE c.snapshot_id = j.snapshot_id)
         ORDER BY j.id LIMIT $1",
    )
    .bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(JobRow::read).collect()
}
