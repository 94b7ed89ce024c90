//! Who looks, and where: a worker that reaches all that is looked into.

use sqlx::AnyConnection;
use xvault_core::WorkerId;

use super::Ask;
use crate::api::error::{Error, Result};
use crate::app::copies;
use crate::db::snapshots::Snapshot;
use crate::db::workers::{self, S3};

/// The snapshots as they are read by this worker.
pub(super) struct Placed {
    pub(super) worker: WorkerId,
    pub(super) snapshot: Snapshot,
    pub(super) other: Option<Snapshot>,
}

/// Finds the places that one worker reaches. 409 `no_copy`, `worker_offline`, `no_worker`, `different_workers`.
pub(super) async fn placed(
    conn: &mut AnyConnection,
    ask: &Ask,
    snapshot: Snapshot,
    other: Option<Snapshot>,
) -> Result<Placed> {
    let snapshot = copies::place(conn, snapshot, ask.from_store.as_ref()).await?;
    let Some(other) = other else {
        let worker = reader(conn, &[&snapshot]).await?;
        return Ok(Placed { worker, snapshot, other: None });
    };
    let other = copies::reachable(conn, other).await?;
    let (snapshot, other) = brought_together(conn, snapshot, other).await?;
    let worker = reader(conn, &[&snapshot, &other]).await?;
    Ok(Placed { worker, snapshot, other: Some(other) })
}

/// Of two on the disks of two workers, one is read from its copy.
async fn brought_together(
    conn: &mut AnyConnection,
    one: Snapshot,
    other: Snapshot,
) -> Result<(Snapshot, Snapshot)> {
    if one.worker_id.is_none() || other.worker_id.is_none() || one.worker_id == other.worker_id {
        return Ok((one, other));
    }
    if let Some(copy) = copies::copied(conn, &other).await? {
        return Ok((one, copy));
    }
    if let Some(copy) = copies::copied(conn, &one).await? {
        return Ok((copy, other));
    }
    let message = "the two snapshots lie on the disks of two workers, and neither can read the other's";
    Err(Error::conflict("different_workers", message))
}

/// The worker on whose disk they lie, or, for buckets alone, any that is there and reaches buckets.
async fn reader(conn: &mut AnyConnection, snapshots: &[&Snapshot]) -> Result<WorkerId> {
    let unfit = || Error::conflict("no_worker", "no worker is online that could read the snapshot");
    let capability = snapshots.iter().find_map(|snapshot| snapshot.capability());
    let Some(owner) = snapshots.iter().find_map(|snapshot| snapshot.worker_id.as_ref()) else {
        let free = workers::available(conn, capability.as_deref()).await?;
        return free.into_iter().next().map(|worker| worker.id).ok_or_else(unfit);
    };
    let found = workers::get(conn, owner).await.map_err(Error::of("worker"))?;
    if found.status == "offline" {
        let message = format!("worker {owner}, on whose disk the snapshot lies, is offline");
        return Err(Error::conflict("worker_offline", message));
    }
    if !found.is_capable(capability.as_deref()) {
        let message = format!(
            "worker {owner}, on whose disk one of the snapshots lies, does not say `{S3}`: it can't read the other"
        );
        return Err(Error::conflict("no_worker", message));
    }
    Ok(found.id)
}
