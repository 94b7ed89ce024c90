//! Table `store_attempts`: snapshots that attempts at backups may have left in a bucket.
//!
//! On a worker's disk the worker finds what it left. In a bucket nobody does: so the hub writes down each attempt before its worker
//! may begin.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
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

/// Snapshots of a tenant in a store that no attempt makes any more, and that are not on record. They take turns: those come
/// that no sweep was told of for longest, of them the oldest.
pub(crate) async fn over(
    conn: &mut AnyConnection,
    (store_id, tenant_id): (&StoreId, &TenantId),
    now: Timestamp,
    limit: u32,
) -> Result<Vec<SnapshotKey>> {
    let rows = sqlx::query(
        "UPDATE store_attempts SET told_at = $3 WHERE snapshot_id IN (
             SELECT a.snapshot_id FROM store_attempts a
             WHERE a.store_id = $1 AND a.tenant_id = $2 AND a.created_at < $3
                 AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.id = a.snapshot_id)
                 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = a.job_id AND j.snapshot_id = a.snapshot_id
                     AND j.status IN ('running', 'finalizing'))
             ORDER BY a.told_at, a.created_at, a.snapshot_id LIMIT $4)
         RETURNING snapshot_id, tenant_id, source_id",
    )
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(key).collect()
}

/// Of a row that names all three.
pub(super) fn key(row: &AnyRow) -> Result<SnapshotKey> {
    Ok(SnapshotKey {
        tenant_id: parsed(row, "tenant_id")?,
        source_id: parsed(row, "source_id")?,
        snapshot_id: parsed(row, "snapshot_id")?,
    })
}

/// Snapshots of a tenant that jobs are writing into a store: backups and copies.
pub(crate) async fn running(
    conn: &mut AnyConnection,
    (store_id, tenant_id): (&StoreId, &TenantId),
) -> Result<Vec<SnapshotKey>> {
    let rows = sqlx::query(
        "SELECT a.snapshot_id, a.tenant_id, a.source_id FROM store_attempts a JOIN jobs j ON j.id = a.job_id
         WHERE a.store_id = $1 AND a.tenant_id = $2 AND j.snapshot_id = a.snapshot_id AND j.status IN ('running', 'finalizing')
         UNION SELECT s.id, s.tenant_id, s.source_id FROM jobs j JOIN snapshots s ON s.id = j.snapshot_id
         WHERE j.type = 'replicate' AND j.store_id = $1 AND j.tenant_id = $2 AND j.status IN ('running', 'finalizing')",
    )
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .fetch_all(conn)
    .await?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::bench::{Bench, on_both_engines};
    use crate::db::{Scope, jobs};

    struct Attempts<'a> {
        bench: &'a Bench,
        job: jobs::JobRow,
    }

    impl Attempts<'_> {
        /// One that a job's worker began.
        async fn begin(&self, id: &SnapshotId, store: &StoreId) {
            let key = SnapshotKey {
                tenant_id: self.bench.tenant.clone(),
                source_id: self.job.source_id.clone().unwrap(),
                snapshot_id: id.clone(),
            };
            let (hub, job) = (&self.bench.hub, &self.job.id);
            insert(&mut hub.db().conn().await.unwrap(), &key, job, store, hub.clock().now()).await.unwrap();
        }

        async fn over(&self, store: &StoreId, tenant: &TenantId) -> Vec<SnapshotId> {
            self.some_over(store, tenant, 10).await
        }

        async fn some_over(&self, store: &StoreId, tenant: &TenantId, most: u32) -> Vec<SnapshotId> {
            let (hub, now) = (&self.bench.hub, self.bench.hub.clock().now());
            let found = over(&mut hub.db().conn().await.unwrap(), (store, tenant), now, most).await.unwrap();
            let mut ids: Vec<_> = found.into_iter().map(|key| key.snapshot_id).collect();
            ids.sort();
            ids
        }
    }

    async fn row(bench: &Bench, id: &JobId) -> jobs::JobRow {
        jobs::get(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, id).await.unwrap()
    }

    async fn what_nothing_makes_any_more_and_nothing_knows_is_over(bench: Bench) {
        let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
        let (store, other) = (bench.store("one").await, bench.store("other").await);
        let done = bench.backup().await;
        bench.back_up(&worker, &done, 0).await;
        let recorded = row(&bench, &done).await.snapshot_id.unwrap();
        let running = bench.backup().await;
        bench.claim(&worker, Some(running.clone())).await.unwrap();
        let attempts = Attempts { bench: &bench, job: row(&bench, &running).await };
        let alive = attempts.job.snapshot_id.clone().unwrap();
        let [before, elsewhere] = ["before", "elsewhere"].map(|id| id.parse::<SnapshotId>().unwrap());
        for id in [&recorded, &alive, &before] {
            attempts.begin(id, &store).await;
        }
        attempts.begin(&elsewhere, &other).await;
        assert_eq!(attempts.over(&store, &bench.tenant).await, [], "they have just begun");
        clock.advance(Duration::from_secs(1));
        // The running job has made another attempt before, of which its worker knows nothing.
        assert_eq!(attempts.over(&store, &bench.tenant).await, [before]);
        let writing = async |store: &StoreId| {
            let found =
                super::running(&mut bench.hub.db().conn().await.unwrap(), (store, &bench.tenant)).await;
            found.unwrap().into_iter().map(|key| key.snapshot_id).collect::<Vec<_>>()
        };
        assert_eq!((writing(&store).await, writing(&other).await), (vec![alive], vec![]));
        assert_eq!(attempts.over(&other, &bench.tenant).await, [elsewhere]);
        assert_eq!(attempts.over(&store, &"stranger".parse().unwrap()).await, []);
    }

    /// One that stays for ever, because a hub may have been told of it, hides no other.
    async fn what_is_more_than_one_sweep_takes_comes_in_turns(bench: Bench) {
        let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
        let store = bench.store("one").await;
        let done = bench.backup().await;
        bench.back_up(&worker, &done, 0).await;
        let attempts = Attempts { bench: &bench, job: row(&bench, &done).await };
        let ids = ["a", "b", "c", "d", "e"].map(|id| id.parse::<SnapshotId>().unwrap());
        for id in &ids {
            attempts.begin(id, &store).await;
            clock.advance(Duration::from_secs(1));
        }
        let mut given = Vec::new();
        for _ in 0..3 {
            clock.advance(Duration::from_secs(24 * 3600));
            given.push(attempts.some_over(&store, &bench.tenant, 2).await);
        }
        let [a, b, c, d, e] = ids;
        assert_eq!(given, [vec![a.clone(), b], vec![c, d], vec![a, e]]);
    }

    on_both_engines!(
        what_nothing_makes_any_more_and_nothing_knows_is_over,
        what_is_more_than_one_sweep_takes_comes_in_turns,
    );
}
