//! What jobs have to do with copies: the access to them, and what workers report.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::protocol::{CopyAccess, StoreAccess, Task};
use xvault_core::snapshot::Locator;
use xvault_core::{JobKind, SnapshotId, StoreId};

use super::access::{Purpose, access_for};
use super::assign::{Unmet, key};
use crate::api::error::{Error, Result};
use crate::db::Scope;
use crate::db::jobs::JobRow;
use crate::db::snapshot_copies::{self, CopyStatus, Place};
use crate::db::snapshots::{self, SnapshotStatus};
use crate::db::workers::Worker;
use crate::{DbError, Hub};

/// A snapshot has one second store at a time: that many are never told in earnest.
const MAX_KEPT: usize = 64;

type Met<T> = std::result::Result<T, Unmet>;

/// The stores besides the snapshot's own that a job writes a copy to, or removes copies from. As [`access_for`], no connection to
/// the database may be held.
pub(super) async fn accesses(hub: &Hub, worker: &Worker, job: &JobRow) -> Met<Vec<CopyAccess>> {
    let (stores, purpose) = match job.kind {
        JobKind::Replicate => (job.store_id.iter().cloned().collect(), Purpose::Write),
        JobKind::DeleteSnapshot => (copied_to(hub, job).await?, Purpose::Delete),
        _ => return Ok(Vec::new()),
    };
    let prefix = key(job)?.prefix();
    let mut accesses = Vec::with_capacity(stores.len());
    for store_id in stores {
        let access = access_for(hub, worker, job, &store_id, &prefix, purpose).await?;
        accesses.push(CopyAccess { store_id, access });
    }
    Ok(accesses)
}

async fn copied_to(hub: &Hub, job: &JobRow) -> Met<Vec<StoreId>> {
    let id = job.snapshot_id.as_ref().ok_or(Unmet::Kind)?;
    let copies = snapshot_copies::of(&mut *hub.db().conn().await?, id).await?;
    Ok(copies
        .into_iter()
        .filter(|copy| copy.status == CopyStatus::Copied)
        .map(|copy| copy.store_id)
        .collect())
}

pub(super) fn task(job: &JobRow, from: StoreAccess, to: Vec<CopyAccess>) -> Met<Task> {
    let to = to.into_iter().next().ok_or(Unmet::NoStore)?.access;
    Ok(Task::Replicate { snapshot: key(job)?, from, to })
}

/// Stores whose copies were kept, as a job tells it.
pub(super) fn kept(stores: &[StoreId]) -> Result<serde_json::Value> {
    if stores.len() > MAX_KEPT {
        return Err(Error::invalid_field("outcome.result.copies_kept", "they are too many"));
    }
    Ok(json!({ "copies_kept": stores }))
}

/// The copy is there, at a place that was checked. When its snapshot is being deleted, or is gone, it is one that was kept.
pub(super) async fn store(
    conn: &mut AnyConnection,
    hub: &Hub,
    job: &JobRow,
    locator: &Locator,
) -> Result<()> {
    let (Ok(key), Some(store_id), Locator::S3 { bucket, object_key, etag }) =
        (key(job), &job.store_id, locator)
    else {
        return Ok(());
    };
    let (place, now) = (Place { store_id, bucket, object_key, etag: etag.as_deref() }, hub.clock().now());
    snapshot_copies::insert(conn, &key, place, &job.id, now).await?;
    match snapshots::get(conn, &Scope::All, &key.snapshot_id).await {
        Ok(snapshot) if snapshot.status != SnapshotStatus::Deleting => Ok(()),
        Ok(_) | Err(DbError::NotFound) => {
            Ok(snapshot_copies::keep(conn, &key.snapshot_id, std::slice::from_ref(store_id), now).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The snapshot is gone, and its copies but for these, which only can be kept if they were there.
pub(super) async fn deleted(
    conn: &mut AnyConnection,
    hub: &Hub,
    id: &SnapshotId,
    kept: &[StoreId],
) -> Result<()> {
    Ok(snapshot_copies::settle(conn, id, kept, hub.clock().now()).await?)
}
