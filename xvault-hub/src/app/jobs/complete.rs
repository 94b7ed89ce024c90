//! A worker is done with a job: what it says is checked against what it was told, and stored with the job's new state.

use std::panic::resume_unwind;

use jiff::Timestamp;
use sqlx::{Any, AnyConnection, Transaction};
use tracing::Instrument as _;
use xvault_core::job::{JobError, Life, State};
use xvault_core::protocol::{Complete, CompleteAnswer, JOB_FINISHED, LEASE_LOST, Outcome, TaskResult};
use xvault_core::snapshot::{FORMAT_VERSION, Locator};
use xvault_core::{Disposition, JobId, JobKind, JobStatus, Manifest, SnapshotKey, WorkerId};

use super::report::held;
use super::{browse, change, cleaned, commit, copies, test_seconds_soon};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::app::stores::server;
use crate::app::{downloads, retention, verify, wake};
use crate::db::stores::Store;
use crate::db::{Scope, jobs, jobs::JobRow, snapshots, store_attempts, stores};

/// The longest error message that is kept, in bytes.
pub(super) const MAX_ERROR_MESSAGE: usize = 4096;
/// The longest error code, in bytes.
const MAX_ERROR_CODE: usize = 64;
/// The longest probe report that is kept, in bytes.
const MAX_REPORT: usize = 64 << 10;
/// The longest text in a locator or manifest that becomes a column, in bytes.
const MAX_TEXT: usize = 4096;

/// Takes note of how an attempt ended. A report that was taken before is answered again: its answer may have been lost.
///
/// Once begun it goes on to its end, also when nobody waits for the answer any more: a request that is given up in the
/// middle of a commit would leave it to chance whether the snapshot is on record.
pub(crate) async fn complete(
    hub: &Hub,
    worker: &WorkerId,
    id: &JobId,
    done: Complete,
) -> Result<CompleteAnswer> {
    let (hub, worker, id) = (hub.clone(), worker.clone(), id.clone());
    let taking = async move { take(&hub, &worker, &id, done).await };
    match tokio::spawn(taking.in_current_span()).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(taken) => taken,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(stopped)) => Err(Error::internal(&stopped)),
    }
}

async fn take(hub: &Hub, worker: &WorkerId, id: &JobId, done: Complete) -> Result<CompleteAnswer> {
    let (done, doubted) = copies::proven(hub, id, done).await?;
    let done = Complete { outcome: judged(hub, id, done.outcome).await?, ..done };
    let decide = |job: &JobRow, now| decide(job, now, worker, &done);
    let (mut tx, job) = match change(hub, &Scope::All, id, decide).await {
        Err(error) if error.is(LEASE_LOST) || error.is(JOB_FINISHED) => {
            return repeated(hub, id, &done).await?.ok_or(error);
        }
        changed => changed?,
    };
    if let Outcome::Completed { result } = &done.outcome {
        store(hub, &mut tx, &job, result).await?;
    }
    for store in &doubted {
        stores::doubt(&mut tx, store, hub.clock().now()).await?;
    }
    commit(tx).await?;
    note(hub, &job, &done.outcome);
    if !doubted.is_empty() {
        test_seconds_soon(hub);
    }
    if let Outcome::Completed { result } = &done.outcome {
        verify::tell(hub, &job, result).await;
    }
    if let (JobStatus::Completed, JobKind::Backup, Some(source)) = (job.status(), job.kind, &job.source_id) {
        retention::after_backup(hub, source);
        crate::app::copies::after_backup(hub, job.snapshot_id.as_ref());
    }
    if job.enqueue_count == 1 && matches!(job.life.state, State::Queued { .. }) {
        wake::push(hub, &job);
    }
    Ok(CompleteAnswer { status: job.status() })
}

/// A failure as it counts, and as everybody may read it who sees the job: what a store's server said.
async fn judged(hub: &Hub, id: &JobId, outcome: Outcome) -> Result<Outcome> {
    let Outcome::Failed { error, disposition } = outcome else { return Ok(outcome) };
    if !is_of_a_store(&error.code) {
        return Ok(Outcome::Failed { error, disposition });
    }
    let mut conn = hub.db().conn().await?;
    let job = jobs::get(&mut conn, &Scope::All, id).await.map_err(Error::of("job"))?;
    let stores = stores::of_job(&mut conn, &job).await?;
    let disposition = match disposition {
        Disposition::Permanent if outlived(&job, &stores, hub.clock().now()) => Disposition::Transient,
        disposition => disposition,
    };
    let message = unaddressed(error.message, &stores);
    Ok(Outcome::Failed { error: JobError { message, ..error }, disposition })
}

/// As workers call it.
fn is_of_a_store(code: &str) -> bool {
    code.starts_with("store") || code == "read_back_mismatch"
}

/// Whether the attempt took longer than the credentials are good that it was given: then it failed because of that, whatever the
/// server calls it, and the next one gets others.
fn outlived(job: &JobRow, stores: &[Store], now: Timestamp) -> bool {
    let shortest = stores.iter().filter_map(|store| Some(store.scoping.as_ref()?.lifetime())).min();
    job.started_at.zip(shortest).is_some_and(|(began, span)| now.duration_since(began) >= span)
}

/// Without the addresses of the platform's stores, which are none of a tenant's business.
pub(super) fn unaddressed(message: String, stores: &[Store]) -> String {
    let platforms = stores.iter().filter(|store| store.tenant_id.is_none());
    platforms.fold(message, |text, store| text.replace(&server(&store.settings), "the store"))
}

/// The answer to a report that ended the job's last finished attempt, if this is one.
async fn repeated(hub: &Hub, id: &JobId, done: &Complete) -> Result<Option<CompleteAnswer>> {
    let job = jobs::get(&mut *hub.db().conn().await?, &Scope::All, id).await.map_err(Error::of("job"))?;
    let same = job.done_token.as_ref() == Some(&done.lease_token);
    Ok(same.then(|| CompleteAnswer { status: job.status() }))
}

fn decide(job: &JobRow, now: Timestamp, worker: &WorkerId, done: &Complete) -> Result<JobRow> {
    held(job, worker)?;
    let token = &done.lease_token;
    let (life, result): (Life, _) = match &done.outcome {
        Outcome::Completed { result } => {
            let life = job.life.complete(token)?;
            (life, checked(job, worker, result)?)
        }
        Outcome::Failed { error, disposition } => {
            (job.life.fail(token, now, clean(error), *disposition)?, None)
        }
        Outcome::Released { .. } => (job.life.release(token, now)?, None),
    };
    let after = JobRow { done_token: Some(token.clone()), result, ..job.with(life, now) };
    Ok(requeued(after, now))
}

/// When the next message about a job is due, if it is queued again: now, or when its pause ends.
pub(super) fn requeued(job: JobRow, now: Timestamp) -> JobRow {
    match job.life.state {
        State::Queued { not_before } if not_before > now => wake::with_message_at(job, not_before),
        State::Queued { .. } => wake::with_message(job, now),
        _ => job,
    }
}

fn clean(error: &JobError) -> JobError {
    let code = cleaned(&error.code, MAX_ERROR_CODE);
    let code = if code.is_empty() { "unknown".to_owned() } else { code };
    JobError { code, message: cleaned(&error.message, MAX_ERROR_MESSAGE) }
}

/// Checks a result against the job; gives what is to be kept in the job's row.
fn checked(job: &JobRow, worker: &WorkerId, result: &TaskResult) -> Result<Option<serde_json::Value>> {
    match (job.kind, result) {
        (JobKind::Backup, TaskResult::Backup { manifest, locator, .. }) => {
            check_manifest(job, worker, manifest)?;
            check_locator(job, worker, locator)?;
            Ok(None)
        }
        (JobKind::DeleteSnapshot, TaskResult::DeleteSnapshot { copies_kept }) if copies_kept.is_empty() => {
            Ok(None)
        }
        (JobKind::DeleteSnapshot, TaskResult::DeleteSnapshot { copies_kept }) => {
            copies::kept(copies_kept).map(Some)
        }
        (JobKind::Replicate, TaskResult::Replicate { locator, bytes, .. }) => {
            check_locator(job, worker, locator)?;
            Ok(Some(serde_json::json!({ "store_id": job.store_id, "bytes": bytes })))
        }
        (JobKind::Probe, TaskResult::Probe { probe }) => {
            let report = serde_json::to_value(probe).map_err(|error| Error::internal(&error))?;
            if report.to_string().len() > MAX_REPORT {
                return Err(Error::invalid_field("outcome.result.probe", "the report is too long"));
            }
            Ok(Some(report))
        }
        (JobKind::Verify, TaskResult::Verify { depth, finding }) => {
            verify::checked(job, *depth, finding).map(Some)
        }
        (JobKind::Restore, TaskResult::Restore { report }) => {
            Ok(Some(serde_json::to_value(report).map_err(|error| Error::internal(&error))?))
        }
        (JobKind::TestStore, TaskResult::TestStore { report }) => {
            super::stores::checked_report(report).map(Some)
        }
        (JobKind::SweepStore, TaskResult::SweepStore { .. }) => Ok(None),
        (JobKind::Browse, TaskResult::Browse { found }) => browse::checked(job, found).map(Some),
        _ => Err(Error::invalid_field("outcome.result.type", format!("the job is of type {}", job.kind))),
    }
}

/// Every id of the manifest must be that of the assignment.
fn check_manifest(job: &JobRow, worker: &WorkerId, manifest: &Manifest) -> Result<()> {
    let foreign = |field: &str| {
        let field = format!("outcome.result.manifest.{field}");
        Err(Error::invalid_field(&field, "it is not that of the assignment"))
    };
    if manifest.tenant_id != job.tenant_id {
        return foreign("tenant_id");
    }
    if Some(&manifest.source_id) != job.source_id.as_ref() {
        return foreign("source_id");
    }
    if Some(&manifest.snapshot_id) != job.snapshot_id.as_ref() {
        return foreign("snapshot_id");
    }
    if manifest.job_id != job.id {
        return foreign("job_id");
    }
    if manifest.worker_id != *worker {
        return foreign("worker_id");
    }
    if manifest.format_version != FORMAT_VERSION {
        return foreign("format_version");
    }
    storable("manifest.encryption_algorithm", &manifest.encryption_algorithm)?;
    storable("manifest.encryption_key_id", &manifest.encryption_key_id)
}

/// It must be of the kind that the assignment asked for; [`check_place`] looks where in a store it is.
fn check_locator(job: &JobRow, worker: &WorkerId, locator: &Locator) -> Result<()> {
    if job.store_id.is_some() != matches!(locator, Locator::S3 { .. }) {
        let message = "it is not in the store of the assignment";
        return Err(Error::invalid_field("outcome.result.locator.storage_backend", message));
    }
    match locator {
        Locator::LocalFs { worker_id, .. } if worker_id != worker => {
            Err(Error::invalid_field("outcome.result.locator.worker_id", "it is another worker's"))
        }
        Locator::LocalFs { local_path, .. } if !local_path.starts_with('/') => {
            Err(Error::invalid_field("outcome.result.locator.local_path", "it is not absolute"))
        }
        Locator::LocalFs { local_path, .. } => storable("locator.local_path", local_path),
        Locator::S3 { bucket, object_key, etag } => {
            storable("locator.bucket", bucket)?;
            storable("locator.object_key", object_key)?;
            storable("locator.etag", etag.as_deref().unwrap_or_default())
        }
        _ => Err(Error::invalid_field("outcome.result.locator", "it is of an unknown kind")),
    }
}

/// It must be where the store of the assignment keeps that snapshot.
async fn check_place(conn: &mut AnyConnection, job: &JobRow, locator: &Locator) -> Result<()> {
    let (Some(id), Some(source), Some(snapshot)) = (&job.store_id, &job.source_id, &job.snapshot_id) else {
        return Ok(());
    };
    let Locator::S3 { bucket, object_key, .. } = locator else { return Ok(()) };
    let store = stores::get(conn, &Scope::All, id).await.map_err(Error::of("store"))?;
    let place = store.place(&job.tenant_id);
    let key = SnapshotKey {
        tenant_id: job.tenant_id.clone(),
        source_id: source.clone(),
        snapshot_id: snapshot.clone(),
    };
    let foreign = |field: &str| Error::invalid_field(field, "it is not that of the assignment");
    if *bucket != place.bucket {
        return Err(foreign("outcome.result.locator.bucket"));
    }
    if *object_key != place.object_key(&key.prefix()) {
        return Err(foreign("outcome.result.locator.object_key"));
    }
    Ok(())
}

/// A worker must have locked what it wrote just as it was told: one that is too old to know of locks has not. A copy that was there
/// may be locked for longer.
async fn check_lock(conn: &mut AnyConnection, job: &JobRow, locked_until: Option<Timestamp>) -> Result<()> {
    let told = jobs::lock_until(conn, &job.id).await?;
    if told == locked_until || (job.kind == JobKind::Replicate && told.is_some() && locked_until > told) {
        return Ok(());
    }
    let message = "it is not that of the assignment: is the worker too old to lock what it writes?";
    Err(Error::invalid_field("outcome.result.locked_until", message))
}

/// PostgreSQL keeps no NUL in text.
fn storable(field: &str, text: &str) -> Result<()> {
    if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Error::invalid_field(&format!("outcome.result.{field}"), "it is too long or not printable"))
    }
}

/// What a result changes besides the job, in the transaction of its completion.
async fn store(
    hub: &Hub,
    tx: &mut Transaction<'static, Any>,
    job: &JobRow,
    result: &TaskResult,
) -> Result<()> {
    match (result, &job.snapshot_id) {
        (TaskResult::Backup { manifest, locator, locked_until }, _) => {
            check_place(tx, job, locator).await?;
            check_lock(tx, job, *locked_until).await?;
            store_attempts::delete(tx, &manifest.snapshot_id).await?;
            let lies = (locator, job.store_id.as_ref());
            snapshots::insert(tx, manifest, lies, hub.clock().now()).await?;
            if let Some(until) = locked_until {
                snapshots::lock_place(tx, &manifest.snapshot_id, *until).await?;
            }
            Ok(())
        }
        (TaskResult::TestStore { report }, _) => super::stores::tested(hub, tx, job, report).await,
        (TaskResult::SweepStore { report }, _) => super::stores::swept(hub, tx, job, report).await,
        (TaskResult::DeleteSnapshot { copies_kept }, Some(snapshot)) => {
            copies::deleted(tx, hub, snapshot, copies_kept).await?;
            Ok(snapshots::delete(tx, snapshot).await?)
        }
        (TaskResult::Replicate { locator, locked_until, .. }, Some(_)) => {
            check_place(tx, job, locator).await?;
            check_lock(tx, job, *locked_until).await?;
            copies::store(tx, hub, job, (locator, *locked_until)).await
        }
        (TaskResult::Verify { depth, finding }, Some(snapshot)) => {
            Ok(verify::settle(hub, tx, job, snapshot, (*depth, finding)).await?)
        }
        (TaskResult::Restore { .. }, _) => downloads::prepared(hub, tx, job).await,
        _ => Ok(()),
    }
}

/// Tells and counts how an attempt ended.
pub(super) fn note(hub: &Hub, job: &JobRow, outcome: &Outcome) {
    tell(job, outcome);
    count(hub, job, outcome);
}

fn count(hub: &Hub, job: &JobRow, outcome: &Outcome) {
    if !job.status().is_finished() {
        return;
    }
    let ran = job.started_at.map(|started| hub.clock().now().duration_since(started).unsigned_abs());
    hub.metrics().finished(job.kind, job.status(), ran);
    if let Outcome::Completed { result: TaskResult::Backup { manifest, .. } } = outcome {
        hub.metrics().stored(manifest.size_bytes);
    }
}

fn tell(job: &JobRow, outcome: &Outcome) {
    let (id, tenant, kind, status) = (&job.id, &job.tenant_id, job.kind, job.status());
    let worker = job.worker_id.as_ref().map(WorkerId::as_str).unwrap_or_default();
    match outcome {
        Outcome::Completed { .. } => {
            tracing::info!(job_id = %id, tenant_id = %tenant, worker_id = worker, %kind, "job completed");
        }
        Outcome::Failed { .. } => {
            let code = job.life.error.as_ref().map(|error| error.code.as_str()).unwrap_or_default();
            tracing::warn!(job_id = %id, tenant_id = %tenant, worker_id = worker, %kind, %status, code, "attempt failed");
        }
        Outcome::Released { reason } => {
            let reason = cleaned(reason, MAX_ERROR_MESSAGE);
            tracing::info!(job_id = %id, tenant_id = %tenant, worker_id = worker, %kind, reason, "job handed back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use xvault_core::job::JobError;
    use xvault_core::protocol::{Complete, Outcome};
    use xvault_core::{Disposition, JobStatus};

    use crate::app::bench::{Bench, on_both_engines};
    use crate::app::jobs::{NewJob, enqueue};
    use crate::db::{Scope, jobs};

    const SESSION: u64 = 900;

    async fn set(bench: &Bench, sql: &'static str) {
        sqlx::query(sql).execute(&mut *bench.hub.db().conn().await.unwrap()).await.unwrap();
    }

    /// What becomes of a backup into a store whose sessions take [`SESSION`] when its attempt fails after so many seconds.
    async fn fails(bench: &Bench, after: u64, code: &str) -> JobStatus {
        let worker = bench.worker_for("worker-1", &["sftp", "s3"]).await;
        let source = bench.source().await;
        set(bench, "UPDATE sources SET store_id = (SELECT id FROM stores)").await;
        let id = enqueue(&bench.hub, &bench.who, &Scope::All, NewJob::Backup(source)).await.unwrap().id;
        // The bench has no service to ask: the store gets one once the job is given away.
        set(bench, "UPDATE stores SET scoping = NULL").await;
        let job = bench.claim(&worker, Some(id.clone())).await.unwrap();
        set(
            bench,
            r#"UPDATE stores SET scoping = '{"kind": "sts", "role_arn": "arn:aws:iam::1:role/x", "session_seconds": 900}'"#,
        )
        .await;
        bench.hub.clock().advance(Duration::from_secs(after));
        let error = JobError { code: code.to_owned(), message: "s3.example says ExpiredToken".to_owned() };
        let outcome = Outcome::Failed { error, disposition: Disposition::Permanent };
        let said = Complete { lease_token: job.lease_token.clone(), outcome };
        super::complete(&bench.hub, &worker, &id, said).await.unwrap();
        jobs::get(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, &id).await.unwrap().status()
    }

    async fn an_attempt_that_outlives_its_credentials_is_not_the_last(bench: Bench) {
        bench.store("bucket").await;
        for (after, code, status) in [
            (SESSION - 1, "store_denied", JobStatus::Failed),
            (SESSION, "store_denied", JobStatus::Queued),
            (SESSION, "store", JobStatus::Queued),
            (SESSION, "read_back_mismatch", JobStatus::Queued),
            (SESSION, "auth_failed", JobStatus::Failed),
        ] {
            assert_eq!(fails(&bench, after, code).await, status, "{code} after {after} s");
        }
    }

    /// As when the request's time is up, or its line breaks, before the database has done anything.
    async fn a_report_is_taken_although_nobody_waits_for_it(bench: Bench) {
        let (worker, id) = (bench.worker("worker-1").await, bench.backup().await);
        let job = bench.claim(&worker, Some(id.clone())).await.unwrap();
        assert_eq!(bench.complete(&worker, &job).now_or_never(), None);
        let mut rounds = 0..400;
        while bench.snapshots().await.get(&id) != Some(&1) {
            rounds.next().unwrap();
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    on_both_engines!(
        a_report_is_taken_although_nobody_waits_for_it,
        an_attempt_that_outlives_its_credentials_is_not_the_last,
    );
}
