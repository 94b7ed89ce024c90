//! Looking into snapshots: a job that a person waits for, and that is gone once it was answered.
//!
//! The worker reads the index with the tenant's identity; hub and database see the page that was asked for, and keep it only
//! until it is handed on. Whoever stops waiting cancels the job.

mod check;
mod janitor;
mod place;
mod readable;
mod waiting;

pub(super) use check::{checked, payload};
pub(crate) use janitor::tidy;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Any, Transaction};
use xvault_core::protocol::{BrowseQuery, Browsed};
use xvault_core::{JobKind, SnapshotId, StoreId};

use super::commit;
use super::reading::{Reading, lock_readable, reading};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::again::again;
use crate::app::audit::{Deed, record};
use crate::app::wake;
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, jobs, jobs::JobRow, snapshots, tenants};
use place::{Placed, placed};
use waiting::Waiting;

/// Unfinished ones that a tenant may have: nobody's browsing keeps workers from everybody else's.
const MAX_UNFINISHED: i64 = 4;
/// When it is worth trying again, in seconds.
const RETRY_SECS: u64 = 1;
/// Somebody waits for it.
const PRIORITY: i64 = 10;

/// What somebody wants to see.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) snapshot_id: SnapshotId,
    /// For a difference, the later snapshot.
    pub(crate) other: Option<SnapshotId>,
    /// The store that the first is read from, of those in which it lies.
    pub(crate) from_store: Option<StoreId>,
    pub(crate) query: BrowseQuery,
}

/// What the job's row keeps of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) query: BrowseQuery,
    pub(super) other: Option<SnapshotId>,
    /// The store that the other is read from. None: its own place.
    #[serde(default)]
    pub(super) other_store: Option<StoreId>,
}

/// Has a worker look, and gives what it saw. 404 when a snapshot is not in `scope`, or is another tenant's than the first;
/// 409 `deleting`, `tenant_disabled`, `index_not_readable`, `no_copy`, `worker_offline`, `no_worker`, `different_workers`; 429 when the tenant has
/// too many under way; 502 `browse_failed`; 504 `browse_timeout`.
pub(crate) async fn browse(hub: &Hub, who: &Principal, scope: &Scope, ask: &Ask) -> Result<Browsed> {
    let job = again(|| add(hub, who, scope, ask)).await?;
    let waiting = Waiting::of(hub, &job);
    wake::push(hub, &job);
    waiting.answer().await
}

async fn add(hub: &Hub, who: &Principal, scope: &Scope, ask: &Ask) -> Result<JobRow> {
    let mut tx = hub.db().begin().await?;
    let (snapshot, other) = lock(&mut tx, scope, ask).await?;
    readable::check(&mut tx, &snapshot).await?;
    if let Some(other) = &other {
        readable::check(&mut tx, other).await?;
    }
    let Placed { worker, snapshot, other } = placed(&mut tx, ask, snapshot, other).await?;
    let payload = Payload {
        query: ask.query.clone(),
        other: ask.other.clone(),
        other_store: other.and_then(|other| other.store_id),
    };
    let new = Reading {
        kind: JobKind::Browse,
        snapshot_id: snapshot.id.clone(),
        payload: json!(payload),
        // It answers somebody who waits: it is not tried for minutes.
        max_attempts: 1,
    };
    let job = reading(hub, &snapshot, &new, Some(who.actor.id().to_owned()));
    let job = JobRow { target_worker_id: Some(worker), priority: PRIORITY, ..job };
    jobs::insert(&mut tx, &job).await?;
    admit(&mut tx, &job).await?;
    record(&mut tx, hub, who, deed(&job, ask)).await?;
    commit(tx).await?;
    Ok(job)
}

/// The snapshots, which nobody begins to delete before the transaction ends; in one order for everybody, so that none waits for
/// one who waits for it.
async fn lock(
    tx: &mut Transaction<'static, Any>,
    scope: &Scope,
    ask: &Ask,
) -> Result<(Snapshot, Option<Snapshot>)> {
    let Some(other) = &ask.other else {
        return Ok((lock_readable(tx, scope, &ask.snapshot_id).await?, None));
    };
    let first = snapshots::get(tx, scope, &ask.snapshot_id).await.map_err(Error::of("snapshot"))?;
    let own = Scope::Tenant(first.tenant_id.clone());
    let second = snapshots::get(tx, &own, other).await.map_err(Error::of("snapshot"))?;
    if second.source_id < first.source_id {
        lock_readable(tx, &own, &second.id).await?;
        return Ok((lock_readable(tx, &own, &first.id).await?, Some(second)));
    }
    let first = lock_readable(tx, &own, &first.id).await?;
    Ok((first, Some(lock_readable(tx, &own, &second.id).await?)))
}

/// 429 when the tenant has more unfinished ones than it may, with the one that `tx` adds.
async fn admit(tx: &mut Transaction<'static, Any>, job: &JobRow) -> Result<()> {
    tenants::hold(tx, &job.tenant_id).await?;
    if jobs::count_unfinished_browses(tx, &job.tenant_id).await? <= MAX_UNFINISHED {
        return Ok(());
    }
    let message = format!("{MAX_UNFINISHED} looks into snapshots are under way, and no tenant may have more");
    Err(Error::too_many(message, RETRY_SECS))
}

/// Names of files are not written down.
fn deed<'a>(job: &'a JobRow, ask: &'a Ask) -> Deed<'a> {
    let mut details = json!({ "job_id": job.id, "kind": json!(ask.query.what)["kind"] });
    if let Some(other) = &ask.other {
        details["other"] = json!(other);
    }
    Deed {
        action: "snapshot.browse",
        target_type: "snapshot",
        target_id: ask.snapshot_id.as_str(),
        tenant_id: Some(&job.tenant_id),
        details,
    }
}
