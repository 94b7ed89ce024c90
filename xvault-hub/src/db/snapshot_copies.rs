//! Table `snapshot_copies`: copies of snapshots in second stores.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::snapshot::Locator;
use xvault_core::{JobId, SnapshotId, SnapshotKey, StoreId, TenantId};

use super::snapshots::Soundness;
use super::{Result, instant, instant_opt, parsed};

/// What is the matter with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CopyStatus {
    /// It is there.
    Copied,
    /// Its snapshot was deleted; the copy stays, because the store's credential may not delete it.
    Kept,
}

impl std::str::FromStr for CopyStatus {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "copied" => Ok(Self::Copied),
            "kept" => Ok(Self::Kept),
            _ => Err(()),
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) snapshot_id: SnapshotId,
    pub(crate) store_id: StoreId,
    pub(crate) status: CopyStatus,
    pub(crate) locator: Locator,
    /// The end of its lock.
    pub(crate) locked_until: Option<Timestamp>,
    /// Whether its store lets the hub delete it, as far as is known.
    pub(crate) may_delete: Option<bool>,
    pub(crate) copied_at: Timestamp,
    /// What verifications of the copy itself found.
    pub(crate) soundness: Soundness,
}

fn from_row(row: &AnyRow) -> Result<Copy> {
    Ok(Copy {
        snapshot_id: parsed(row, "snapshot_id")?,
        store_id: parsed(row, "store_id")?,
        status: parsed(row, "status")?,
        locator: Locator::S3 {
            bucket: row.try_get("bucket")?,
            object_key: row.try_get("object_key")?,
            etag: row.try_get("etag")?,
        },
        locked_until: instant_opt(row, "locked_until")?,
        may_delete: row.try_get::<Option<i64>, _>("may_delete")?.map(|may| may != 0),
        copied_at: instant(row, "copied_at")?,
        soundness: Soundness::read(row)?,
    })
}

/// Where a copy lies in a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) store_id: &'a StoreId,
    pub(crate) bucket: &'a str,
    pub(crate) object_key: &'a str,
    pub(crate) etag: Option<&'a str>,
    /// The end of its lock.
    pub(crate) locked_until: Option<Timestamp>,
}

/// The copy exists. Nothing changes when that is on record; a tag that was not known then is added, and its lock is the
/// later one.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    key: &SnapshotKey,
    place: Place<'_>,
    job_id: &JobId,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO snapshot_copies (snapshot_id, store_id, tenant_id, source_id, bucket, object_key, etag, job_id, copied_at,
             updated_at, locked_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
         ON CONFLICT (snapshot_id, store_id) DO UPDATE SET etag = COALESCE(snapshot_copies.etag, excluded.etag),
             locked_until = CASE WHEN snapshot_copies.locked_until > excluded.locked_until OR excluded.locked_until IS NULL
                 THEN snapshot_copies.locked_until ELSE excluded.locked_until END",
    )
    .bind(key.snapshot_id.as_str())
    .bind(place.store_id.as_str())
    .bind(key.tenant_id.as_str())
    .bind(key.source_id.as_str())
    .bind(place.bucket)
    .bind(place.object_key)
    .bind(place.etag)
    .bind(job_id.as_str())
    .bind(now.as_millisecond())
    .bind(place.locked_until.map(Timestamp::as_millisecond))
    .execute(conn)
    .await?;
    Ok(())
}

/// The copies of a snapshot, oldest first.
pub(crate) async fn of(conn: &mut AnyConnection, id: &SnapshotId) -> Result<Vec<Copy>> {
    let query = sqlx::query(
        "SELECT c.*, s.may_delete FROM snapshot_copies c JOIN stores s ON s.id = c.store_id
             WHERE c.snapshot_id = $1 ORDER BY c.copied_at, c.store_id",
    )
    .bind(id.as_str());
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// The snapshot is gone, and its copies with it, but for those in these stores: they stay, and are to be removed by somebody who may.
pub(crate) async fn settle(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    kept: &[StoreId],
    now: Timestamp,
) -> Result<()> {
    keep(conn, id, kept, now).await?;
    sqlx::query("DELETE FROM snapshot_copies WHERE snapshot_id = $1 AND status = 'copied'")
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// A copy turned out not to be there. Gives whose it was; None when it is not on record.
pub(crate) async fn forget(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    store_id: &StoreId,
) -> Result<Option<TenantId>> {
    let query = sqlx::query(
        "DELETE FROM snapshot_copies WHERE snapshot_id = $1 AND store_id = $2 RETURNING tenant_id",
    )
    .bind(id.as_str())
    .bind(store_id.as_str());
    query.fetch_optional(conn).await?.map(|row| parsed(&row, "tenant_id")).transpose()
}

/// The copies in these stores stay without their snapshot.
pub(crate) async fn keep(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    kept: &[StoreId],
    now: Timestamp,
) -> Result<()> {
    for store in kept {
        sqlx::query(
            "UPDATE snapshot_copies SET status = 'kept', updated_at = $3 WHERE snapshot_id = $1 AND store_id = $2",
        )
        .bind(id.as_str())
        .bind(store.as_str())
        .bind(now.as_millisecond())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A snapshot that lacks the copy that it shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) snapshot_id: SnapshotId,
    pub(crate) store_id: StoreId,
}

/// Snapshots without their copy, oldest first: `only` this one, or any. Not those that are being copied, nor those that could not be
/// copied since `tried_since`, nor what belongs to disabled tenants or goes into a disabled store.
pub(crate) async fn missing(
    conn: &mut AnyConnection,
    only: Option<&SnapshotId>,
    tried_since: Timestamp,
    limit: u32,
) -> Result<Vec<Missing>> {
    let rows = sqlx::query(
        "SELECT n.id AS snapshot_id, r.id AS store_id
         FROM snapshots n JOIN sources s ON s.id = n.source_id JOIN tenants t ON t.id = n.tenant_id
             LEFT JOIN stores own ON own.id = n.store_id
             JOIN stores r ON r.id = COALESCE(s.replica_store_id, own.replica_id)
         WHERE n.status <> 'deleting' AND t.status = 'active' AND r.status = 'active'
             AND (n.store_id IS NULL OR n.store_id <> r.id) AND ($1 = '' OR n.id = $1)
             AND NOT EXISTS (SELECT 1 FROM snapshot_copies c WHERE c.snapshot_id = n.id AND c.store_id = r.id)
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.snapshot_id = n.id AND j.store_id = r.id AND j.type = 'replicate'
                 AND (j.status IN ('queued', 'running', 'finalizing') OR j.finished_at > $2))
         ORDER BY n.id LIMIT $3",
    )
    .bind(only.map(SnapshotId::as_str).unwrap_or_default())
    .bind(tried_since.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let missing = |row: &AnyRow| {
        Ok(Missing { snapshot_id: parsed(row, "snapshot_id")?, store_id: parsed(row, "store_id")? })
    };
    rows.iter().map(missing).collect()
}
