//! What jobs have to do with copies: the access to them, and what workers report.

use jiff::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::error::Disposition;
use xvault_core::job::JobError;
use xvault_core::protocol::{Complete, CopyAccess, Outcome, StoreAccess, Task, TaskResult};
use xvault_core::snapshot::Locator;
use xvault_core::{JobId, JobKind, SnapshotId, StoreId};

use super::access::{Purpose, access_for};
use super::assign::{Unmet, key};
use crate::api::error::{Error, Result};
use crate::db::jobs::{self, JobRow};
use crate::db::snapshot_copies::{self, Copy, CopyStatus, Place};
use crate::db::snapshots;
use crate::db::stores;
use crate::db::workers::Worker;
use crate::db::{Scope, copy_attempts};
use crate::{DbError, Hub};

/// A snapshot has one second store at a time: that many are never told in earnest.
const MAX_KEPT: usize = 64;

type Met<T> = std::result::Result<T, Unmet>;

/// What a job has to do with copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Those that it writes, or removes.
    pub(super) accesses: Vec<CopyAccess>,
    /// The stores of those that stay when their snapshot goes: nobody may delete there.
    pub(super) kept: Vec<StoreId>,
}

/// The stores besides the snapshot's own that a job writes a copy to, or removes copies from. As [`access_for`], no connection to
/// the database may be held.
pub(super) async fn of_job(hub: &Hub, worker: &Worker, job: &JobRow) -> Met<Copies> {
    let (stores, kept, purpose) = match job.kind {
        JobKind::Replicate => (job.store_id.iter().cloned().collect(), Vec::new(), Purpose::Write),
        JobKind::DeleteSnapshot => {
            let (gone, kept) = copied_to(hub, job).await?;
            (gone, kept, Purpose::Delete)
        }
        _ => return Ok(Copies::default()),
    };
    let prefix = key(job)?.prefix();
    let mut accesses = Vec::with_capacity(stores.len());
    for store_id in stores {
        let access = access_for(hub, worker, job, &store_id, &prefix, purpose).await?;
        accesses.push(CopyAccess { store_id, access });
    }
    Ok(Copies { accesses, kept })
}

/// The stores with copies that go with their snapshot, and those with copies that stay: that is on record from now on, whatever the
/// stores let do later, for no worker is told to delete there.
async fn copied_to(hub: &Hub, job: &JobRow) -> Met<(Vec<StoreId>, Vec<StoreId>)> {
    let id = job.snapshot_id.as_ref().ok_or(Unmet::Kind)?;
    let mut conn = hub.db().conn().await?;
    let copies = snapshot_copies::of(&mut conn, id).await?;
    let (kept, gone): (Vec<_>, Vec<_>) = copies.into_iter().partition(stays);
    let ids = |copies: Vec<Copy>| copies.into_iter().map(|copy| copy.store_id).collect::<Vec<_>>();
    let (gone, kept) = (ids(gone), ids(kept));
    snapshot_copies::keep(&mut conn, id, &kept, hub.clock().now()).await?;
    Ok((gone, kept))
}

/// Whether a copy outlives its snapshot, as far as is known.
fn stays(copy: &Copy) -> bool {
    copy.status == CopyStatus::Kept || copy.may_delete == Some(false)
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

/// The report, and the stores that it doubts: of a copy that a worker could not delete, it is believed that nobody can where a test has
/// seen that. Elsewhere the deletion has failed for now: a policy may be being changed, or a key have run out.
pub(super) async fn proven(hub: &Hub, id: &JobId, done: Complete) -> Result<(Complete, Vec<StoreId>)> {
    let Outcome::Completed { result: TaskResult::DeleteSnapshot { copies_kept } } = &done.outcome else {
        return Ok((done, Vec::new()));
    };
    let mut conn = hub.db().conn().await?;
    let job = jobs::get(&mut conn, &Scope::All, id).await.map_err(Error::of("job"))?;
    let Some(snapshot) = &job.snapshot_id else { return Ok((done, Vec::new())) };
    let mut doubted = snapshot_copies::of(&mut conn, snapshot).await?;
    doubted.retain(|copy| copies_kept.contains(&copy.store_id) && !stays(copy));
    let Some(first) = doubted.first() else { return Ok((done, Vec::new())) };
    let message = format!(
        "store {} refuses to delete the copy, and it is not known that its credential may not: the store is tested",
        first.store_id
    );
    let error = JobError { code: "copy_denied".to_owned(), message };
    let outcome = Outcome::Failed { error, disposition: Disposition::Transient };
    let stores = doubted.into_iter().map(|copy| copy.store_id).collect();
    Ok((Complete { lease_token: done.lease_token, outcome }, stores))
}

/// The copy is there, at a place that was checked, and locked or not. When its snapshot is being deleted, or is gone, it is one
/// that was kept.
pub(super) async fn store(
    conn: &mut AnyConnection,
    hub: &Hub,
    job: &JobRow,
    (locator, locked_until): (&Locator, Option<Timestamp>),
) -> Result<()> {
    let (Ok(key), Some(store_id), Locator::S3 { bucket, object_key, etag }) =
        (key(job), &job.store_id, locator)
    else {
        return Ok(());
    };
    let now = hub.clock().now();
    let place = Place { store_id, bucket, object_key, etag: etag.as_deref(), locked_until };
    snapshot_copies::insert(conn, &key, place, &job.id, now).await?;
    match snapshots::get(conn, &Scope::All, &key.snapshot_id).await {
        Ok(snapshot) if snapshot.deletion_began_at.is_none() => {
            copy_attempts::done(conn, &key.snapshot_id, store_id).await?;
            lock_with_copy(conn, &key.snapshot_id, store_id, locked_until).await
        }
        Ok(_) | Err(DbError::NotFound) => {
            Ok(snapshot_copies::keep(conn, &key.snapshot_id, std::slice::from_ref(store_id), now).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// What takes the copy with it waits for the copy's lock. A copy that stays in any case holds nothing up.
async fn lock_with_copy(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    store: &StoreId,
    until: Option<Timestamp>,
) -> Result<()> {
    let Some(until) = until else { return Ok(()) };
    let store = stores::get(conn, &Scope::All, store).await.map_err(Error::of("store"))?;
    match store.may_delete {
        Some(false) => Ok(()),
        _ => Ok(snapshots::lock_copy(conn, id, until).await?),
    }
}

/// The snapshot is gone, and its copies but for these, which only can be kept if they were there.
pub(super) async fn deleted(
    conn: &mut AnyConnection,
    hub: &Hub,
    id: &SnapshotId,
    kept: &[StoreId],
) -> Result<()> {
    let now = hub.clock().now();
    copy_attempts::deleted(conn, id, now).await?;
    Ok(snapshot_copies::settle(conn, id, kept, now).await?)
}
