//! Which worker a restore can be done by, and what becomes of one whose worker is gone.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::StoreId;

use super::{RestoreOrder, chosen_store};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::app::{copies, wake};
use crate::db::snapshots::Snapshot;
use crate::db::workers::{self, S3};
use crate::db::{Scope, jobs, jobs::JobRow, snapshots};

/// What a worker must be able to that has these tools and reaches the place, in the form of a job's row.
pub(super) fn capability(tools: Option<&str>, place: Option<&str>) -> Option<String> {
    match (tools, place) {
        (Some(tools), Some(place)) => Some(format!("{tools}+{place}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

/// The snapshot as a worker with these tools can read it: when the one on whose disk it lies has none, as it lies in a second
/// store. 409 `no_tools` when it does not.
pub(super) async fn able(conn: &mut AnyConnection, snapshot: Snapshot, tools: &str) -> Result<Snapshot> {
    let Some(owner) = &snapshot.worker_id else { return Ok(snapshot) };
    if workers::get(conn, owner).await?.is_capable(Some(tools)) {
        return Ok(snapshot);
    }
    if let Some(copy) = copies::copied(conn, &snapshot).await? {
        return Ok(copy);
    }
    let text = format!(
        "worker {owner}, on whose disk the snapshot lies, has no tools for `{tools}`: install them there and start it anew, or give \
         the source a second store, from which any worker can read"
    );
    Err(Error::conflict("no_tools", text).details(json!({ "worker_id": owner, "capability": tools })))
}

/// A sentence about the worker that the job waits for, when it is away.
pub(super) async fn waits_for(hub: &Hub, job: &JobRow) -> Result<Option<String>> {
    let mut conn = hub.db().conn().await?;
    let Some(id) = &job.target_worker_id else {
        let able = workers::available(&mut conn, job.capability.as_deref()).await?;
        let needed = job.capability.as_deref().unwrap_or_default();
        let text =
            || format!("no worker is online that can do it (it needs {needed}): the job waits for one");
        return Ok(able.is_empty().then(text));
    };
    let worker = workers::get(&mut conn, id).await.map_err(Error::of("worker"))?;
    let text = || format!("worker {id}, on whose disk the snapshot lies, is offline: the job waits for it");
    Ok((worker.status == "offline").then(text))
}

/// Has restores that wait for a worker that is gone read a copy instead, where there is one, so that any worker does them. At most
/// `limit`; gives how many.
pub(crate) async fn reroute(hub: &Hub, limit: u32) -> Result<u32> {
    let waiting = jobs::restores_of_gone_workers(&mut *hub.db().conn().await?, limit).await?;
    let mut moved = 0;
    for job in waiting {
        if let Some(job) = moved_to_copy(hub, job).await? {
            tracing::info!(job_id = %job.id, tenant_id = %job.tenant_id, "a restore reads a copy: the worker that has the snapshot is gone");
            wake::push(hub, &job);
            moved += 1;
        }
    }
    Ok(moved)
}

/// A job that was to read a worker's disk, as it reads a store: any worker that has the tools for it may have it.
pub(crate) fn off_the_disk(job: JobRow, store: StoreId) -> JobRow {
    let needs_tools = RestoreOrder::of(&job).is_some_and(|order| order.is_delivered());
    let tools = job.capability.as_deref().filter(|_| needs_tools);
    JobRow { target_worker_id: None, capability: capability(tools, Some(S3)), store_id: Some(store), ..job }
}

/// None: it can't be moved, or was changed meanwhile.
async fn moved_to_copy(hub: &Hub, job: JobRow) -> Result<Option<JobRow>> {
    let (Some(id), None) = (&job.snapshot_id, chosen_store(&job)) else {
        return Ok(None);
    };
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    let snapshot = snapshots::get(&mut tx, &Scope::All, id).await.map_err(Error::of("snapshot"))?;
    let copy = copies::reachable(&mut tx, snapshot).await?;
    let (None, Some(store)) = (copy.worker_id, copy.store_id) else { return Ok(None) };
    let moved = wake::with_message(off_the_disk(job, store), now);
    let is_moved = jobs::save(&mut tx, &moved, now).await?;
    super::commit(tx).await?;
    Ok(is_moved.then_some(moved))
}
