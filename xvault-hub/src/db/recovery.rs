//! Rows that are made of manifests, after the rows themselves were lost: what is there stays as it is.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{JobId, Manifest, SnapshotId, StoreId, WorkerId};

use super::snapshots::SnapshotStatus;
use super::{Result, instant, parsed};

/// A worker that somebody will start again, and give a token. False when it is there.
pub(crate) async fn add_worker(conn: &mut AnyConnection, id: &WorkerId, now: Timestamp) -> Result<bool> {
    let result = sqlx::query(
        "INSERT INTO workers (id, name, created_at, updated_at) VALUES ($1, $1, $2, $2) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The job that made a snapshot, completed as it was.
pub(crate) async fn add_job(conn: &mut AnyConnection, manifest: &Manifest, now: Timestamp) -> Result<()> {
    let (started, finished) = (manifest.started_at.as_millisecond(), manifest.finished_at.as_millisecond());
    sqlx::query(
        "INSERT INTO jobs (id, tenant_id, source_id, type, status, attempt, runs, not_before, push_at, worker_id, snapshot_id,
             started_at, finished_at, created_at, updated_at)
         VALUES ($1, $2, $3, 'backup', 'completed', 1, 1, $4, $4, $5, $6, $4, $7, $4, $8) ON CONFLICT (id) DO NOTHING",
    )
    .bind(manifest.job_id.as_str())
    .bind(manifest.tenant_id.as_str())
    .bind(manifest.source_id.as_str())
    .bind(started)
    .bind(manifest.worker_id.as_str())
    .bind(manifest.snapshot_id.as_str())
    .bind(finished)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// The ids of all stores in buckets that the hub knows.
pub(crate) async fn bucket_stores(conn: &mut AnyConnection) -> Result<Vec<StoreId>> {
    let rows = sqlx::query("SELECT id FROM stores WHERE kind = 's3' ORDER BY id").fetch_all(conn).await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// A snapshot that is on record as lying at some place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) id: SnapshotId,
    /// It is to be deleted, or half deleted.
    pub(crate) is_deleting: bool,
    /// Since when it is on record.
    pub(crate) created_at: Timestamp,
    /// What a verification found of it that is not as it was written.
    pub(crate) damage: Option<String>,
}

fn recorded(row: &AnyRow) -> Result<Recorded> {
    Ok(Recorded {
        id: parsed(row, "id")?,
        is_deleting: parsed::<SnapshotStatus>(row, "status")? == SnapshotStatus::Deleting,
        created_at: instant(row, "created_at")?,
        damage: row.try_get("damage")?,
    })
}

/// The snapshots that are on record as lying on a worker's disk below `top`.
pub(crate) async fn on_disk(
    conn: &mut AnyConnection,
    worker_id: &WorkerId,
    top: &str,
) -> Result<Vec<Recorded>> {
    let query = sqlx::query(
        "SELECT id, status, created_at, damage FROM snapshots WHERE worker_id = $1 AND substr(local_path, 1, length($2)) = $2 ORDER BY id",
    );
    query.bind(worker_id.as_str()).bind(top).fetch_all(conn).await?.iter().map(recorded).collect()
}

/// The snapshots that are on record as lying in a bucket of a store first of all.
pub(crate) async fn in_store(
    conn: &mut AnyConnection,
    store_id: &StoreId,
    bucket: &str,
) -> Result<Vec<Recorded>> {
    let query = sqlx::query(
        "SELECT id, status, created_at, damage FROM snapshots WHERE store_id = $1 AND bucket = $2 ORDER BY id",
    );
    query.bind(store_id.as_str()).bind(bucket).fetch_all(conn).await?.iter().map(recorded).collect()
}

/// The snapshots of which a copy is on record as lying in a bucket of a store, each with since when; also where that was kept, and is
/// all that is left of them.
pub(crate) async fn copies_in(
    conn: &mut AnyConnection,
    store_id: &StoreId,
    bucket: &str,
) -> Result<Vec<(SnapshotId, Timestamp)>> {
    let query = sqlx::query(
        "SELECT c.snapshot_id, c.copied_at FROM snapshot_copies c LEFT JOIN snapshots n ON n.id = c.snapshot_id
         WHERE c.store_id = $1 AND c.bucket = $2 AND (n.status <> 'deleting' OR (n.id IS NULL AND c.status = 'kept'))
         ORDER BY c.snapshot_id",
    );
    let rows = query.bind(store_id.as_str()).bind(bucket).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((parsed(row, "snapshot_id")?, instant(row, "copied_at")?))).collect()
}

/// Whether a job has deleted the snapshot since then.
pub(crate) async fn was_deleted_since(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    since: Timestamp,
) -> Result<bool> {
    let row = sqlx::query(
        "SELECT id FROM jobs WHERE snapshot_id = $1 AND type = 'delete_snapshot' AND status = 'completed' AND finished_at >= $2",
    );
    let row = row.bind(id.as_str()).bind(since.as_millisecond());
    Ok(row.fetch_optional(conn).await?.is_some())
}

/// Whether a sweep that may have been told of what an attempt left in a store runs, or has run since then.
pub(crate) async fn was_swept_since(
    conn: &mut AnyConnection,
    (id, store_id): (&SnapshotId, &StoreId),
    since: Timestamp,
) -> Result<bool> {
    let row = sqlx::query(
        "SELECT j.id FROM store_attempts a JOIN jobs j ON j.store_id = a.store_id AND j.tenant_id = a.tenant_id
         WHERE a.snapshot_id = $1 AND a.store_id = $2 AND j.type = 'sweep_store'
             AND (j.status IN ('running', 'finalizing') OR j.finished_at >= $3)",
    );
    let row = row.bind(id.as_str()).bind(store_id.as_str()).bind(since.as_millisecond());
    Ok(row.fetch_optional(conn).await?.is_some())
}

/// Whether a worker has a job about the snapshot in its hands.
pub(crate) async fn is_worked_on(conn: &mut AnyConnection, id: &SnapshotId) -> Result<bool> {
    let row =
        sqlx::query("SELECT id FROM jobs WHERE snapshot_id = $1 AND status IN ('running', 'finalizing')");
    Ok(row.bind(id.as_str()).fetch_optional(conn).await?.is_some())
}

/// Whether a job is under way that has not told yet what it made.
pub(crate) async fn is_under_way(conn: &mut AnyConnection, id: &JobId) -> Result<bool> {
    let row =
        sqlx::query("SELECT id FROM jobs WHERE id = $1 AND status IN ('queued', 'running', 'finalizing')");
    Ok(row.bind(id.as_str()).fetch_optional(conn).await?.is_some())
}
