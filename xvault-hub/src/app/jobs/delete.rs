//! Snapshots that are to go: from the job that is made for one to the moment when its worker may begin, and how it is called
//! off before that.
//!
//! Whoever makes a deletion, or queues one again, holds the lock of the snapshot's source; within a transaction jobs are
//! written before snapshots. A snapshot that is held has no unfinished deletion. A job that reads a snapshot (a restore, a
//! verification) is made under that lock, too, and for none that is `deleting`: then no worker removes the bytes before
//! that job is finished.

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, AnyConnection, Transaction};
use xvault_core::job::{JobError, Life};
use xvault_core::{JobKind, JobStatus, SnapshotId};

use super::{ROUNDS, commit, contended};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::audit::{Deed, record};
use crate::app::{retention, wake};
use crate::db::snapshots::Snapshot;
use crate::db::{self, Scope, jobs, jobs::JobRow, snapshots, sources};
use crate::{DbError, Hub};

/// Bytes that are to go are to go: a deletion is tried until it is done, however long its worker is away or fails.
const ATTEMPTS: u32 = u32::MAX;

/// Why nothing is deleted in a store whose credential may not.
const STORE_KEEPS: &str = "the last test of the snapshot's store saw that its credential may not delete: give the store one that may, \
    or test it again";

/// The job that removes the bytes of a snapshot, where they lie. `created_by` is who asked for it; None: the hub itself.
pub(crate) fn deletion(snapshot: &Snapshot, created_by: Option<String>, now: Timestamp) -> JobRow {
    let (tenant_id, source_id) = (snapshot.tenant_id.clone(), snapshot.source_id.clone());
    JobRow {
        snapshot_id: Some(snapshot.id.clone()),
        target_worker_id: snapshot.worker_id.clone(),
        capability: snapshot.capability(),
        created_by,
        ..JobRow::new(JobKind::DeleteSnapshot, tenant_id, source_id, ATTEMPTS, now)
    }
}

/// Asks for a snapshot's deletion: the job that does it, which may be one that is there already. 404 when it is not in
/// `scope`; 409 `held`, `locked`, `store_keeps` or `tenant_disabled`.
pub(crate) async fn delete_snapshot(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SnapshotId,
) -> Result<JobRow> {
    for _ in 0..ROUNDS {
        let snapshot = deletable(hub, scope, id).await?;
        let mut tx = hub.db().begin().await?;
        sources::lock_snapshots(&mut tx, &snapshot.source_id).await?;
        let Some((job, new)) = deletion_of(&mut tx, hub, who, &snapshot).await? else {
            // Held, gone, or queued again by somebody: see above.
            tx.rollback().await.map_err(DbError::from)?;
            continue;
        };
        if new {
            // What retention wanted to go because this one stays may have to stay now.
            retention::spare(&mut tx, hub, &snapshot.source_id).await?;
        }
        note(&mut tx, hub, who, &job, id).await?;
        commit(tx).await?;
        if new {
            wake::push(hub, &job);
        }
        return Ok(job);
    }
    Err(contended())
}

async fn deletable(hub: &Hub, scope: &Scope, id: &SnapshotId) -> Result<Snapshot> {
    let mut conn = hub.db().conn().await?;
    let snapshot = snapshots::get(&mut conn, scope, id).await.map_err(Error::of("snapshot"))?;
    if snapshot.held_at.is_some() {
        return Err(held(&snapshot));
    }
    if let Some(until) = snapshot.locked_until.filter(|until| *until > hub.clock().now()) {
        return Err(locked(until));
    }
    if snapshots::store_keeps(&mut conn, id).await? {
        return Err(Error::conflict("store_keeps", STORE_KEEPS));
    }
    if snapshots::tenant_is_disabled(&mut conn, id).await? {
        return Err(Error::conflict("tenant_disabled", "the tenant is disabled: nothing of it is deleted"));
    }
    Ok(snapshot)
}

/// 409 `held`, with the reason.
pub(super) fn held(snapshot: &Snapshot) -> Error {
    let reason = snapshot.hold_reason.as_deref().unwrap_or_default();
    Error::conflict("held", format!("the snapshot is held ({reason}): release it first"))
        .details(json!({ "hold_reason": reason, "held_at": snapshot.held_at }))
}

/// 409 `locked`, with the end of the lock.
fn locked(until: Timestamp) -> Error {
    let message = format!("the snapshot is locked until {until}: its store lets nobody delete it before");
    Error::conflict("locked", message).details(json!({ "locked_until": until }))
}

/// The unfinished deletion of a snapshot, and whether it is new. None: things have changed.
async fn deletion_of(
    tx: &mut Transaction<'static, Any>,
    hub: &Hub,
    who: &Principal,
    snapshot: &Snapshot,
) -> Result<Option<(JobRow, bool)>> {
    let by = who.actor.id().to_owned();
    if let Some(job) = jobs::unfinished_deletion(tx, &snapshot.id).await? {
        jobs::adopt(tx, &job.id, &by).await?;
        return Ok(Some((job, false)));
    }
    let now = hub.clock().now();
    let job = wake::with_message(deletion(snapshot, Some(by), now), now);
    match jobs::insert(tx, &job).await {
        Err(DbError::Duplicate) => return Ok(None),
        inserted => inserted?,
    }
    Ok(snapshots::mark_deleting(tx, &snapshot.id, now).await?.then_some((job, true)))
}

async fn note(
    tx: &mut Transaction<'static, Any>,
    hub: &Hub,
    who: &Principal,
    job: &JobRow,
    id: &SnapshotId,
) -> Result<()> {
    let deed = Deed {
        action: "snapshot.delete",
        target_type: "snapshot",
        target_id: id.as_str(),
        tenant_id: Some(&job.tenant_id),
        details: json!({ "source_id": job.source_id, "job_id": job.id }),
    };
    Ok(record(tx, hub, who, deed).await?)
}

/// Queues a deletion anew that has begun and is not done. Nothing when somebody else sees to it.
pub(crate) async fn resume(hub: &Hub, id: &SnapshotId) -> db::Result<()> {
    let mut tx = hub.db().begin().await?;
    let snapshot = match snapshots::get(&mut tx, &Scope::All, id).await {
        Err(DbError::NotFound) => return Ok(()),
        snapshot => snapshot?,
    };
    sources::lock_snapshots(&mut tx, &snapshot.source_id).await?;
    let now = hub.clock().now();
    let job = wake::with_message_at(deletion(&snapshot, None, now), now);
    if jobs::unfinished_deletion(&mut tx, id).await?.is_some() {
        return Ok(());
    }
    match jobs::insert(&mut tx, &job).await {
        Err(DbError::Duplicate) => return Ok(()),
        inserted => inserted?,
    }
    if snapshots::mark_deleting(&mut tx, id, now).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// What belongs to a deletion that a person has queued again, in a transaction that has the source locked: it is theirs from now
/// on, its snapshot is marked, and what retention wanted to go because that one stays is called off. 409 `held`, or 404 when
/// it is gone.
pub(super) async fn taken_up(
    tx: &mut Transaction<'static, Any>,
    hub: &Hub,
    who: &Principal,
    job: &JobRow,
) -> Result<()> {
    let (Some(source), Some(snapshot)) = (&job.source_id, &job.snapshot_id) else { return Ok(()) };
    jobs::adopt(tx, &job.id, who.actor.id()).await?;
    if !snapshots::mark_deleting(tx, snapshot, hub.clock().now()).await? {
        let snapshot = snapshots::get(tx, &Scope::All, snapshot).await.map_err(Error::of("snapshot"))?;
        return Err(held(&snapshot));
    }
    Ok(retention::spare(tx, hub, source).await?)
}

/// What became of a deletion that a worker wants to begin.
pub(super) enum Begun {
    /// Its bytes may go; the job is saved.
    Yes,
    /// The job was changed by somebody else.
    Changed,
    /// It may not, for this reason: it was called off, or waits.
    No(String),
}

/// Gives the worker that claimed the deletion leave to begin, in the transaction that saves the claim.
pub(super) async fn begin(hub: &Hub, before: &JobRow, claimed: &JobRow, now: Timestamp) -> db::Result<Begun> {
    let Some(snapshot) = &before.snapshot_id else { return Ok(Begun::No("it names no snapshot".to_owned())) };
    let automated = before.created_by.is_none();
    let mut tx = hub.db().begin().await?;
    if !jobs::save(&mut tx, claimed, now).await? {
        return Ok(Begun::Changed);
    }
    if let Some(reader) = jobs::reader(&mut tx, snapshot).await? {
        // It stays queued: the reconciler sends its message again.
        return Ok(Begun::No(format!(
            "job {reader} reads the snapshot: its bytes stay until that is finished"
        )));
    }
    if snapshots::begin_deletion(&mut tx, snapshot, automated, now).await? {
        tx.commit().await?;
        return Ok(Begun::Yes);
    }
    tx.rollback().await?;
    let Some(why) = obstacle(&mut *hub.db().conn().await?, snapshot, automated, now).await? else {
        return Ok(Begun::Changed);
    };
    let mut tx = hub.db().begin().await?;
    if call_off(&mut tx, before, why.clone(), now).await? {
        tx.commit().await?;
        hub.metrics().finished(before.kind, JobStatus::Canceled, None);
    }
    tracing::warn!(job_id = %before.id, tenant_id = %before.tenant_id, code = why.code, "deletion called off");
    Ok(Begun::No(why.message))
}

/// Why the bytes of a snapshot may not go. None: nothing stands in the way any more.
async fn obstacle(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    automated: bool,
    now: Timestamp,
) -> db::Result<Option<JobError>> {
    let (code, message) = match snapshots::get(conn, &Scope::All, id).await {
        Err(DbError::NotFound) => ("snapshot_gone", "the snapshot is gone already".to_owned()),
        Err(error) => return Err(error),
        Ok(Snapshot { hold_reason: Some(reason), .. }) => ("held", format!("the snapshot is held: {reason}")),
        Ok(Snapshot { locked_until: Some(until), .. }) if until > now => {
            ("locked", format!("the snapshot is locked until {until}"))
        }
        Ok(_) if snapshots::store_keeps(conn, id).await? => ("store_keeps", STORE_KEEPS.to_owned()),
        Ok(_) if snapshots::tenant_is_disabled(conn, id).await? => {
            ("tenant_disabled", "the tenant is disabled: nothing of it is deleted".to_owned())
        }
        Ok(_) if automated => (
            "source_disabled",
            "the source or its schedule is disabled: retention deletes nothing of it".to_owned(),
        ),
        Ok(_) => return Ok(None),
    };
    Ok(Some(JobError { code: code.to_owned(), message }))
}

/// Ends a queued deletion, and takes the mark from its snapshot unless it has begun before. False when the job was changed
/// by somebody else.
pub(crate) async fn call_off(
    conn: &mut AnyConnection,
    job: &JobRow,
    why: JobError,
    now: Timestamp,
) -> db::Result<bool> {
    let Ok(canceled) = job.life.cancel() else { return Ok(false) };
    let life = Life { error: Some(why), ..canceled };
    if job.status() != JobStatus::Queued || !jobs::save(conn, &job.with(life, now), now).await? {
        return Ok(false);
    }
    if let Some(snapshot) = &job.snapshot_id {
        snapshots::unmark_deleting(conn, snapshot, now).await?;
    }
    Ok(true)
}
