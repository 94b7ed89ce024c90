//! Table `copy_attempts`: copies that were begun, and are not on record.
//!
//! A worker that dies between making a copy and telling of it leaves one that nobody knows. While its snapshot is there, the next
//! attempt finds it. When that is deleted, nobody would: so each attempt is written down before its worker may begin.

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{SnapshotId, SnapshotKey, StoreId, TenantId};

use super::{Result, store_attempts};

/// A worker may begin to copy this snapshot into the store. One that is gone is not copied any more.
pub(crate) async fn begin(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    store_id: &StoreId,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO copy_attempts (snapshot_id, store_id, tenant_id, source_id, begun_at)
             SELECT n.id, $2, n.tenant_id, n.source_id, $3 FROM snapshots n WHERE n.id = $1
         ON CONFLICT (snapshot_id, store_id) DO UPDATE SET begun_at = excluded.begun_at",
    )
    .bind(id.as_str())
    .bind(store_id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// The copy is on record.
pub(crate) async fn done(conn: &mut AnyConnection, id: &SnapshotId, store_id: &StoreId) -> Result<()> {
    sqlx::query("DELETE FROM copy_attempts WHERE snapshot_id = $1 AND store_id = $2")
        .bind(id.as_str())
        .bind(store_id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// The snapshot's record goes, and what may be left of it stays: nobody has asked for its deletion.
pub(crate) async fn spare(conn: &mut AnyConnection, id: &SnapshotId) -> Result<()> {
    let query = sqlx::query("DELETE FROM copy_attempts WHERE snapshot_id = $1");
    query.bind(id.as_str()).execute(conn).await?;
    Ok(())
}

/// The snapshot was deleted: whatever lies of it in a second store is to go, and soon.
pub(crate) async fn deleted(conn: &mut AnyConnection, id: &SnapshotId, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE copy_attempts SET deleted_at = $2 WHERE snapshot_id = $1 AND deleted_at IS NULL")
        .bind(id.as_str())
        .bind(now.as_millisecond())
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE store_sweeps SET next_at = $2 WHERE next_at > $2 AND EXISTS (SELECT 1 FROM copy_attempts a
             WHERE a.snapshot_id = $1 AND a.store_id = store_sweeps.store_id AND a.tenant_id = store_sweeps.tenant_id)",
    )
    .bind(id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the snapshot was deleted, and its copy in this store, if there is one, waits for a sweep.
pub(crate) async fn is_to_go(conn: &mut AnyConnection, id: &SnapshotId, store_id: &StoreId) -> Result<bool> {
    let row = sqlx::query(
        "SELECT snapshot_id FROM copy_attempts WHERE snapshot_id = $1 AND store_id = $2 AND deleted_at IS NOT NULL",
    );
    Ok(row.bind(id.as_str()).bind(store_id.as_str()).fetch_optional(conn).await?.is_some())
}

/// Deleted snapshots of a tenant of which a copy may lie in a store that no worker makes any more. They take turns: those come that
/// no sweep was told of for longest. None where nobody may delete.
pub(crate) async fn to_go(
    conn: &mut AnyConnection,
    (store_id, tenant_id): (&StoreId, &TenantId),
    now: Timestamp,
    limit: u32,
) -> Result<Vec<SnapshotKey>> {
    let rows = sqlx::query(
        "UPDATE copy_attempts SET told_at = $3 WHERE store_id = $1 AND snapshot_id IN (
             SELECT a.snapshot_id FROM copy_attempts a
             WHERE a.store_id = $1 AND a.tenant_id = $2 AND a.deleted_at IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM snapshots n WHERE n.id = a.snapshot_id)
                 AND NOT EXISTS (SELECT 1 FROM stores s WHERE s.id = a.store_id AND s.may_delete = 0)
                 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.snapshot_id = a.snapshot_id AND j.store_id = a.store_id
                     AND j.type = 'replicate' AND j.status IN ('running', 'finalizing'))
             ORDER BY a.told_at, a.begun_at, a.snapshot_id LIMIT $4)
         RETURNING snapshot_id, tenant_id, source_id",
    )
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(store_attempts::key).collect()
}

/// Nothing is left of a deleted snapshot in this store: its copy is not kept there any more. It is looked for again until nobody is
/// feared to write there, unless it was begun before `before`.
pub(crate) async fn gone(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    (store_id, tenant_id): (&StoreId, &TenantId),
    before: Timestamp,
) -> Result<()> {
    sqlx::query(
        "DELETE FROM snapshot_copies WHERE snapshot_id = $1 AND store_id = $2 AND status = 'kept' AND EXISTS (
             SELECT 1 FROM copy_attempts a WHERE a.snapshot_id = $1 AND a.store_id = $2 AND a.tenant_id = $3
                 AND a.deleted_at IS NOT NULL)",
    )
    .bind(id.as_str())
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM copy_attempts WHERE snapshot_id = $1 AND store_id = $2 AND tenant_id = $3 AND deleted_at IS NOT NULL
             AND begun_at < $4",
    )
    .bind(id.as_str())
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .bind(before.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}
