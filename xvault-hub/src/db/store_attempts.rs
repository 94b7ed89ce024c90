//! Table `store_attempts`: snapshots that attempts at backups may have left in a bucket.
//!
//! On a worker's disk the worker finds what it left. In a bucket nobody does: so the hub writes down each attempt before its worker
//! may begin.

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{JobId, SnapshotId, SnapshotKey, StoreId};

use super::Result;

/// A worker may begin to write this snapshot.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    key: &SnapshotKey,
    job_id: &JobId,
    store_id: &StoreId,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO store_attempts (snapshot_id, tenant_id, source_id, job_id, store_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(key.snapshot_id.as_str())
    .bind(key.tenant_id.as_str())
    .bind(key.source_id.as_str())
    .bind(job_id.as_str())
    .bind(store_id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// The snapshot is on record, or surely gone.
pub(crate) async fn delete(conn: &mut AnyConnection, id: &SnapshotId) -> Result<()> {
    sqlx::query("DELETE FROM store_attempts WHERE snapshot_id = $1").bind(id.as_str()).execute(conn).await?;
    Ok(())
}
