//! Table `store_sweeps`: whose part of which store is swept when.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{StoreId, TenantId};

use super::{Result, instant, parsed};

/// A tenant's part of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) store_id: StoreId,
    pub(crate) tenant_id: TenantId,
    pub(crate) next_at: Timestamp,
}

/// From now on it is swept, first at `next_at`, unless it is already.
pub(crate) async fn begin(
    conn: &mut AnyConnection,
    (store_id, tenant_id): (&StoreId, &TenantId),
    next_at: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO store_sweeps (store_id, tenant_id, next_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .bind(next_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Those whose time has come, the longest waiting first. Disabled tenants' wait.
pub(crate) async fn due(conn: &mut AnyConnection, now: Timestamp, limit: u32) -> Result<Vec<Part>> {
    let rows = sqlx::query(
        "SELECT p.store_id, p.tenant_id, p.next_at FROM store_sweeps p JOIN tenants t ON t.id = p.tenant_id
         WHERE p.next_at <= $1 AND t.status = 'active' ORDER BY p.next_at LIMIT $2",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let part = |row: &sqlx::any::AnyRow| {
        Ok(Part {
            store_id: parsed(row, "store_id")?,
            tenant_id: parsed(row, "tenant_id")?,
            next_at: instant(row, "next_at")?,
        })
    };
    rows.iter().map(part).collect()
}

/// Moves its time. False: another hub was faster.
pub(crate) async fn take(conn: &mut AnyConnection, part: &Part, next_at: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE store_sweeps SET next_at = $4 WHERE store_id = $1 AND tenant_id = $2 AND next_at = $3",
    )
    .bind(part.store_id.as_str())
    .bind(part.tenant_id.as_str())
    .bind(part.next_at.as_millisecond())
    .bind(next_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// When the next one is due.
pub(crate) async fn next_at(conn: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT MIN(next_at) AS next_at FROM store_sweeps").fetch_one(conn).await?;
    let millis: Option<i64> = row.try_get("next_at")?;
    Ok(millis.map(crate::clock::from_millis))
}
