//! Jobs that verify snapshots.

use sqlx::{AnyConnection, Row as _};
use xvault_core::{SnapshotId, TenantId, WorkerId};

use super::JobRow;
use crate::db::Result;

/// The verification of this snapshot that is queued or under way: there is at most one.
pub(crate) async fn unfinished_verification(
    conn: &mut AnyConnection,
    snapshot_id: &SnapshotId,
) -> Result<Option<JobRow>> {
    let sql = "SELECT * FROM jobs WHERE snapshot_id = $1 AND type = 'verify'
                   AND status IN ('queued', 'running', 'finalizing')";
    JobRow::of_snapshot(conn, sql, snapshot_id).await
}

/// How many verifications of a tenant are queued or under way, but for those that wait for a worker that is offline; and how many,
/// of whichever tenant, only this worker can run.
pub(crate) async fn count_verifications(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    worker_id: Option<&WorkerId>,
) -> Result<(i64, i64)> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM jobs j LEFT JOIN workers w ON w.id = j.target_worker_id
                 WHERE j.tenant_id = $1 AND j.type = 'verify' AND j.status IN ('queued', 'running', 'finalizing')
                     AND COALESCE(w.status, '') <> 'offline') AS of_tenant,
             (SELECT COUNT(*) FROM jobs WHERE target_worker_id = $2 AND type = 'verify'
                 AND status IN ('queued', 'running', 'finalizing')) AS of_worker",
    )
    .bind(tenant_id.as_str())
    .bind(worker_id.map(WorkerId::as_str));
    let row = row.fetch_one(conn).await?;
    Ok((row.try_get("of_tenant")?, row.try_get("of_worker")?))
}
