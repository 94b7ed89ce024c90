//! What keeps a snapshot, and what takes it away: holds, and the marks of its deletion.
//!
//! `deleting` is the mark of a snapshot that is to go; it is taken back when the deletion is called off. `deletion_began_at` is
//! the mark of one whose bytes a worker was told to remove; that is for good.

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::SnapshotId;

use crate::db::{Result, parsed};

/// It is to be deleted, and no longer to be restored. False when it is held, or gone.
pub(crate) async fn mark_deleting(conn: &mut AnyConnection, id: &SnapshotId, now: Timestamp) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE snapshots SET status = 'deleting', updated_at = $2 WHERE id = $1 AND held_at IS NULL",
    )
    .bind(id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// It is not to be deleted after all. One whose deletion has begun stays as it is.
pub(crate) async fn unmark_deleting(conn: &mut AnyConnection, id: &SnapshotId, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE snapshots SET status = CASE WHEN warnings > 0 THEN 'partial' ELSE 'completed' END, updated_at = $2
         WHERE id = $1 AND status = 'deleting' AND deletion_began_at IS NULL",
    )
    .bind(id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks a snapshot whose bytes may go, with what must be so besides.
macro_rules! begin_deletion {
    ($besides:literal) => {
        concat!(
            "UPDATE snapshots SET deletion_began_at = COALESCE(deletion_began_at, $2), status = 'deleting', updated_at = $2
             WHERE id = $1 AND held_at IS NULL AND (locked_until IS NULL OR locked_until <= $2)
                 AND NOT EXISTS (SELECT 1 FROM stores o WHERE o.id = snapshots.store_id AND o.may_delete = 0)
                 AND EXISTS (SELECT 1 FROM tenants t WHERE t.id = snapshots.tenant_id AND t.status = 'active')
                 AND NOT EXISTS (SELECT 1 FROM jobs r WHERE r.snapshot_id = snapshots.id AND r.type IN ('restore', 'verify', 'browse', 'replicate')
                     AND r.status IN ('queued', 'running', 'finalizing')
                     AND (r.type <> 'replicate' OR r.status <> 'queued'))",
            $besides
        )
    };
}

/// A worker is about to remove its bytes: the one place that decides whether it may, under the row's lock. False when the
/// snapshot is held or locked, its store lets nobody delete, a job reads it, its tenant is disabled, or it is gone; and, for what nobody asked for and nobody has begun,
/// when its source or that one's schedule is disabled. Whatever else must not lose its bytes is to be asked for in this very
/// statement.
pub(crate) async fn begin_deletion(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    automated: bool,
    now: Timestamp,
) -> Result<bool> {
    let text = if automated {
        begin_deletion!(
            " AND (deletion_began_at IS NOT NULL
                 OR EXISTS (SELECT 1 FROM sources s LEFT JOIN schedules c ON c.source_id = s.id
                     WHERE s.id = snapshots.source_id AND s.status = 'active' AND COALESCE(c.enabled, 1) = 1))"
        )
    } else {
        begin_deletion!("")
    };
    let result = sqlx::query(text).bind(id.as_str()).bind(now.as_millisecond()).execute(conn).await?;
    Ok(result.rows_affected() == 1)
}

/// Whether the store in which it lies first of all was seen to let nobody delete. False when it is gone, or on a worker's disk.
pub(crate) async fn store_keeps(conn: &mut AnyConnection, id: &SnapshotId) -> Result<bool> {
    let row = sqlx::query(
        "SELECT s.id FROM snapshots s JOIN stores o ON o.id = s.store_id WHERE s.id = $1 AND o.may_delete = 0",
    )
    .bind(id.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Whether its tenant is disabled. False when it is gone.
pub(crate) async fn tenant_is_disabled(conn: &mut AnyConnection, id: &SnapshotId) -> Result<bool> {
    let row = sqlx::query(
        "SELECT t.id FROM snapshots s JOIN tenants t ON t.id = s.tenant_id WHERE s.id = $1 AND t.status <> 'active'",
    )
    .bind(id.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// It stays, whatever retention and people say, until it is released. A hold that it has keeps its beginning. False when its
/// deletion has begun, or it is gone.
pub(crate) async fn hold(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    reason: &str,
    now: Timestamp,
) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE snapshots SET held_at = COALESCE(held_at, $3), hold_reason = $2, updated_at = $3
         WHERE id = $1 AND deletion_began_at IS NULL",
    )
    .bind(id.as_str())
    .bind(reason)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// It is locked where it was made to.
pub(crate) async fn lock_place(conn: &mut AnyConnection, id: &SnapshotId, until: Timestamp) -> Result<()> {
    let query = sqlx::query(
        "UPDATE snapshots SET place_locked_until = $2, locked_until = CASE WHEN locked_until > $2 THEN locked_until ELSE $2 END
         WHERE id = $1",
    );
    query.bind(id.as_str()).bind(until.as_millisecond()).execute(conn).await?;
    Ok(())
}

/// A copy of it is locked, and goes with it.
pub(crate) async fn lock_copy(conn: &mut AnyConnection, id: &SnapshotId, until: Timestamp) -> Result<()> {
    let query = sqlx::query(
        "UPDATE snapshots SET locked_until = CASE WHEN locked_until > $2 THEN locked_until ELSE $2 END WHERE id = $1",
    );
    query.bind(id.as_str()).bind(until.as_millisecond()).execute(conn).await?;
    Ok(())
}

/// It may be deleted again. False when nothing held it.
pub(crate) async fn release(conn: &mut AnyConnection, id: &SnapshotId, now: Timestamp) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE snapshots SET held_at = NULL, hold_reason = NULL, updated_at = $2
         WHERE id = $1 AND held_at IS NOT NULL",
    )
    .bind(id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Snapshots whose deletion has begun and ended without being done, by id, from after `after` on. Those of disabled tenants
/// wait, and those in stores that let nobody delete.
pub(crate) async fn half_deleted(
    conn: &mut AnyConnection,
    after: Option<&SnapshotId>,
    limit: u32,
) -> Result<Vec<SnapshotId>> {
    let rows = sqlx::query(
        "SELECT s.id FROM snapshots s JOIN tenants t ON t.id = s.tenant_id
         WHERE s.status = 'deleting' AND s.id > $1 AND s.deletion_began_at IS NOT NULL AND t.status = 'active'
             AND NOT EXISTS (SELECT 1 FROM stores o WHERE o.id = s.store_id AND o.may_delete = 0)
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.snapshot_id = s.id AND j.type = 'delete_snapshot'
                 AND j.status IN ('queued', 'running', 'finalizing'))
         ORDER BY s.id LIMIT $2",
    )
    .bind(after.map_or("", SnapshotId::as_str))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use xvault_core::JobKind::{Backup, Browse, Replicate, Restore, Verify};
    use xvault_core::JobStatus::{self, Canceled, Finalizing, Queued, Running};
    use xvault_core::job::Life;
    use xvault_core::{LeaseToken, WorkerId};

    use super::*;
    use crate::app::bench::{Bench, on_both_engines};
    use crate::db::Scope;
    use crate::db::jobs::{self, JobRow};

    /// A queued job's life when it has come so far.
    fn life(queued: &Life, status: JobStatus, worker: &WorkerId) -> Life {
        let token = LeaseToken::generate();
        let claimed = || queued.claim(Timestamp::MAX, worker, token.clone(), Duration::ZERO).unwrap();
        match status {
            Queued => queued.clone(),
            Canceled => queued.cancel().unwrap(),
            Finalizing => claimed().finalize(&token).unwrap(),
            _ => claimed(),
        }
    }

    /// Asked under the row's lock once more, after whoever wants to delete has looked: a reader may have come between.
    async fn what_a_job_reads_keeps_its_bytes(bench: Bench) {
        let (worker, backup, now) = (bench.worker("w").await, bench.backup().await, bench.hub.clock().now());
        bench.back_up(&worker, &backup, 0).await;
        let mut conn = bench.hub.db().conn().await.unwrap();
        let made = jobs::get(&mut conn, &Scope::All, &backup).await.unwrap();
        let (id, source) = (made.snapshot_id.unwrap(), made.source_id.unwrap());
        drop(conn);
        for (kind, status, may_go) in [
            (Backup, Running, true),
            (Restore, Queued, false),
            (Verify, Running, false),
            (Browse, Finalizing, false),
            (Replicate, Queued, true),
            (Replicate, Running, false),
            (Restore, Canceled, true),
        ] {
            let mut tx = bench.hub.db().begin().await.unwrap();
            let job = JobRow::new(kind, bench.tenant.clone(), source.clone(), 1, now);
            let job = JobRow { snapshot_id: Some(id.clone()), ..job };
            jobs::insert(&mut tx, &job).await.unwrap();
            let life = life(&job.life, status, &worker);
            assert!(jobs::save(&mut tx, &job.with(life, now), now).await.unwrap());
            assert_eq!(begin_deletion(&mut tx, &id, false, now).await.unwrap(), may_go, "{kind} {status}");
            tx.rollback().await.unwrap();
        }
        let mut tx = bench.hub.db().begin().await.unwrap();
        assert!(hold(&mut tx, &id, "evidence", now).await.unwrap());
        assert!(!begin_deletion(&mut tx, &id, false, now).await.unwrap(), "it is held");
    }

    async fn a_deletion_that_broke_off_waits_for_as_long_as_its_tenant_is_disabled(bench: Bench) {
        let (worker, backup, now) = (bench.worker("w").await, bench.backup().await, bench.hub.clock().now());
        bench.back_up(&worker, &backup, 0).await;
        let mut conn = bench.hub.db().conn().await.unwrap();
        let id = jobs::get(&mut conn, &Scope::All, &backup).await.unwrap().snapshot_id.unwrap();
        assert!(begin_deletion(&mut conn, &id, false, now).await.unwrap());
        for (status, found) in
            [("active", vec![id.clone()]), ("disabled", vec![]), ("active", vec![id.clone()])]
        {
            sqlx::query("UPDATE tenants SET status = $1").bind(status).execute(&mut *conn).await.unwrap();
            assert_eq!(half_deleted(&mut conn, None, 10).await.unwrap(), found, "{status}");
        }
        assert_eq!(half_deleted(&mut conn, Some(&id), 10).await.unwrap(), [], "it is behind the page's end");
    }

    on_both_engines!(
        what_a_job_reads_keeps_its_bytes,
        a_deletion_that_broke_off_waits_for_as_long_as_its_tenant_is_disabled,
    );
}
