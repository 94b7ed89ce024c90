//! Table `store_attempts`: snapshots that attempts at backups may have left in a bucket.
//!
//! On a worker's disk the worker finds what it left. In a bucket nobody does: so the hub writes down each attempt before its worker
//! may begin.

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{JobId, SnapshotId, SnapshotKey, StoreId, TenantId};

use super::{Result, parsed};

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

/// Snapshots of a tenant in a store that no attempt makes any more, and that are not on record; the oldest first.
pub(crate) async fn over(
    conn: &mut AnyConnection,
    (store_id, tenant_id): (&StoreId, &TenantId),
    now: Timestamp,
    limit: u32,
) -> Result<Vec<SnapshotKey>> {
    let rows = sqlx::query(
        "SELECT a.snapshot_id, a.tenant_id, a.source_id FROM store_attempts a
         WHERE a.store_id = $1 AND a.tenant_id = $2 AND a.created_at < $3
             AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.id = a.snapshot_id)
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = a.job_id AND j.snapshot_id = a.snapshot_id
                 AND j.status IN ('running', 'finalizing'))
         ORDER BY a.created_at, a.snapshot_id LIMIT $4",
    )
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let key = |row: &sqlx::any::AnyRow| {
        Ok(SnapshotKey {
            tenant_id: parsed(row, "tenant_id")?,
            source_id: parsed(row, "source_id")?,
            snapshot_id: parsed(row, "snapshot_id")?,
        })
    };
    rows.iter().map(key).collect()
}

/// Nothing is left of an attempt of before `before`, and nobody writes there any more.
pub(crate) async fn forget(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    (store_id, tenant_id): (&StoreId, &TenantId),
    before: Timestamp,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM store_attempts WHERE snapshot_id = $1 AND store_id = $2 AND tenant_id = $3 AND created_at < $4",
    )
    .bind(id.as_str())
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .bind(before.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}
