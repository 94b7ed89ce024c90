//! From which of the places where it lies a snapshot is read.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::{StoreId, WorkerId};

use crate::api::error::{Error, Result};
use crate::db::snapshot_copies::{self, Copy, CopyStatus};
use crate::db::snapshots::Snapshot;
use crate::db::workers;

/// The snapshot as it lies in the store that was asked for, or else as it can be read now. 409 `no_copy` when it does not lie there.
pub(crate) async fn place(
    conn: &mut AnyConnection,
    snapshot: Snapshot,
    from: Option<&StoreId>,
) -> Result<Snapshot> {
    match from {
        Some(store) => in_store(conn, snapshot, store).await,
        None => reachable(conn, snapshot).await,
    }
}

/// As [`place`], for a worker that stands ready to read it: one that has it on its own disk, or that reaches a copy. 409 `not_here`
/// for another one, `no_copy`.
pub(crate) async fn place_for(
    conn: &mut AnyConnection,
    snapshot: Snapshot,
    from: Option<&StoreId>,
    reader: &WorkerId,
) -> Result<Snapshot> {
    if let Some(store) = from {
        return in_store(conn, snapshot, store).await;
    }
    let Some(owner) = snapshot.worker_id.clone().filter(|owner| owner != reader) else { return Ok(snapshot) };
    let text = || format!("the snapshot lies on the disk of worker {owner}: the link leads there");
    copied(conn, &snapshot).await?.ok_or_else(|| Error::conflict("not_here", text()))
}

/// The snapshot as it can be read now: while the worker on whose disk it lies is away, as it lies in a second store, if it does.
pub(crate) async fn reachable(conn: &mut AnyConnection, snapshot: Snapshot) -> Result<Snapshot> {
    if !is_out_of_reach(conn, &snapshot).await? {
        return Ok(snapshot);
    }
    Ok(copied(conn, &snapshot).await?.unwrap_or(snapshot))
}

/// The snapshot as it lies in a second store, rather in one where it is not known to be damaged. None: it has no copy.
pub(crate) async fn copied(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<Option<Snapshot>> {
    let copies = copies(conn, snapshot).await?.into_iter();
    let copy = copies.min_by_key(|copy| copy.soundness.damage.is_some());
    Ok(copy.map(|copy| read_from(copy, snapshot.clone())))
}

/// The second stores in which the snapshot is not known to be damaged.
pub(crate) async fn sound_stores(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<Vec<StoreId>> {
    let copies = copies(conn, snapshot).await?.into_iter();
    Ok(copies.filter(|copy| copy.soundness.damage.is_none()).map(|copy| copy.store_id).collect())
}

async fn in_store(conn: &mut AnyConnection, snapshot: Snapshot, store: &StoreId) -> Result<Snapshot> {
    if snapshot.store_id.as_ref() == Some(store) {
        return Ok(snapshot);
    }
    let copies = copies(conn, &snapshot).await?;
    let stores: Vec<_> =
        copies.iter().map(|copy| copy.store_id.clone()).chain(snapshot.store_id.clone()).collect();
    match copies.into_iter().find(|copy| copy.store_id == *store) {
        Some(copy) => Ok(read_from(copy, snapshot)),
        None => Err(Error::conflict("no_copy", format!("the snapshot does not lie in store {store}"))
            .details(json!({ "stores": stores }))),
    }
}

async fn copies(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<Vec<Copy>> {
    let copies = snapshot_copies::of(conn, &snapshot.id).await?;
    Ok(copies.into_iter().filter(|copy| copy.status == CopyStatus::Copied).collect())
}

fn read_from(Copy { store_id, locator, soundness, .. }: Copy, snapshot: Snapshot) -> Snapshot {
    Snapshot { worker_id: None, store_id: Some(store_id), locator, soundness, ..snapshot }
}

async fn is_out_of_reach(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<bool> {
    let Some(worker) = &snapshot.worker_id else { return Ok(false) };
    let worker = workers::get(conn, worker).await?;
    Ok(worker.status == "offline" || !worker.has_token)
}
