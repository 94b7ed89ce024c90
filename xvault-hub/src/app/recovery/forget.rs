//! Records of what is lost: a snapshot that lies nowhere any more goes, and one with a copy lies where that is. And of what is
//! damaged where it lies, and sound elsewhere.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::job::{JobError, Life};
use xvault_core::protocol::VerifyDepth;
use xvault_core::snapshot::Locator;
use xvault_core::{JobKind, SnapshotId, StoreId};

use super::RecoveryError;
use super::listing::Place;
use super::stores::store_of;
use crate::app::audit::{Deed, record_by_system};
use crate::app::jobs::{off_the_disk, unchosen};
use crate::app::wake;
use crate::db::jobs::{self, JobRow};
use crate::db::snapshot_copies::{self, Copy, CopyStatus};
use crate::db::snapshots::{self, Snapshot};
use crate::db::workers::S3;
use crate::db::{Scope, copy_attempts, sources};
use crate::{Db, DbError};

/// Why a record goes, for the audit log.
const LOST: &str = "its bytes are gone";

/// What became of the record of a snapshot whose bytes are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// There was none.
    Nothing,
    /// It is gone, and so are the jobs that waited for it.
    Gone,
    /// It says from now on that the snapshot lies in this store, where its copy was.
    Moved(StoreId),
}

/// Where the bytes of a snapshot are gone, its record moves to a copy of it, with the jobs that wait for it; or else it goes. Audited.
///
/// # Errors
/// [`RecoveryError::Kept`] while a worker works on it, and for one without a copy that is held; or when the database refuses.
pub async fn forget_record(db: &Db, id: &SnapshotId) -> Result<Forgotten, RecoveryError> {
    let mut tx = db.begin().await?;
    let Some(snapshot) = locked(&mut tx, id).await? else { return Ok(Forgotten::Nothing) };
    let now = xvault_core::clock::now();
    let waiting = waiting(&mut tx, id).await?;
    let done = match copy(&mut tx, id).await? {
        Some(copy) => {
            move_to(&mut tx, &snapshot, &copy, (&waiting, LOST), now).await?;
            Forgotten::Moved(copy.store_id)
        }
        None => {
            refuse_held(&snapshot)?;
            for job in &waiting {
                call_off(&mut tx, job, now).await?;
            }
            copy_attempts::spare(&mut tx, id).await?;
            snapshots::delete(&mut tx, id).await?;
            let details = json!({ "source_id": snapshot.source_id, "why": LOST });
            note(&mut tx, "snapshot.forget_record", &snapshot, details, now).await?;
            Forgotten::Gone
        }
    };
    tx.commit().await.map_err(DbError::from)?;
    Ok(done)
}

/// A snapshot that is damaged at this place lies from now on in the store where a copy of it was verified and is sound, with the
/// jobs that wait for it. Gives that store. What is damaged stays where it is, on no record. Audited.
///
/// # Errors
/// [`RecoveryError::Kept`] where it does not lie at this place first of all, where nothing says that it is damaged there (`seen`: the
/// listing does), where no copy was verified as far as the damage was found by, and while a worker works on it; or when the
/// database refuses.
pub async fn move_damaged(
    db: &Db,
    id: &SnapshotId,
    place: &Place,
    seen: bool,
) -> Result<StoreId, RecoveryError> {
    let mut tx = db.begin().await?;
    let kept = |reason: &str| RecoveryError::Kept { id: id.clone(), reason: reason.to_owned() };
    let snapshot = locked(&mut tx, id).await?.ok_or_else(|| kept("there is none"))?;
    if !lies_at(&mut tx, &snapshot, place).await? {
        return Err(kept("it is on record as lying elsewhere first of all"));
    }
    let waiting = waiting(&mut tx, id).await?;
    let depth = match &snapshot.soundness.damage {
        Some(damage) => damage.depth,
        None if seen => VerifyDepth::Quick,
        None => return Err(kept("no verification has found it damaged: ask for one first")),
    };
    let copy = proven(&mut tx, id, depth).await?;
    let now = xvault_core::clock::now();
    move_to(&mut tx, &snapshot, &copy, (&waiting, "it is damaged there"), now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(copy.store_id)
}

/// Whether it is on record as lying at this place first of all.
async fn lies_at(
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    place: &Place,
) -> Result<bool, RecoveryError> {
    Ok(match (store_of(conn, place).await?, place, &snapshot.locator) {
        (Some(store), _, _) => snapshot.store_id.as_ref() == Some(&store.id),
        (None, Place::Directory { path, worker_id }, Locator::LocalFs { worker_id: owner, local_path }) => {
            let top = Path::new(path).join("tenants");
            Path::new(local_path).starts_with(top) && worker_id.as_ref().is_none_or(|named| named == owner)
        }
        _ => false,
    })
}

/// A copy that a verification has found sound, which went at least as far as that; rather one that can be deleted some day.
async fn proven(
    conn: &mut AnyConnection,
    id: &SnapshotId,
    depth: VerifyDepth,
) -> Result<Copy, RecoveryError> {
    let (mut copies, kept) =
        (copies(conn, id).await?, |reason| RecoveryError::Kept { id: id.clone(), reason });
    let Some(Copy { store_id, .. }) = copies.first() else {
        return Err(kept("it has no copy: restore from it what can be saved".to_owned()));
    };
    let reason = format!(
        "no copy of it was verified and is sound: ask for it first, POST /api/v1/snapshots/{id}/verify \
         {{\"depth\": \"{depth}\", \"from_store\": \"{store_id}\"}}"
    );
    copies.retain(|copy| copy.soundness.is_proven(depth));
    copies.into_iter().min_by_key(|copy| copy.may_delete == Some(false)).ok_or_else(|| kept(reason))
}

/// The record says from now on that the snapshot lies where its copy is.
async fn move_to(
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    copy: &Copy,
    (waiting, why): (&[JobRow], &str),
    now: Timestamp,
) -> Result<(), RecoveryError> {
    follow(conn, snapshot, copy, waiting, now).await?;
    snapshots::move_to(conn, copy, now).await?;
    let details = json!({ "source_id": snapshot.source_id, "store_id": copy.store_id, "why": why });
    note(conn, "snapshot.move_record", snapshot, details, now).await
}

/// The snapshot, which nobody begins to read or delete before the transaction ends.
async fn locked(conn: &mut AnyConnection, id: &SnapshotId) -> Result<Option<Snapshot>, DbError> {
    let get = async |conn: &mut AnyConnection| match snapshots::get(conn, &Scope::All, id).await {
        Err(DbError::NotFound) => Ok(None),
        found => found.map(Some),
    };
    let Some(seen) = get(conn).await? else { return Ok(None) };
    sources::lock_snapshots(conn, &seen.source_id).await?;
    get(conn).await
}

/// The jobs about it that no worker has.
async fn waiting(conn: &mut AnyConnection, id: &SnapshotId) -> Result<Vec<JobRow>, RecoveryError> {
    let unfinished = jobs::unfinished_about(conn, id).await?;
    match unfinished.iter().find(|job| job.life.lease().is_some()) {
        Some(job) => {
            let reason = format!("job {} works on it, or did until its lease ends", job.id);
            Err(RecoveryError::Kept { id: id.clone(), reason })
        }
        None => Ok(unfinished),
    }
}

fn refuse_held(snapshot: &Snapshot) -> Result<(), RecoveryError> {
    let Some(reason) = &snapshot.hold_reason else { return Ok(()) };
    let reason = format!("it is held ({reason}): release it first");
    Err(RecoveryError::Kept { id: snapshot.id.clone(), reason })
}

/// The oldest copy, and rather one that is not known to be damaged, and can be deleted some day.
async fn copy(conn: &mut AnyConnection, id: &SnapshotId) -> Result<Option<Copy>, DbError> {
    let copies = copies(conn, id).await?.into_iter();
    Ok(copies.min_by_key(|copy| (copy.soundness.damage.is_some(), copy.may_delete == Some(false))))
}

/// The oldest first.
async fn copies(conn: &mut AnyConnection, id: &SnapshotId) -> Result<Vec<Copy>, DbError> {
    let copies = snapshot_copies::of(conn, id).await?;
    Ok(copies.into_iter().filter(|copy| copy.status == CopyStatus::Copied).collect())
}

/// What was to be done where the snapshot lay is done where it lies now.
async fn follow(
    conn: &mut AnyConnection,
    before: &Snapshot,
    copy: &Copy,
    waiting: &[JobRow],
    now: Timestamp,
) -> Result<(), RecoveryError> {
    for job in waiting {
        if job.kind == JobKind::Replicate && job.store_id.as_ref() == Some(&copy.store_id) {
            call_off(conn, job, now).await?;
        } else if let Some(job) = moved(job, before, &copy.store_id) {
            save(conn, &wake::with_message_at(job, now), now).await?;
        }
    }
    Ok(())
}

/// The job as it reads the store where the snapshot lies now. None: it does not read what is lost.
fn moved(job: &JobRow, before: &Snapshot, store: &StoreId) -> Option<JobRow> {
    let (job, is_copying) = (job.clone(), job.kind == JobKind::Replicate);
    match &before.worker_id {
        _ if job.kind == JobKind::Backup => None,
        Some(owner) if job.target_worker_id.as_ref() != Some(owner) => None,
        Some(_) if is_copying => {
            Some(JobRow { target_worker_id: None, capability: Some(S3.to_owned()), ..job })
        }
        Some(_) => Some(off_the_disk(job, store.clone())),
        // Whoever chose the lost place is served from this one.
        None if !is_copying && job.store_id == before.store_id => {
            let payload = unchosen(job.payload);
            Some(JobRow { payload, store_id: Some(store.clone()), ..job })
        }
        None => None,
    }
}

async fn call_off(conn: &mut AnyConnection, job: &JobRow, now: Timestamp) -> Result<(), RecoveryError> {
    let Ok(canceled) = job.life.cancel() else { return Ok(()) };
    let message = "the bytes of the snapshot are lost".to_owned();
    let why = JobError { code: "snapshot_gone".to_owned(), message };
    save(conn, &job.with(Life { error: Some(why), ..canceled }, now), now).await
}

async fn save(conn: &mut AnyConnection, job: &JobRow, now: Timestamp) -> Result<(), RecoveryError> {
    if jobs::save(conn, job, now).await? {
        return Ok(());
    }
    let (id, reason) = (job.snapshot_id.clone(), format!("a worker has just taken job {}", job.id));
    Err(id.map_or(RecoveryError::Db(DbError::NotFound), |id| RecoveryError::Kept { id, reason }))
}

async fn note(
    conn: &mut AnyConnection,
    action: &str,
    snapshot: &Snapshot,
    details: Value,
    now: Timestamp,
) -> Result<(), RecoveryError> {
    let (target_type, target_id, tenant_id) = ("snapshot", snapshot.id.as_str(), Some(&snapshot.tenant_id));
    Ok(record_by_system(conn, Deed { action, target_type, target_id, tenant_id, details }, now).await?)
}

/// Takes away the record of a copy whose bytes are gone: the hub then has it made anew. Audited. False when there is none.
///
/// # Errors
/// When the database refuses, or a bucket is of no store that the hub knows.
pub async fn forget_copy(db: &Db, id: &SnapshotId, place: &Place) -> Result<bool, RecoveryError> {
    let mut tx = db.begin().await?;
    let Some(store) = store_of(&mut tx, place).await? else { return Ok(false) };
    let Some(tenant_id) = snapshot_copies::forget(&mut tx, id, &store.id).await? else { return Ok(false) };
    let deed = Deed {
        action: "snapshot.forget_copy",
        target_type: "snapshot",
        target_id: id.as_str(),
        tenant_id: Some(&tenant_id),
        details: json!({ "store_id": store.id, "why": "its bytes are gone" }),
    };
    record_by_system(&mut tx, deed, xvault_core::clock::now()).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(true)
}
