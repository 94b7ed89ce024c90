//! Jobs about a store itself: tests that people ask for, and sweeps that the hub makes.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::AnyConnection;
use xvault_core::protocol::{
    Ability, Found, StoreAccess, StoreReport, SweepReport, SweepStoreTask, Task, TestStoreTask,
};
use xvault_core::{JobId, JobKind, StoreId, TenantId};

use super::assign::Unmet;
use super::enqueue::note;
use super::{ROUNDS, commit, contended, millis};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::wake;
use crate::db::jobs::JobRow;
use crate::db::status::Status;
use crate::db::store_sweeps::{self, Part};
use crate::db::stores::Store;
use crate::db::workers::{self, S3};
use crate::db::{self, Scope, copy_attempts, jobs, store_attempts, stores, tenants};
use crate::{DbError, Hub};

/// How often a tenant's part of a store is swept.
pub(crate) const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// Parts come due over so long a time, not all at once.
const JITTER: SignedDuration = SignedDuration::from_hours(4);
/// What was written to so long ago, and has no manifest, is dead.
const OLDER_THAN: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// For so long a worker that lost its job is feared to write all the same: what it left is looked for each day.
const FORGET_AFTER: SignedDuration = SignedDuration::from_hours(8 * 24);
/// The most attempts that one sweep looks for.
const MAX_ATTEMPTS: u32 = 500;
/// A second store that could not be tested is tried anew so long after that.
const TEST_AGAIN: SignedDuration = SignedDuration::from_hours(6);
/// As many second stores are tested at once when somebody has changed one.
const SOON: u32 = 8;
/// The longest report of a test that is kept, in bytes.
const MAX_REPORT: usize = 32 << 10;

/// Below it, a tenant's snapshots lie.
pub(super) fn prefix(tenant: &TenantId) -> String {
    format!("tenants/{tenant}")
}

/// Where a test makes its objects: below the tenant's prefix, so that its credentials reach them, and of no snapshot.
pub(super) fn test_prefix(tenant: &TenantId, job: &JobId) -> String {
    format!("{}/tests/{job}", prefix(tenant))
}

/// The test of a store for a tenant that is under way, or else a new one. 404 when the store is not the tenant's to use; 409
/// `tenant_disabled` or `no_worker`.
pub(crate) async fn test(hub: &Hub, who: &Principal, tenant: &TenantId, id: &StoreId) -> Result<JobRow> {
    for _ in 0..ROUNDS {
        let mut conn = hub.db().conn().await?;
        let own = Scope::Tenant(tenant.clone());
        let store = stores::get(&mut conn, &own, id).await.map_err(Error::of("store"))?;
        if let Some(job) = jobs::unfinished_test(&mut conn, id, tenant).await? {
            return Ok(job);
        }
        let found = tenants::get(&mut conn, &Scope::All, tenant).await.map_err(Error::of("tenant"))?;
        if found.status == Status::Disabled {
            return Err(Error::conflict("tenant_disabled", "the tenant is disabled"));
        }
        if workers::available(&mut conn, Some(S3)).await?.is_empty() {
            return Err(Error::conflict("no_worker", "no worker that is online reaches stores in buckets"));
        }
        drop(conn);
        if let Some(job) = add_test(hub, who, tenant, &store.id).await? {
            wake::push(hub, &job);
            return Ok(job);
        }
    }
    Err(contended())
}

/// None: somebody was faster.
async fn add_test(hub: &Hub, who: &Principal, tenant: &TenantId, id: &StoreId) -> Result<Option<JobRow>> {
    let by = Some(who.actor.id().to_owned());
    let job = wake::with_message(row(hub, JobKind::TestStore, tenant, id, by), hub.clock().now());
    let mut tx = hub.db().begin().await?;
    match jobs::insert(&mut tx, &job).await {
        Err(DbError::Duplicate) => return Ok(None),
        inserted => inserted?,
    }
    note(&mut tx, hub, who, &job, "job.enqueue").await?;
    commit(tx).await?;
    Ok(Some(job))
}

fn row(hub: &Hub, kind: JobKind, tenant: &TenantId, store: &StoreId, created_by: Option<String>) -> JobRow {
    JobRow {
        store_id: Some(store.clone()),
        capability: Some(S3.to_owned()),
        created_by,
        ..JobRow::without_source(kind, tenant.clone(), 1, hub.clock().now())
    }
}

/// What its worker is told.
pub(super) async fn task(
    hub: &Hub,
    conn: &mut AnyConnection,
    job: &JobRow,
    store: StoreAccess,
) -> std::result::Result<Task, Unmet> {
    if job.kind == JobKind::TestStore {
        let prefix = test_prefix(&job.tenant_id, &job.id);
        return Ok(Task::TestStore(Box::new(TestStoreTask { store, prefix })));
    }
    let id = job.store_id.as_ref().ok_or(Unmet::NoStore)?;
    let deleted = copy_attempts::to_go(conn, (id, &job.tenant_id), hub.clock().now(), MAX_ATTEMPTS).await?;
    let attempts = store_attempts::over(conn, (id, &job.tenant_id), hub.clock().now(), MAX_ATTEMPTS).await?;
    // Asked for after the store's access was made: what begins now is younger than anything that a sweep takes.
    let running = store_attempts::running(conn, (id, &job.tenant_id)).await?;
    Ok(Task::SweepStore(Box::new(SweepStoreTask {
        store,
        prefix: prefix(&job.tenant_id),
        older_than_ms: millis(OLDER_THAN),
        attempts,
        deleted,
        running,
    })))
}

/// A report as it is kept: 422 when it is none that we would show.
pub(super) fn checked_report(report: &StoreReport) -> Result<Value> {
    let value = serde_json::to_value(report).map_err(|error| Error::internal(&error))?;
    if value.to_string().len() > MAX_REPORT || value.to_string().contains("\\u0000") {
        return Err(Error::invalid_field("outcome.result.report", "it is too long or not printable"));
    }
    Ok(value)
}

/// What a finished test changes besides its job.
pub(super) async fn tested(
    hub: &Hub,
    conn: &mut AnyConnection,
    job: &JobRow,
    report: &StoreReport,
) -> Result<()> {
    let Some(id) = &job.store_id else { return Ok(()) };
    let store = match stores::get(conn, &Scope::All, id).await {
        Err(DbError::NotFound) => return Ok(()),
        store => store?,
    };
    let seen = (&checked_report(report)?, may_delete(&store, report), job.created_at);
    Ok(stores::set_test(conn, id, seen, hub.clock().now()).await?)
}

/// Whether the credential may delete what is written into the store, as far as was seen: what is locked goes with its versions.
fn may_delete(store: &Store, report: &StoreReport) -> Option<bool> {
    let wanted = if store.object_lock.is_some() { Ability::DeleteVersion } else { Ability::Delete };
    match report.found(wanted) {
        Found::Yes => Some(true),
        Found::No => Some(false),
        Found::Unknown => None,
    }
}

/// Makes the tests of second stores of which nobody knows whether they let delete, and of stores where a deletion failed; gives
/// how many were looked at.
pub(crate) async fn test_seconds(hub: &Hub, limit: u32) -> Result<u32> {
    let since = hub.clock().now().checked_sub(TEST_AGAIN).unwrap_or(Timestamp::MIN);
    let mut conn = hub.db().conn().await?;
    let untested = stores::untested(&mut conn, since, limit).await?;
    if untested.is_empty() || workers::available(&mut conn, Some(S3)).await?.is_empty() {
        return Ok(0);
    }
    drop(conn);
    for one in &untested {
        let job = row(hub, JobKind::TestStore, &one.tenant_id, &one.store_id, None);
        let job = wake::with_message(job, hub.clock().now());
        let mut conn = hub.db().conn().await?;
        match jobs::insert(&mut conn, &job).await {
            // Somebody has just asked for one.
            Err(DbError::Duplicate) => {}
            inserted => {
                inserted?;
                wake::push(hub, &job);
            }
        }
    }
    Ok(u32::try_from(untested.len()).unwrap_or(u32::MAX))
}

/// A second store may have been named, or another credential: what it lets do need not wait for the next round.
pub(crate) fn test_seconds_soon(hub: &Hub) {
    let hub = hub.clone();
    tokio::spawn(async move {
        if let Err(error) = test_seconds(&hub, SOON).await {
            let error = error.message().to_owned();
            tracing::warn!(error, "the test of a second store waits for the next round");
        }
    });
}

/// What a finished sweep changes besides its job: attempts of which nothing is left, and nothing more is feared, are forgotten.
pub(super) async fn swept(
    hub: &Hub,
    conn: &mut AnyConnection,
    job: &JobRow,
    report: &SweepReport,
) -> Result<()> {
    let Some(id) = &job.store_id else { return Ok(()) };
    let before = hub.clock().now().saturating_sub(FORGET_AFTER).unwrap_or(Timestamp::MIN);
    for snapshot in &report.removed {
        store_attempts::forget(conn, snapshot, (id, &job.tenant_id), before).await?;
        copy_attempts::gone(conn, snapshot, (id, &job.tenant_id), before).await?;
    }
    tell(job, report);
    Ok(())
}

fn tell(job: &JobRow, report: &SweepReport) {
    let (store, tenant) = (job.store_id.as_ref().map(StoreId::as_str).unwrap_or_default(), &job.tenant_id);
    if report.remains > 0 || report.failed > 0 {
        let SweepReport { remains, failed, .. } = report;
        tracing::info!(store_id = store, tenant_id = %tenant, remains, failed, "swept a store");
    }
    if !report.kept.is_empty() {
        let ids: Vec<_> = report.kept.iter().take(5).map(xvault_core::SnapshotId::as_str).collect();
        tracing::warn!(
            store_id = store,
            tenant_id = %tenant,
            kept = report.kept.len(),
            snapshot_ids = ids.join(" "),
            "snapshots that are not on record lie in a store; they stay, for a hub may have been told of them"
        );
    }
}

/// Makes the sweeps that are due, each by one hub; gives how many were looked at.
pub(crate) async fn sweep_due(hub: &Hub, limit: u32) -> db::Result<u32> {
    let now = hub.clock().now();
    let due = store_sweeps::due(&mut *hub.db().conn().await?, now, limit).await?;
    for part in &due {
        sweep(hub, part, now).await?;
    }
    Ok(u32::try_from(due.len()).unwrap_or(u32::MAX))
}

async fn sweep(hub: &Hub, part: &Part, now: Timestamp) -> db::Result<()> {
    let mut tx = hub.db().begin().await?;
    let next = next_time(part, now);
    if !store_sweeps::take(&mut tx, part, next).await? {
        return Ok(());
    }
    let job = row(hub, JobKind::SweepStore, &part.tenant_id, &part.store_id, None);
    let job = wake::with_message(job, now);
    // One that is not done since yesterday goes on.
    let added = jobs::insert_unless_excluded(&mut tx, &[&job]).await?;
    tx.commit().await?;
    if !added.is_empty() {
        wake::push(hub, &job);
    }
    Ok(())
}

/// A day on, a little earlier or later for each part.
pub(super) fn next_time(part: &Part, now: Timestamp) -> Timestamp {
    let sum = part.tenant_id.as_str().bytes().chain(part.store_id.as_str().bytes());
    let spread = sum.fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let millis = i64::try_from(spread % u64::try_from(JITTER.as_millis()).unwrap_or(1)).unwrap_or(0);
    now.saturating_add(EVERY - JITTER / 2 + SignedDuration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

/// How long until the next sweep is due.
pub(crate) async fn until_next(hub: &Hub) -> db::Result<std::time::Duration> {
    let next = store_sweeps::next_at(&mut *hub.db().conn().await?).await?;
    let hour = SignedDuration::from_hours(1);
    let wait = next.map_or(hour, |at| at.duration_since(hub.clock().now()));
    Ok(wait.clamp(SignedDuration::from_secs(60), hour).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_swept_once_a_day_at_their_own_times() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let part = |tenant: &str| Part {
            store_id: "s".parse().unwrap(),
            tenant_id: tenant.parse().unwrap(),
            next_at: now,
        };
        let times: Vec<_> =
            (0..50).map(|n| next_time(&part(&format!("tenant-{n}")), now).duration_since(now)).collect();
        assert!(
            times.iter().all(
                |wait| *wait >= SignedDuration::from_hours(22) && *wait <= SignedDuration::from_hours(26)
            )
        );
        let distinct: std::collections::BTreeSet<_> = times.iter().collect();
        assert!(distinct.len() > 40, "{times:?}");
    }
}
