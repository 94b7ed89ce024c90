//! Verifications that the hub makes by itself, as often as tenants want it, what was looked at longest ago first.
//!
//! They go after everything else, few at a time, and not too much in a day: reading takes a disk's time from backups, and a
//! bucket's money. Several hubs may do this at once; a snapshot is verified once.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::AnyConnection;
use xvault_core::TenantId;
use xvault_core::protocol::VerifyDepth;

use super::request::{Wish, scheduled};
use crate::api::error::Result;
use crate::app::audit::record_by_system;
use crate::app::jobs::{job_deed, lock_readable};
use crate::app::wake;
use crate::db::snapshots::{self, Due, Habit, Snapshot};
use crate::db::{self, Scope, jobs, tenants};
use crate::{DbError, Hub};

/// Tenants that are asked for at once.
const PAGE: u32 = 200;
/// Unfinished verifications of a tenant beyond which the hub adds none.
const PER_TENANT: i64 = 8;
/// Those that are looked at in one round.
const CANDIDATES: u32 = 512;
/// Those that a worker's own disk has to bear.
const PER_WORKER: i64 = 2;
/// How soon one that failed is tried again by itself, and for how long the limit of bytes counts.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes what is due; gives how many that were.
pub(crate) async fn run_due(hub: &Hub) -> Result<usize> {
    let (mut last, mut made): (Option<TenantId>, usize) = (None, 0);
    loop {
        let page = snapshots::habits(&mut *hub.db().conn().await?, last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else { return Ok(made) };
        last = Some(end.tenant_id.clone());
        for habit in &page {
            made += of_tenant(hub, habit).await?;
        }
    }
}

async fn of_tenant(hub: &Hub, habit: &Habit) -> Result<usize> {
    let mut conn = hub.db().conn().await?;
    let Some((due, depth)) = wanted(hub, habit) else { return Ok(0) };
    let (unfinished, _) = jobs::count_verifications(&mut conn, &habit.tenant_id, None).await?;
    let room = u32::try_from(PER_TENANT - unfinished).unwrap_or(0);
    if room == 0 {
        return Ok(0);
    }
    // More than there is room for: those of a busy worker are passed over.
    let found = snapshots::due(&mut conn, &habit.tenant_id, due, CANDIDATES).await?;
    drop(conn);
    let mut made = 0;
    for (snapshot_id, inside) in found {
        if made == room {
            break;
        }
        // Where nobody here can look inside, the hashes can still be compared.
        let depth = if inside { depth } else { VerifyDepth::Quick };
        made += u32::from(add(hub, &due, &Wish { snapshot_id, depth, from_store: None }).await?);
    }
    Ok(usize::try_from(made).unwrap_or(usize::MAX))
}

/// What a tenant's settings mean today. None: they can't be read, and the API says so to whoever looks at them.
fn wanted(hub: &Hub, habit: &Habit) -> Option<(Due, VerifyDepth)> {
    let days = habit.interval_days.parse::<u32>().ok()?;
    let (now, depth) = (hub.clock().now(), depth(habit));
    let since = before(now, Duration::from_secs(u64::from(days) * 24 * 3600));
    Some((Due { since, asked_before: before(now, DAY), inside: depth.decrypts() }, depth))
}

fn depth(habit: &Habit) -> VerifyDepth {
    let word = habit.depth.as_ref().and_then(|json| serde_json::from_str::<Value>(json).ok());
    word.and_then(|word| word.as_str()?.parse().ok()).unwrap_or(VerifyDepth::Quick)
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// Makes one, unless others were faster or its worker has enough to do.
async fn add(hub: &Hub, due: &Due, wish: &Wish) -> Result<bool> {
    let mut tx = hub.db().begin().await?;
    let snapshot = match lock_readable(&mut tx, &Scope::All, &wish.snapshot_id).await {
        // Deleted, or its tenant disabled, since it was listed.
        Err(error) if !error.is_ours() => return Ok(false),
        snapshot => snapshot?,
    };
    // Hubs that do this at once count one after the other.
    tenants::hold(&mut tx, &snapshot.tenant_id).await?;
    let worker = snapshot.worker_id.as_ref();
    let (_, of_worker) = jobs::count_verifications(&mut tx, &snapshot.tenant_id, worker).await?;
    let now = hub.clock().now();
    if of_worker >= PER_WORKER
        || has_read_enough(hub, &mut tx, &snapshot, now).await?
        || !snapshots::ask_for_check(&mut tx, &snapshot.id, due.asked_before, now).await?
    {
        return Ok(false);
    }
    let job = scheduled(hub, &snapshot, wish);
    match jobs::insert(&mut tx, &job).await {
        Err(DbError::Duplicate) => return Ok(false),
        inserted => inserted?,
    }
    record_by_system(&mut tx, job_deed(&job, "job.enqueue"), now).await?;
    tx.commit().await.map_err(DbError::from)?;
    wake::push(hub, &job);
    Ok(true)
}

/// Whether as much was verified where a snapshot lies, within a day, as the settings allow.
async fn has_read_enough(
    hub: &Hub,
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    now: Timestamp,
) -> db::Result<bool> {
    let limit = hub.settings().verify_bytes_per_day;
    if limit == 0 {
        return Ok(false);
    }
    let place = (snapshot.worker_id.as_ref(), snapshot.store_id.as_ref());
    Ok(snapshots::bytes_asked_for(conn, place, before(now, DAY)).await? >= limit)
}
