//! A job as its row tells it.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::job::{JobError, Lease, Life, State};
use xvault_core::{
    JobId, JobKind, JobStatus, LeaseToken, ScheduleId, SnapshotId, SourceId, StoreId, TenantId, WorkerId,
};

use crate::db::{Error, Result, instant, instant_opt, json, json_opt, parsed, parsed_opt};

/// A row of `jobs`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobRow {
    pub(crate) id: JobId,
    pub(crate) tenant_id: TenantId,
    pub(crate) source_id: Option<SourceId>,
    pub(crate) kind: JobKind,
    /// Where it stands. Its transitions decide; this type carries what they entail.
    pub(crate) life: Life,
    /// How many times a worker had it. Attempts that were handed back, or that a person had start anew, count.
    pub(crate) runs: u32,
    /// Greater goes first.
    pub(crate) priority: i64,
    /// The only worker that may run it.
    pub(crate) target_worker_id: Option<WorkerId>,
    /// What kind of source its worker must be able to pull.
    pub(crate) capability: Option<String>,
    /// What it needs besides: ids only.
    pub(crate) payload: Value,
    /// What came of it, unless that is a snapshot.
    pub(crate) result: Option<Value>,
    /// Of the row as it was read.
    pub(crate) revision: i64,
    /// End of the last pause.
    pub(crate) not_before: Timestamp,
    /// Who works on it, or last did.
    pub(crate) worker_id: Option<WorkerId>,
    /// The token whose report ended an attempt: that report may be repeated.
    pub(crate) done_token: Option<LeaseToken>,
    /// The snapshot to be deleted, or that the present attempt makes.
    pub(crate) snapshot_id: Option<SnapshotId>,
    /// The store that the present attempt writes to, or that is tested or swept. None: a worker's disk, or that of its snapshot.
    pub(crate) store_id: Option<StoreId>,
    /// How far it has come: `xvault_core::protocol::JobProgress`.
    pub(crate) progress: Option<Value>,
    /// When a message about it was last sent.
    pub(crate) enqueued_at: Option<Timestamp>,
    /// How many were sent since it was queued.
    pub(crate) enqueue_count: i64,
    /// When the next message is due, while it is queued.
    pub(crate) push_at: Timestamp,
    /// Who asked for it. None: the hub itself.
    pub(crate) created_by: Option<String>,
    /// The schedule that made it, which may be gone by now.
    pub(crate) schedule_id: Option<ScheduleId>,
    /// When the present or last attempt began.
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl JobRow {
    /// A new job that any worker may run at once. Who runs it, and what it is about besides its source, is to be filled in.
    pub(crate) fn new(
        kind: JobKind,
        tenant_id: TenantId,
        source_id: SourceId,
        max_attempts: u32,
        now: Timestamp,
    ) -> Self {
        Self {
            id: JobId::generate(),
            tenant_id,
            source_id: Some(source_id),
            kind,
            life: Life::queued(now, max_attempts),
            runs: 0,
            priority: 0,
            target_worker_id: None,
            capability: None,
            payload: Value::Object(serde_json::Map::new()),
            result: None,
            revision: 0,
            not_before: now,
            worker_id: None,
            done_token: None,
            snapshot_id: None,
            store_id: None,
            progress: None,
            enqueued_at: None,
            enqueue_count: 0,
            push_at: now,
            created_by: None,
            schedule_id: None,
            started_at: None,
            finished_at: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The one job that `sql` finds for the snapshot `$1`.
    pub(super) async fn of_snapshot(
        conn: &mut AnyConnection,
        sql: &'static str,
        snapshot_id: &SnapshotId,
    ) -> Result<Option<Self>> {
        let row = sqlx::query(sql).bind(snapshot_id.as_str()).fetch_optional(conn).await?;
        row.as_ref().map(Self::read).transpose()
    }

    /// As [`JobRow::new`], of no source.
    pub(crate) fn without_source(
        kind: JobKind,
        tenant_id: TenantId,
        max_attempts: u32,
        now: Timestamp,
    ) -> Self {
        // The id is thrown away.
        let job = Self::new(kind, tenant_id, SourceId::generate(), max_attempts, now);
        Self { source_id: None, ..job }
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.life.status()
    }

    /// The row with this life, and what follows from it: who works on it, when it began and ended. Messages are not
    /// touched.
    pub(crate) fn with(&self, life: Life, now: Timestamp) -> Self {
        let claimed = life.attempt > self.life.attempt;
        let worker_id = life.lease().map(|lease| lease.worker_id.clone()).or_else(|| self.worker_id.clone());
        let finished_at = life.status().is_finished().then_some(self.finished_at.unwrap_or(now));
        Self {
            worker_id,
            runs: self.runs.saturating_add(u32::from(claimed)),
            started_at: if claimed { Some(now) } else { self.started_at },
            finished_at,
            life,
            ..self.clone()
        }
    }

    pub(super) fn read(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            tenant_id: parsed(row, "tenant_id")?,
            source_id: parsed_opt(row, "source_id")?,
            kind: parsed(row, "type")?,
            life: life(row)?,
            runs: count(row, "runs")?,
            priority: row.try_get("priority")?,
            target_worker_id: parsed_opt(row, "target_worker_id")?,
            capability: row.try_get("capability")?,
            payload: json(row, "payload")?,
            result: json_opt(row, "result")?,
            revision: row.try_get("revision")?,
            not_before: instant(row, "not_before")?,
            worker_id: parsed_opt(row, "worker_id")?,
            done_token: parsed_opt(row, "done_token")?,
            snapshot_id: parsed_opt(row, "snapshot_id")?,
            store_id: parsed_opt(row, "store_id")?,
            progress: json_opt(row, "progress")?,
            enqueued_at: instant_opt(row, "enqueued_at")?,
            enqueue_count: row.try_get("enqueue_count")?,
            push_at: instant(row, "push_at")?,
            created_by: row.try_get("created_by")?,
            schedule_id: parsed_opt(row, "schedule_id")?,
            started_at: instant_opt(row, "started_at")?,
            finished_at: instant_opt(row, "finished_at")?,
            created_at: instant(row, "created_at")?,
            updated_at: instant(row, "updated_at")?,
        })
    }
}

fn life(row: &AnyRow) -> Result<Life> {
    let state = match parsed(row, "status")? {
        JobStatus::Queued => State::Queued { not_before: instant(row, "not_before")? },
        JobStatus::Running => State::Running(lease(row)?),
        JobStatus::Finalizing => State::Finalizing(lease(row)?),
        JobStatus::Completed => State::Completed,
        JobStatus::Failed => State::Failed,
        JobStatus::Canceled => State::Canceled,
    };
    Ok(Life {
        state,
        attempt: count(row, "attempt")?,
        max_attempts: count(row, "max_attempts")?,
        error: error(row)?,
    })
}

fn lease(row: &AnyRow) -> Result<Lease> {
    Ok(Lease {
        token: parsed(row, "lease_token")?,
        worker_id: parsed(row, "worker_id")?,
        expires_at: instant(row, "lease_expires_at")?,
    })
}

fn error(row: &AnyRow) -> Result<Option<JobError>> {
    let code: Option<String> = row.try_get("error_code")?;
    let message: Option<String> = row.try_get("error_message")?;
    Ok(code.map(|code| JobError { code, message: message.unwrap_or_default() }))
}

fn count(row: &AnyRow, column: &'static str) -> Result<u32> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Error::Corrupt { column })
}
