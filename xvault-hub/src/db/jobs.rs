//! Table `jobs`: the truth about every job.
//!
//! A row is read with its [`xvault_core::job::Life`]; [`save`] writes the next one back only if the row is still the one that was read. No
//! other statement changes the columns of a job's state.

mod browses;
mod deletions;
mod lists;
mod restores;
mod row;
mod verifications;

pub(crate) use browses::{
    count_unfinished_browses, delete_browse, delete_finished_browses, unfinished_browses,
};
pub(crate) use deletions::{adopt, queued_by_hub, reader, unfinished_about, unfinished_deletion};
pub(crate) use lists::{
    Filter, Probing, Sent, count_unfinished_probes, counts, due_for_push, eligible, expired, hasten, list,
    many, next_push_at, sent, unfinished, unfinished_probe, unfinished_test,
};
pub(crate) use restores::restores_of_gone_workers;
pub(crate) use row::JobRow;
pub(crate) use verifications::{count_verifications, unfinished_verification};

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe};
use xvault_core::job::{JobError, State};
use xvault_core::{JobId, LeaseToken, ScheduleId, SnapshotId, SourceId, StoreId, WorkerId};

use super::{Binds, Result, Scope, parsed, places};

const INSERT: &str = "INSERT INTO jobs (id, tenant_id, source_id, type, status, priority, target_worker_id, capability,
    payload, attempt, max_attempts, not_before, snapshot_id, enqueued_at, enqueue_count, push_at, created_by, schedule_id,
    created_at, updated_at, store_id) VALUES";
/// Its columns.
const INSERTED: usize = 21;

/// Adds a job. [`super::Error::Duplicate`] when another unfinished one excludes it.
pub(crate) async fn insert(conn: &mut AnyConnection, job: &JobRow) -> Result<()> {
    let text = format!("{INSERT} {}", places(1, INSERTED));
    bind_new(sqlx::query(AssertSqlSafe(text)), job).execute(conn).await?;
    Ok(())
}

/// Adds those jobs that no other unfinished one excludes, and gives their ids. The transaction goes on in any case.
pub(crate) async fn insert_unless_excluded(
    conn: &mut AnyConnection,
    jobs: &[&JobRow],
) -> Result<HashSet<JobId>> {
    if jobs.is_empty() {
        return Ok(HashSet::new());
    }
    let text = format!("{INSERT} {} ON CONFLICT DO NOTHING RETURNING id", places(jobs.len(), INSERTED));
    let query = jobs.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, job| bind_new(query, job));
    query.fetch_all(conn).await?.iter().map(|row| parsed(row, "id")).collect()
}

/// Binds what [`INSERT`] names.
fn bind_new<'q>(query: Binds<'q>, job: &JobRow) -> Binds<'q> {
    let text = |text: &str| text.to_owned();
    query
        .bind(job.id.to_string())
        .bind(job.tenant_id.to_string())
        .bind(job.source_id.as_ref().map(SourceId::as_str).map(text))
        .bind(job.kind.as_str())
        .bind(job.status().as_str())
        .bind(job.priority)
        .bind(job.target_worker_id.as_ref().map(WorkerId::as_str).map(text))
        .bind(job.capability.clone())
        .bind(job.payload.to_string())
        .bind(i64::from(job.life.attempt))
        .bind(i64::from(job.life.max_attempts))
        .bind(job.not_before.as_millisecond())
        .bind(job.snapshot_id.as_ref().map(SnapshotId::as_str).map(text))
        .bind(job.enqueued_at.map(Timestamp::as_millisecond))
        .bind(job.enqueue_count)
        .bind(job.push_at.as_millisecond())
        .bind(job.created_by.clone())
        .bind(job.schedule_id.as_ref().map(ScheduleId::as_str).map(text))
        .bind(job.created_at.as_millisecond())
        .bind(job.created_at.as_millisecond())
        .bind(job.store_id.as_ref().map(StoreId::as_str).map(text))
}

/// One job.
pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &JobId) -> Result<JobRow> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id.as_str()).fetch_one(conn).await?;
    let job = JobRow::read(&row)?;
    if scope.admits(&job.tenant_id) { Ok(job) } else { Err(super::Error::NotFound) }
}

/// What its worker was told about the lock of what it writes.
pub(crate) async fn set_lock(conn: &mut AnyConnection, id: &JobId, until: Option<Timestamp>) -> Result<()> {
    sqlx::query("UPDATE jobs SET lock_until = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(until.map(Timestamp::as_millisecond))
        .execute(conn)
        .await?;
    Ok(())
}

/// The same, to be compared with what the worker says.
pub(crate) async fn lock_until(conn: &mut AnyConnection, id: &JobId) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT lock_until FROM jobs WHERE id = $1").bind(id.as_str());
    super::instant_opt(&row.fetch_one(conn).await?, "lock_until")
}

/// Writes `job` back if its row still has the revision that was read. False: somebody was faster, read again.
pub(crate) async fn save(conn: &mut AnyConnection, job: &JobRow, now: Timestamp) -> Result<bool> {
    let lease = job.life.lease();
    let error = job.life.error.as_ref();
    let result = sqlx::query(
        "UPDATE jobs SET revision = revision + 1, status = $3, attempt = $4, not_before = $5, worker_id = $6,
             lease_token = $7, lease_expires_at = $8, done_token = $9, error_code = $10, error_message = $11,
             snapshot_id = $12, progress = $13, result = $14, enqueued_at = $15, enqueue_count = $16, push_at = $17,
             started_at = $18, finished_at = $19, target_worker_id = $20, updated_at = $21, runs = $22,
             store_id = $23, capability = $24, payload = $25
         WHERE id = $1 AND revision = $2",
    )
    .bind(job.id.as_str())
    .bind(job.revision)
    .bind(job.status().as_str())
    .bind(i64::from(job.life.attempt))
    .bind(not_before(job).as_millisecond())
    .bind(job.worker_id.as_ref().map(WorkerId::as_str))
    .bind(lease.map(|lease| lease.token.as_str()))
    .bind(lease.map(|lease| lease.expires_at.as_millisecond()))
    .bind(job.done_token.as_ref().map(LeaseToken::as_str))
    .bind(error.map(|JobError { code, .. }| code.clone()))
    .bind(error.map(|JobError { message, .. }| message.clone()))
    .bind(job.snapshot_id.as_ref().map(SnapshotId::as_str))
    .bind(job.progress.as_ref().map(ToString::to_string))
    .bind(job.result.as_ref().map(ToString::to_string))
    .bind(job.enqueued_at.map(Timestamp::as_millisecond))
    .bind(job.enqueue_count)
    .bind(job.push_at.as_millisecond())
    .bind(job.started_at.map(Timestamp::as_millisecond))
    .bind(job.finished_at.map(Timestamp::as_millisecond))
    .bind(job.target_worker_id.as_ref().map(WorkerId::as_str))
    .bind(now.as_millisecond())
    .bind(i64::from(job.runs))
    .bind(job.store_id.as_ref().map(StoreId::as_str))
    .bind(job.capability.clone())
    .bind(job.payload.to_string())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The end of the pause while it lasts, and of the last one after that.
fn not_before(job: &JobRow) -> Timestamp {
    match job.life.state {
        State::Queued { not_before } => not_before,
        _ => job.not_before,
    }
}

/// Notes that a message is about to be sent: the next one is due at `next`. False: another hub sends it, or it is not
/// queued any more.
pub(crate) async fn take_push(
    conn: &mut AnyConnection,
    job: &JobRow,
    now: Timestamp,
    next: Timestamp,
) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE jobs SET enqueued_at = $4, enqueue_count = enqueue_count + 1, push_at = $5
         WHERE id = $1 AND status = 'queued' AND push_at = $2 AND enqueue_count = $3",
    )
    .bind(job.id.as_str())
    .bind(job.push_at.as_millisecond())
    .bind(job.enqueue_count)
    .bind(now.as_millisecond())
    .bind(next.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// A message came before the job's time: the next one is due when that has come.
pub(crate) async fn push_in_time(conn: &mut AnyConnection, id: &JobId) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET push_at = not_before WHERE id = $1 AND status = 'queued' AND push_at > not_before",
    )
    .bind(id.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// A message could not be sent: it is due again at `at`.
pub(crate) async fn push_failed(conn: &mut AnyConnection, id: &JobId, at: Timestamp) -> Result<()> {
    sqlx::query("UPDATE jobs SET push_at = $2, enqueue_count = 0 WHERE id = $1 AND status = 'queued'")
        .bind(id.as_str())
        .bind(at.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}
