//! Snapshots whose verification is due.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{SnapshotId, StoreId, TenantId, WorkerId};

use crate::db::{Result, parsed};

/// How a tenant wants its snapshots to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Habit {
    pub(crate) tenant_id: TenantId,
    /// JSON, as in table `settings`.
    pub(crate) interval_days: String,
    /// The same; none: the default.
    pub(crate) depth: Option<String>,
}

/// Tenants that want their snapshots to be verified, and are not disabled, by id, from after `after` on.
pub(crate) async fn habits(
    conn: &mut AnyConnection,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<Vec<Habit>> {
    let query = sqlx::query(
        "SELECT t.id, i.value AS interval_days, d.value AS depth
         FROM settings i JOIN tenants t ON t.id = i.tenant_id
             LEFT JOIN settings d ON d.tenant_id = i.tenant_id AND d.key = 'verify_depth'
         WHERE i.key = 'verify_interval_days' AND i.value <> '0' AND t.id > $1 AND t.status = 'active'
         ORDER BY t.id LIMIT $2",
    )
    .bind(after.map_or("", TenantId::as_str))
    .bind(i64::from(limit));
    let rows = query.fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(Habit {
                tenant_id: parsed(row, "id")?,
                interval_days: row.try_get("interval_days")?,
                depth: row.try_get("depth")?,
            })
        })
        .collect()
}

/// Which snapshots of a tenant are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// Those that nobody has looked at (or into) since then…
    pub(crate) since: Timestamp,
    /// …and that the hub has made no verification of since then.
    pub(crate) asked_before: Timestamp,
    /// Whether only looks inside count.
    pub(crate) inside: bool,
}

/// How many of a place are picked at a time: what waits for a place that is full or away must not hide what lies elsewhere.
const OF_A_PLACE: i64 = 8;

/// Picks the due ones, with the column that tells when a snapshot was last looked at.
macro_rules! due {
    ($looked:literal) => {
        concat!(
            "SELECT due.id FROM (SELECT n.id, COALESCE(",
            $looked,
            ", n.created_at) AS looked, ROW_NUMBER() OVER (PARTITION BY COALESCE(n.store_id, n.worker_id) ORDER BY COALESCE(",
            $looked,
            ", n.created_at), n.id) AS nth
             FROM snapshots n JOIN sources s ON s.id = n.source_id
             WHERE n.tenant_id = $1 AND n.status <> 'deleting' AND s.status <> 'disabled'
                 AND COALESCE(",
            $looked,
            ", n.created_at) <= $2
                 AND COALESCE(n.check_asked_at, 0) <= $3
                 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.snapshot_id = n.id AND j.type = 'verify'
                     AND j.status IN ('queued', 'running', 'finalizing'))
             ) due WHERE due.nth <= $5 ORDER BY due.looked, due.id LIMIT $4"
        )
    };
}

/// Those, from the one on that was looked at longest ago, some of each place where snapshots lie. What is read back when it is made has been looked at. Snapshots of disabled sources
/// wait; those of deleted ones are worth as much as others.
pub(crate) async fn due(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    due: Due,
    limit: u32,
) -> Result<Vec<SnapshotId>> {
    let text = if due.inside {
        due!("n.looked_inside_at, n.fully_verified_at")
    } else {
        due!("n.checked_at, n.verified_at")
    };
    let rows = sqlx::query(text)
        .bind(tenant_id.as_str())
        .bind(due.since.as_millisecond())
        .bind(due.asked_before.as_millisecond())
        .bind(i64::from(limit))
        .bind(OF_A_PLACE)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// The hub makes a verification of it. False when another hub was faster.
pub(crate) async fn ask_for_check(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    asked_before: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE snapshots SET check_asked_at = $3 WHERE id = $1 AND COALESCE(check_asked_at, 0) <= $2",
    )
    .bind(id.as_str())
    .bind(asked_before.as_millisecond())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Bytes of the snapshots that lie where this one does, and that the hub has made a verification of after `since`.
pub(crate) async fn bytes_asked_for(
    conn: &mut AnyConnection,
    (worker_id, store_id): (Option<&WorkerId>, Option<&StoreId>),
    since: Timestamp,
) -> Result<u64> {
    let row = sqlx::query(
        "SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS bytes FROM snapshots WHERE check_asked_at > $1
             AND (($2 <> '' AND store_id = $2) OR ($2 = '' AND store_id IS NULL AND worker_id = $3))",
    )
    .bind(since.as_millisecond())
    .bind(store_id.map(StoreId::as_str).unwrap_or_default())
    .bind(worker_id.map(WorkerId::as_str));
    let bytes: i64 = row.fetch_one(conn).await?.try_get("bytes")?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}
