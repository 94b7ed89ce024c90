//! New verifications.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::protocol::VerifyDepth;
use xvault_core::{JobKind, SnapshotId, StoreId};

use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::again::again;
use crate::app::audit::record;
use crate::app::jobs::{FROM_STORE, Reading, chosen_store, job_deed, lock_readable, reading};
use crate::app::{copies, wake};
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, jobs, jobs::JobRow, tenant_keys};
use crate::{DbError, Hub};

/// Verifications that nobody waits for go after everything else.
const IN_THE_BACKGROUND: i64 = -1;

/// Which snapshot, and how far to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) snapshot_id: SnapshotId,
    pub(crate) depth: VerifyDepth,
    /// Of the places where it lies, the store to look into. None: the first place.
    pub(crate) from_store: Option<StoreId>,
}

/// Makes the job and wakes a worker for it, or gives the unfinished one that goes as far. 404 when the snapshot is not in
/// `scope`; 409 `deleting`, `tenant_disabled`, `no_identity`, `no_copy`, or `verify_running` when another one is under way that goes less far or
/// looks elsewhere.
pub(crate) async fn verify(hub: &Hub, who: &Principal, scope: &Scope, wish: &Wish) -> Result<JobRow> {
    let (job, new) = again(|| add(hub, who, scope, wish)).await?;
    if new {
        wake::push(hub, &job);
    }
    Ok(job)
}

async fn add(hub: &Hub, who: &Principal, scope: &Scope, wish: &Wish) -> Result<(JobRow, bool)> {
    let mut tx = hub.db().begin().await?;
    let snapshot = lock_readable(&mut tx, scope, &wish.snapshot_id).await?;
    check_identity(&mut tx, &snapshot, wish.depth).await?;
    let snapshot = match &wish.from_store {
        Some(store) => copies::place(&mut tx, snapshot, Some(store)).await?,
        None => snapshot,
    };
    if let Some(running) = jobs::unfinished_verification(&mut tx, &snapshot.id).await? {
        return Ok((as_far(running, wish)?, false));
    }
    let job = reading(hub, &snapshot, &wish.reading(hub), Some(who.actor.id().to_owned()));
    jobs::insert(&mut tx, &job).await?;
    record(&mut tx, hub, who, job_deed(&job, "job.enqueue")).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok((job, true))
}

/// The verification that the hub makes by itself, to be added in the transaction that has the snapshot locked.
pub(crate) fn scheduled(hub: &Hub, snapshot: &Snapshot, wish: &Wish) -> JobRow {
    JobRow { priority: IN_THE_BACKGROUND, ..reading(hub, snapshot, &wish.reading(hub), None) }
}

impl Wish {
    fn reading(&self, hub: &Hub) -> Reading {
        let mut payload = json!({ "depth": self.depth });
        if let Some(store) = &self.from_store {
            payload[FROM_STORE] = json!(store);
        }
        Reading {
            kind: JobKind::Verify,
            snapshot_id: self.snapshot_id.clone(),
            payload,
            max_attempts: hub.settings().max_attempts,
        }
    }
}

/// How far an existing job goes.
pub(crate) fn depth(job: &JobRow) -> Option<VerifyDepth> {
    job.payload.get("depth")?.as_str()?.parse().ok()
}

fn as_far(running: JobRow, wish: &Wish) -> Result<JobRow> {
    let as_far = depth(&running).is_some_and(|running| running >= wish.depth);
    let looks_there = chosen_store(&running) == wish.from_store;
    if as_far && looks_there {
        return Ok(running);
    }
    let what = if looks_there { "goes less far" } else { "looks at another of its places" };
    let message =
        format!("another verification of the snapshot is under way, which {what}: wait for it, or cancel it");
    Err(Error::conflict("verify_running", message).details(json!({ "job_id": running.id })))
}

/// A verification that is to be tried again is checked like a new one; nothing is said of other jobs.
pub(crate) async fn check_again(conn: &mut AnyConnection, snapshot: &Snapshot, job: &JobRow) -> Result<()> {
    let Some(depth) = depth(job).filter(|_| job.kind == JobKind::Verify) else { return Ok(()) };
    if let Some(store) = chosen_store(job) {
        copies::place(conn, snapshot.clone(), Some(&store)).await?;
    }
    check_identity(conn, snapshot, depth).await
}

/// 409 `no_identity` for a look into what only the tenant can open: its keys of today need not be those of the snapshot.
async fn check_identity(conn: &mut AnyConnection, snapshot: &Snapshot, depth: VerifyDepth) -> Result<()> {
    let Snapshot { id, tenant_id, encryption_recipient: recipient, .. } = snapshot;
    if !depth.decrypts() || tenant_keys::can_open(conn, tenant_id, recipient).await? {
        return Ok(());
    }
    let command = format!("xvault verify {id} --store STORE --identity FILE");
    let message = format!(
        "the snapshot is encrypted to a key of the tenant's own, {recipient}, so nobody here can look inside: verify quickly, or \
         with your key: {command}"
    );
    Err(Error::conflict("no_identity", message).details(json!({ "command": command })))
}
