//! Many jobs at once.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{JobId, JobKind, JobStatus, SourceId, StoreId, TenantId, WorkerId};

use super::JobRow;
use crate::db::newest::Newest;
use crate::db::workers::Worker;
use crate::db::{Error, Page, Result, Scope, instant_opt, parsed, parsed_opt};

/// Which jobs a list shows, besides its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) source_id: Option<SourceId>,
    pub(crate) status: Option<JobStatus>,
    pub(crate) kind: Option<JobKind>,
    /// Who works on it, or last did.
    pub(crate) worker_id: Option<WorkerId>,
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    scope: &Scope,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<JobRow>> {
    let rows = Newest {
        source_id: filter.source_id.as_ref().map(SourceId::as_str),
        words: &[
            ("status", filter.status.map(JobStatus::as_str)),
            ("type", filter.kind.map(JobKind::as_str)),
        ],
        values: &[("worker_id", filter.worker_id.as_ref().map(WorkerId::as_str))],
        // A page of a snapshot is no work that anybody looks for.
        except: filter.kind.is_none().then_some(("type", JobKind::Browse.as_str())),
        ..Newest::all("SELECT * FROM jobs", scope, page)
    };
    rows.fetch(conn).await?.iter().map(JobRow::read).collect()
}

/// Queued jobs of a worker's `targets`, those that shall go first in front.
macro_rules! eligible {
    ($targets:literal) => {
        concat!(
            "SELECT * FROM jobs WHERE status = 'queued' AND not_before <= $1 AND ",
            $targets,
            " AND (capability IS NULL OR $3 LIKE '%,' || capability || ',%')
                 AND NOT (type = 'delete_snapshot' AND EXISTS (SELECT 1 FROM jobs r WHERE r.snapshot_id = jobs.snapshot_id
                     AND r.type IN ('restore', 'verify', 'browse', 'replicate') AND r.status IN ('queued', 'running', 'finalizing')
                     AND (r.type <> 'replicate' OR r.status <> 'queued')))
             ORDER BY priority DESC, not_before, id LIMIT $4"
        )
    };
}

/// The queued jobs that a worker may run, those that shall go first in front. A worker that drains runs no
/// backups, and of the rest only what no other can. Deletions wait while another job reads the snapshot.
pub(crate) async fn eligible(
    conn: &mut AnyConnection,
    worker: &Worker,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<JobRow>> {
    let text = if worker.is_draining() {
        eligible!("target_worker_id = $2 AND type <> 'backup'")
    } else {
        eligible!("(target_worker_id IS NULL OR target_worker_id = $2)")
    };
    let query = sqlx::query(text)
        .bind(now.as_millisecond())
        .bind(worker.id.as_str())
        .bind(worker.words())
        .bind(limit);
    query.fetch_all(conn).await?.iter().map(JobRow::read).collect()
}

/// Jobs whose lease has run out, the longest dead first.
pub(crate) async fn expired(conn: &mut AnyConnection, now: Timestamp, limit: u32) -> Result<Vec<JobRow>> {
    let query = sqlx::query(
        "SELECT * FROM jobs WHERE lease_expires_at IS NOT NULL AND lease_expires_at <= $1
         ORDER BY lease_expires_at LIMIT $2",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(JobRow::read).collect()
}

/// Queued jobs that a message is due for, the longest waiting first. Without `shared` only those for one worker.
pub(crate) async fn due_for_push(
    conn: &mut AnyConnection,
    now: Timestamp,
    limit: u32,
    shared: bool,
) -> Result<Vec<JobRow>> {
    let text = if shared {
        "SELECT * FROM jobs WHERE status = 'queued' AND push_at <= $1 AND not_before <= $1 ORDER BY push_at LIMIT $2"
    } else {
        "SELECT * FROM jobs WHERE status = 'queued' AND push_at <= $1 AND not_before <= $1
             AND target_worker_id IS NOT NULL ORDER BY push_at LIMIT $2"
    };
    let query = sqlx::query(text).bind(now.as_millisecond()).bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(JobRow::read).collect()
}

/// When the next message will be due. None while nothing is queued.
pub(crate) async fn next_push_at(conn: &mut AnyConnection) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT MIN(push_at) AS push_at FROM jobs WHERE status = 'queued'");
    instant_opt(&row.fetch_one(conn).await?, "push_at")
}

/// Queued jobs of one queue that messages were sent about. Looks into snapshots have queues of their own, and don't wait for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Whose queue it is. None: the shared one.
    pub(crate) worker_id: Option<WorkerId>,
    /// How many jobs wait.
    pub(crate) jobs: u64,
    /// How many of them wait for long, and go on waiting before another message is due.
    pub(crate) patient: u64,
}

/// The queues that hold messages of jobs which wait since `before` and longer.
pub(crate) async fn sent(conn: &mut AnyConnection, now: Timestamp, before: Timestamp) -> Result<Vec<Sent>> {
    let rows = sqlx::query(
        "SELECT target_worker_id, COUNT(*) AS jobs,
             CAST(SUM(CASE WHEN enqueued_at <= $2 AND push_at > $1 THEN 1 ELSE 0 END) AS BIGINT) AS patient
         FROM jobs WHERE status = 'queued' AND not_before <= $1 AND enqueue_count > 0 AND type <> 'browse'
         GROUP BY target_worker_id",
    )
    .bind(now.as_millisecond())
    .bind(before.as_millisecond())
    .fetch_all(conn)
    .await?;
    let count = |row: &AnyRow, column| Ok::<_, Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
    let sent = |row: &AnyRow| {
        let worker_id = parsed_opt(row, "target_worker_id")?;
        Ok(Sent { worker_id, jobs: count(row, "jobs")?, patient: count(row, "patient")? })
    };
    let all = rows.iter().map(sent).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|sent| sent.patient > 0).collect())
}

/// Makes messages due at once of at most `limit` jobs of one queue that wait since `before` and longer, the longest
/// waiting first.
pub(crate) async fn hasten(
    conn: &mut AnyConnection,
    worker_id: Option<&WorkerId>,
    now: Timestamp,
    before: Timestamp,
    limit: u64,
) -> Result<()> {
    let query = match worker_id {
        None => sqlx::query(
            "UPDATE jobs SET push_at = $1 WHERE status = 'queued' AND id IN
                 (SELECT id FROM jobs WHERE status = 'queued' AND not_before <= $1 AND push_at > $1 AND enqueue_count > 0
                      AND enqueued_at <= $2 AND type <> 'browse' AND target_worker_id IS NULL ORDER BY enqueued_at LIMIT $3)",
        ),
        Some(_) => sqlx::query(
            "UPDATE jobs SET push_at = $1 WHERE status = 'queued' AND id IN
                 (SELECT id FROM jobs WHERE status = 'queued' AND not_before <= $1 AND push_at > $1 AND enqueue_count > 0
                      AND enqueued_at <= $2 AND type <> 'browse' AND target_worker_id = $4 ORDER BY enqueued_at LIMIT $3)",
        ),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let query = query.bind(now.as_millisecond()).bind(before.as_millisecond()).bind(limit);
    let query = match worker_id {
        None => query,
        Some(worker) => query.bind(worker.as_str()),
    };
    query.execute(conn).await?;
    Ok(())
}

/// The job of this source and kind that is queued or under way.
pub(crate) async fn unfinished(
    conn: &mut AnyConnection,
    source_id: &SourceId,
    kind: JobKind,
) -> Result<Option<JobId>> {
    let row = sqlx::query(
        "SELECT id FROM jobs WHERE source_id = $1 AND type = $2 AND status IN ('queued', 'running', 'finalizing')",
    )
    .bind(source_id.as_str())
    .bind(kind.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|row| parsed(&row, "id")).transpose()
}

/// A probe that is queued or under way.
#[derive(Debug, Clone)]
pub(crate) struct Probing {
    pub(crate) job: JobRow,
    /// It began before the source or its secret was last changed: what it sees is not what is asked for now.
    pub(crate) is_outdated: bool,
}

/// The probe of this source that is queued or under way.
pub(crate) async fn unfinished_probe(
    conn: &mut AnyConnection,
    source_id: &SourceId,
) -> Result<Option<Probing>> {
    let row = sqlx::query(
        "SELECT j.*, CAST(CASE WHEN j.started_at < s.updated_at OR j.started_at < c.rotated_at THEN 1 ELSE 0 END AS BIGINT)
             AS outdated
         FROM jobs j JOIN sources s ON s.id = j.source_id LEFT JOIN credentials c ON c.id = s.credential_id
         WHERE j.source_id = $1 AND j.type = 'probe' AND j.status IN ('queued', 'running', 'finalizing')",
    )
    .bind(source_id.as_str())
    .fetch_optional(conn)
    .await?;
    let probing = |row: AnyRow| {
        let is_outdated = row.try_get::<i64, _>("outdated")? != 0;
        Ok(Probing { job: JobRow::read(&row)?, is_outdated })
    };
    row.map(probing).transpose()
}

/// The test of a store for this tenant that is queued or under way: there is at most one.
pub(crate) async fn unfinished_test(
    conn: &mut AnyConnection,
    store_id: &StoreId,
    tenant_id: &TenantId,
) -> Result<Option<JobRow>> {
    let row = sqlx::query(
        "SELECT * FROM jobs WHERE store_id = $1 AND tenant_id = $2 AND type = 'test_store'
             AND status IN ('queued', 'running', 'finalizing')",
    )
    .bind(store_id.as_str())
    .bind(tenant_id.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(JobRow::read).transpose()
}

/// How many probes of a tenant are queued or under way.
pub(crate) async fn count_unfinished_probes(conn: &mut AnyConnection, tenant_id: &TenantId) -> Result<i64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS probes FROM jobs
         WHERE tenant_id = $1 AND type = 'probe' AND status IN ('queued', 'running', 'finalizing')",
    )
    .bind(tenant_id.as_str())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get("probes")?)
}

/// Those of `ids` that exist, in no order.
pub(crate) async fn many(conn: &mut AnyConnection, ids: &[JobId]) -> Result<Vec<JobRow>> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *conn)
            .await?;
        if let Some(row) = row {
            found.push(JobRow::read(&row)?);
        }
    }
    Ok(found)
}

/// How many jobs of a kind stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) kind: JobKind,
    pub(crate) status: JobStatus,
    pub(crate) jobs: u64,
}

/// Unfinished jobs, counted by kind and status. Kinds and statuses without jobs are absent.
pub(crate) async fn counts(conn: &mut AnyConnection) -> Result<Vec<Count>> {
    let rows = sqlx::query(
        "SELECT type, status, COUNT(*) AS jobs FROM jobs
         WHERE status IN ('queued', 'running', 'finalizing') GROUP BY status, type",
    )
    .fetch_all(conn)
    .await?;
    let count = |row: &AnyRow| {
        let jobs = row.try_get::<i64, _>("jobs")?.unsigned_abs();
        Ok(Count { kind: parsed(row, "type")?, status: parsed(row, "status")?, jobs })
    };
    rows.iter().map(count).collect()
}
