//! Table `job_logs`: what jobs say.

use jiff::Timestamp;
use sqlx::{AnyConnection, Row as _};
use xvault_core::JobId;
use xvault_core::protocol::{LogLevel, LogLine};

use super::{Error, Result, instant};

/// A line with the run of its job that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) run: u32,
    pub(crate) line: LogLine,
}

/// Where to go on in a log: after this line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct After {
    pub(crate) run: i64,
    pub(crate) seq: i64,
}

impl After {
    /// Before the first line.
    pub(crate) const START: Self = Self { run: -1, seq: -1 };

    /// After `line`.
    pub(crate) fn line(line: &Line) -> Self {
        let seq = i64::try_from(line.line.seq).unwrap_or(i64::MAX);
        Self { run: i64::from(line.run), seq }
    }
}

/// Adds lines. Those that are there already are left alone.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    job_id: &JobId,
    run: u32,
    lines: &[LogLine],
) -> Result<()> {
    for line in lines {
        sqlx::query(
            "INSERT INTO job_logs (job_id, run, seq, logged_at, level, message) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING",
        )
        .bind(job_id.as_str())
        .bind(i64::from(run))
        .bind(i64::try_from(line.seq).unwrap_or(i64::MAX))
        .bind(line.at.as_millisecond())
        .bind(word(line.level))
        .bind(&line.message)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A job's lines in the order in which they were said, from `after` on; one more than `limit`.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    job_id: &JobId,
    after: After,
    limit: u32,
) -> Result<Vec<Line>> {
    let rows = sqlx::query(
        "SELECT * FROM job_logs WHERE job_id = $1 AND (run > $2 OR (run = $2 AND seq > $3))
         ORDER BY run, seq LIMIT $4",
    )
    .bind(job_id.as_str())
    .bind(after.run)
    .bind(after.seq)
    .bind(i64::from(limit) + 1)
    .fetch_all(conn)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Removes at most `limit` of the lines that were said before `before`. Gives how many.
pub(crate) async fn delete_older(conn: &mut AnyConnection, before: Timestamp, limit: u32) -> Result<u64> {
    // In small bites, so that SQLite's one writer is not held up.
    let result = sqlx::query(
        "DELETE FROM job_logs WHERE (job_id, run, seq) IN
             (SELECT job_id, run, seq FROM job_logs WHERE logged_at < $1 ORDER BY logged_at LIMIT $2)",
    )
    .bind(before.as_millisecond())
    .bind(i64::from(limit))
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

fn from_row(row: &sqlx::any::AnyRow) -> Result<Line> {
    let number = |column: &'static str| -> Result<u64> { Ok(row.try_get::<i64, _>(column)?.unsigned_abs()) };
    let level = level(row.try_get("level")?).ok_or(Error::Corrupt { column: "level" })?;
    let run = u32::try_from(number("run")?).map_err(|_| Error::Corrupt { column: "run" })?;
    let line = LogLine {
        seq: number("seq")?,
        at: instant(row, "logged_at")?,
        level,
        message: row.try_get("message")?,
    };
    Ok(Line { run, line })
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

fn level(word: &str) -> Option<LogLevel> {
    Some(match word {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        _ => return None,
    })
}
