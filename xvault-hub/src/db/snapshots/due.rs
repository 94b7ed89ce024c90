//! Snapshots whose verification is due.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{SnapshotId, StoreId, TenantId, WorkerId};

use crate::db::tenant_keys::opens_artifacts;
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
    /// Whether only looks inside count, of those that can be looked into here.
    pub(crate) inside: bool,
}

/// How many of a place are picked at a time: what waits for a place that is full or away must not hide what lies elsewhere.
const OF_A_PLACE: i64 = 8;

/// The due ones, with when each was last looked at: into, where that is wanted and somebody here can.
const DUE: &str = concat!(
    "SELECT due.id, CAST(due.inside AS BIGINT) AS inside FROM (
         SELECT seen.id, seen.inside, seen.looked, ROW_NUMBER() OVER (PARTITION BY seen.place ORDER BY seen.looked, seen.id) AS nth
         FROM (
             SELECT own.id, own.inside, own.place, COALESCE(
                 CASE WHEN own.inside = 1 THEN own.looked_inside_at ELSE own.checked_at END,
                 CASE WHEN own.inside = 1 THEN own.fully_verified_at ELSE own.verified_at END,
                 own.created_at) AS looked
             FROM (
                 SELECT n.id, COALESCE(n.store_id, n.worker_id) AS place, n.looked_inside_at, n.checked_at, n.fully_verified_at,
                     n.verified_at, n.created_at,
                     CASE WHEN $6 = 1 AND EXISTS (SELECT 1 FROM tenant_keys k WHERE k.tenant_id = n.tenant_id
                         AND k.public_key = n.encryption_recipient AND ",
    opens_artifacts!(),
    ") THEN 1 ELSE 0 END AS inside
                 FROM snapshots n JOIN sources s ON s.id = n.source_id LEFT JOIN workers w ON w.id = n.worker_id
                 WHERE n.tenant_id = $1 AND n.status <> 'deleting' AND s.status <> 'disabled'
                     AND (n.store_id IS NOT NULL OR COALESCE(w.status, '') <> 'offline')
                     AND COALESCE(n.check_asked_at, 0) <= $3
                     AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.snapshot_id = n.id AND j.type = 'verify'
                         AND j.status IN ('queued', 'running', 'finalizing'))
             ) own
         ) seen WHERE seen.looked <= $2
     ) due WHERE due.nth <= $5 ORDER BY due.looked, due.id LIMIT $4"
);

/// Those, from the one on that was looked at longest ago, some of each place where snapshots lie, each with whether it is to be
/// looked into: no identity may be here that opens it. What is read back when it is made has been looked at. Snapshots of disabled
/// sources wait, and so do those on the disk of a worker that is offline; those of deleted sources are worth as much as others.
pub(crate) async fn due(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    due: Due,
    limit: u32,
) -> Result<Vec<(SnapshotId, bool)>> {
    let rows = sqlx::query(DUE)
        .bind(tenant_id.as_str())
        .bind(due.since.as_millisecond())
        .bind(due.asked_before.as_millisecond())
        .bind(i64::from(limit))
        .bind(OF_A_PLACE)
        .bind(i64::from(due.inside))
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, row.try_get::<i64, _>("inside")? == 1))).collect()
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
