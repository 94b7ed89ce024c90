//! Table `store_keys`: keys that Garage made for one job or one link each.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{JobId, StoreId};

use super::{Result, parsed};

/// A key without its secret, which is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreKey {
    pub(crate) store_id: StoreId,
    pub(crate) access_key_id: String,
}

/// A key was made, for this run of a job (none: for a link), and is good until `expires_at`.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    key: &StoreKey,
    run: Option<(&JobId, u32)>,
    expires_at: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO store_keys (access_key_id, store_id, job_id, run, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&key.access_key_id)
    .bind(key.store_id.as_str())
    .bind(run.map(|(job, _)| job.as_str()))
    .bind(run.map_or(0, |(_, run)| i64::from(run)))
    .bind(expires_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes which keys are of runs that are over, by now.
pub(crate) async fn mark_over(conn: &mut AnyConnection, now: Timestamp) -> Result<()> {
    sqlx::query(
        "UPDATE store_keys SET over_since = $1 WHERE over_since IS NULL AND job_id IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = store_keys.job_id AND j.runs = store_keys.run
                 AND j.status IN ('running', 'finalizing'))",
    )
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of runs that were over before `before`, and those that ended by themselves before `now`; the oldest first.
pub(crate) async fn useless(
    conn: &mut AnyConnection,
    (before, now): (Timestamp, Timestamp),
    limit: u32,
) -> Result<Vec<StoreKey>> {
    let rows = sqlx::query(
        "SELECT store_id, access_key_id FROM store_keys WHERE over_since < $1 OR expires_at < $2
         ORDER BY expires_at, access_key_id LIMIT $3",
    )
    .bind(before.as_millisecond())
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let key = |row: &sqlx::any::AnyRow| {
        Ok(StoreKey { store_id: parsed(row, "store_id")?, access_key_id: row.try_get("access_key_id")? })
    };
    rows.iter().map(key).collect()
}

/// The key is gone.
pub(crate) async fn delete(conn: &mut AnyConnection, key: &StoreKey) -> Result<()> {
    sqlx::query("DELETE FROM store_keys WHERE store_id = $1 AND access_key_id = $2")
        .bind(key.store_id.as_str())
        .bind(&key.access_key_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets those that ended before `before`: nobody can do anything with them, whether they are gone or not.
pub(crate) async fn forget_ended(conn: &mut AnyConnection, before: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM store_keys WHERE expires_at < $1")
        .bind(before.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::app::bench::{Bench, on_both_engines};

    async fn a_key_is_useless_once_its_run_or_its_time_is_over_and_then_forgotten(bench: Bench) {
        let (worker, store, begun) =
            (bench.worker("w").await, bench.store("one").await, bench.hub.clock().now());
        let job = bench.backup().await;
        bench.claim(&worker, Some(job.clone())).await.unwrap();
        let after = |seconds| begun + SignedDuration::from_secs(seconds);
        let mut conn = bench.hub.db().conn().await.unwrap();
        for (access_key_id, run, end) in [
            ("this run", Some((&job, 1)), 3600),
            ("the run before", Some((&job, 0)), 1800),
            ("a link", None, 60),
        ] {
            let key = StoreKey { store_id: store.clone(), access_key_id: access_key_id.to_owned() };
            insert(&mut conn, &key, run, after(end)).await.unwrap();
        }
        mark_over(&mut conn, begun).await.unwrap();
        let mut found = Vec::new();
        for (seconds, limit) in [(300, 10), (301, 10), (3601, 10), (3601, 1)] {
            let keys = useless(&mut conn, (after(seconds - 300), after(seconds)), limit).await.unwrap();
            found.push(keys.into_iter().map(|key| key.access_key_id).collect::<Vec<_>>());
        }
        let all = ["a link", "the run before", "this run"];
        assert_eq!(found, [&all[..1], &all[..2], &all[..], &all[..1]]);
        forget_ended(&mut conn, after(1800)).await.unwrap();
        let left = useless(&mut conn, (after(3601), after(3601)), 10).await.unwrap();
        assert_eq!(left.into_iter().map(|key| key.access_key_id).collect::<Vec<_>>(), all[1..]);
    }

    on_both_engines!(a_key_is_useless_once_its_run_or_its_time_is_over_and_then_forgotten);
}
