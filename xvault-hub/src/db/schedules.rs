//! Table `schedules`: when sources are backed up.
//!
//! A row is changed by [`save`], which writes it back only if it is still the one that was read: people, the scheduler of every
//! hub and completed backups change the same rows.

pub(crate) mod watch;

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use xvault_core::{JobId, ScheduleId, SourceId, TenantId};

use super::newest::Newest;
use super::{Binds, Error, Page, Result, Scope, instant, instant_opt, parsed, parsed_opt, places, touched};
use crate::schedule::{Expectation, Rule};

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) id: ScheduleId,
    pub(crate) tenant_id: TenantId,
    pub(crate) source_id: SourceId,
    /// Columns `cron` and `interval_minutes`.
    pub(crate) rule: Rule,
    /// A name of the IANA database.
    pub(crate) timezone: String,
    pub(crate) enabled: bool,
    /// What the times of an interval are counted from.
    pub(crate) anchor_at: Timestamp,
    /// Absent while it is disabled.
    pub(crate) next_run_at: Option<Timestamp>,
    pub(crate) last_run: Option<LastRun>,
    /// Since when snapshots are expected of it.
    pub(crate) watched_since: Timestamp,
    /// When the watch last expected the next snapshot. Absent while it is disabled.
    pub(crate) expected: Option<Expectation>,
    /// When it was told that the source is overdue.
    pub(crate) overdue_at: Option<Timestamp>,
    /// Of the row as it was read.
    pub(crate) revision: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What came of a schedule's last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastRun {
    pub(crate) at: Timestamp,
    pub(crate) outcome: RunOutcome,
}

/// Whether a time became a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunOutcome {
    /// It did.
    Job(JobId),
    /// It did not: a word for programs, and a sentence for people.
    Skipped { code: String, message: String },
}

pub(super) fn from_row(row: &AnyRow) -> Result<Schedule> {
    Ok(Schedule {
        id: parsed(row, "id")?,
        tenant_id: parsed(row, "tenant_id")?,
        source_id: parsed(row, "source_id")?,
        rule: rule(row)?,
        timezone: row.try_get("timezone")?,
        enabled: row.try_get::<i64, _>("enabled")? != 0,
        anchor_at: instant(row, "anchor_at")?,
        next_run_at: instant_opt(row, "next_run_at")?,
        last_run: last_run(row)?,
        watched_since: instant(row, "watched_since")?,
        expected: expected(row)?,
        overdue_at: instant_opt(row, "overdue_at")?,
        revision: row.try_get("revision")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

fn expected(row: &AnyRow) -> Result<Option<Expectation>> {
    let times = instant_opt(row, "expected_at")?.zip(instant_opt(row, "overdue_after")?);
    Ok(times.map(|(at, overdue_after)| Expectation { at, overdue_after }))
}

fn rule(row: &AnyRow) -> Result<Rule> {
    let (cron, minutes): (Option<String>, Option<i64>) =
        (row.try_get("cron")?, row.try_get("interval_minutes")?);
    match (cron, minutes.map(u32::try_from)) {
        (Some(cron), None) => Ok(Rule::Cron(cron)),
        (None, Some(Ok(minutes))) => Ok(Rule::Minutes(minutes)),
        _ => Err(Error::Corrupt { column: "interval_minutes" }),
    }
}

fn last_run(row: &AnyRow) -> Result<Option<LastRun>> {
    let job: Option<JobId> = parsed_opt(row, "last_job_id")?;
    let code: Option<String> = row.try_get("last_skip_code")?;
    let message: Option<String> = row.try_get("last_skip_message")?;
    let skipped = code.map(|code| RunOutcome::Skipped { code, message: message.unwrap_or_default() });
    let outcome = skipped.or(job.map(RunOutcome::Job));
    Ok(instant_opt(row, "last_run_at")?.zip(outcome).map(|(at, outcome)| LastRun { at, outcome }))
}

/// Binds all that may change.
fn bind_state<'q>(query: Binds<'q>, schedule: &Schedule) -> Binds<'q> {
    let (cron, minutes) = match &schedule.rule {
        Rule::Cron(text) => (Some(text.clone()), None),
        Rule::Minutes(minutes) => (None, Some(i64::from(*minutes))),
    };
    let query = query
        .bind(cron)
        .bind(minutes)
        .bind(schedule.timezone.clone())
        .bind(i64::from(schedule.enabled))
        .bind(schedule.anchor_at.as_millisecond());
    bind_course(query, schedule)
}

/// Binds what changes as time goes on.
fn bind_course<'q>(query: Binds<'q>, schedule: &Schedule) -> Binds<'q> {
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    let (job, code, message) = match schedule.last_run.as_ref().map(|run| &run.outcome) {
        Some(RunOutcome::Job(job)) => (Some(job.to_string()), None, None),
        Some(RunOutcome::Skipped { code, message }) => (None, Some(code.clone()), Some(message.clone())),
        None => (None, None, None),
    };
    query
        .bind(millis(schedule.next_run_at))
        .bind(millis(schedule.last_run.as_ref().map(|run| run.at)))
        .bind(job)
        .bind(code)
        .bind(message)
        .bind(schedule.watched_since.as_millisecond())
        .bind(millis(schedule.expected.map(|expected| expected.at)))
        .bind(millis(schedule.expected.map(|expected| expected.overdue_after)))
        .bind(millis(schedule.overdue_at))
}

/// Adds a schedule. [`Error::Duplicate`] when its source has one.
pub(crate) async fn insert(conn: &mut AnyConnection, schedule: &Schedule) -> Result<()> {
    let query = sqlx::query(
        "INSERT INTO schedules (id, tenant_id, cron, interval_minutes, timezone, enabled, anchor_at, next_run_at,
             last_run_at, last_job_id, last_skip_code, last_skip_message, watched_since, expected_at, overdue_after,
             overdue_at, source_id, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(schedule.id.to_string())
    .bind(schedule.tenant_id.to_string());
    bind_state(query, schedule)
        .bind(schedule.source_id.to_string())
        .bind(schedule.created_at.as_millisecond())
        .bind(schedule.updated_at.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes `schedule` back if its row still has the revision that was read. False: somebody was faster, read again.
pub(crate) async fn save(conn: &mut AnyConnection, schedule: &Schedule) -> Result<bool> {
    let query = sqlx::query(
        "UPDATE schedules SET revision = revision + 1, cron = $3, interval_minutes = $4, timezone = $5, enabled = $6,
             anchor_at = $7, next_run_at = $8, last_run_at = $9, last_job_id = $10, last_skip_code = $11,
             last_skip_message = $12, watched_since = $13, expected_at = $14, overdue_after = $15, overdue_at = $16,
             updated_at = $17
         WHERE id = $1 AND revision = $2",
    )
    .bind(schedule.id.to_string())
    .bind(schedule.revision);
    let result = bind_state(query, schedule).bind(schedule.updated_at.as_millisecond()).execute(conn).await?;
    Ok(result.rows_affected() == 1)
}

/// Writes back how schedules go on, and nothing that people say of them: those whose row still has the revision that was read.
/// Gives their ids; of the others somebody was faster.
pub(crate) async fn save_course(
    conn: &mut AnyConnection,
    schedules: &[&Schedule],
) -> Result<HashSet<ScheduleId>> {
    if schedules.is_empty() {
        return Ok(HashSet::new());
    }
    // PostgreSQL takes what is given in a list of values for text unless it is told otherwise, and names the columns as SQLite does.
    let text = format!(
        "UPDATE schedules SET revision = revision + 1, next_run_at = CAST(v.column3 AS BIGINT),
             last_run_at = CAST(v.column4 AS BIGINT), last_job_id = v.column5, last_skip_code = v.column6,
             last_skip_message = v.column7, watched_since = CAST(v.column8 AS BIGINT),
             expected_at = CAST(v.column9 AS BIGINT), overdue_after = CAST(v.column10 AS BIGINT),
             overdue_at = CAST(v.column11 AS BIGINT)
         FROM (VALUES {}) AS v
         WHERE schedules.id = v.column1 AND schedules.revision = CAST(v.column2 AS BIGINT) RETURNING schedules.id AS id",
        places(schedules.len(), 11)
    );
    let query = sqlx::query(AssertSqlSafe(text));
    let query = schedules.iter().fold(query, |query, schedule| {
        bind_course(query.bind(schedule.id.to_string()).bind(schedule.revision), schedule)
    });
    query.fetch_all(conn).await?.iter().map(|row| parsed(row, "id")).collect()
}

/// One schedule.
pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &ScheduleId) -> Result<Schedule> {
    let row = sqlx::query("SELECT * FROM schedules WHERE id = $1").bind(id.as_str()).fetch_one(conn).await?;
    admitted(scope, from_row(&row)?)
}

/// The schedule of a source. [`Error::NotFound`] when it has none.
pub(crate) async fn get_for_source(
    conn: &mut AnyConnection,
    scope: &Scope,
    source_id: &SourceId,
) -> Result<Schedule> {
    let row = sqlx::query("SELECT * FROM schedules WHERE source_id = $1")
        .bind(source_id.as_str())
        .fetch_one(conn)
        .await?;
    admitted(scope, from_row(&row)?)
}

fn admitted(scope: &Scope, schedule: Schedule) -> Result<Schedule> {
    if scope.admits(&schedule.tenant_id) { Ok(schedule) } else { Err(Error::NotFound) }
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    scope: &Scope,
    source_id: Option<&SourceId>,
    page: &Page,
) -> Result<Vec<Schedule>> {
    let source_id = source_id.map(SourceId::as_str);
    let rows = Newest { source_id, ..Newest::all("SELECT * FROM schedules", scope, page) };
    rows.fetch(conn).await?.iter().map(from_row).collect()
}

/// Those whose time has come, the longest waiting first.
pub(crate) async fn due(conn: &mut AnyConnection, now: Timestamp, limit: u32) -> Result<Vec<Schedule>> {
    let query = sqlx::query(
        "SELECT * FROM schedules WHERE enabled = 1 AND next_run_at <= $1 ORDER BY next_run_at LIMIT $2",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// Removes a schedule.
pub(crate) async fn delete(conn: &mut AnyConnection, id: &ScheduleId) -> Result<()> {
    let result = sqlx::query("DELETE FROM schedules WHERE id = $1").bind(id.as_str()).execute(conn).await?;
    touched(&result)
}

/// Removes the schedule of a source. That there is none is fine.
pub(crate) async fn delete_for_source(conn: &mut AnyConnection, source_id: &SourceId) -> Result<()> {
    sqlx::query("DELETE FROM schedules WHERE source_id = $1").bind(source_id.as_str()).execute(conn).await?;
    Ok(())
}
