//! `/api/v1/jobs/{id}/logs`

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::JobId;
use xvault_core::protocol::LogLevel;

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::principal::Principal;
use crate::app::jobs;
use crate::db::job_logs::{After, Line};

/// Lines of a page when nothing else is asked for.
const DEFAULT_LIMIT: u32 = 200;
/// The most lines of a page.
const MAX_LIMIT: u32 = 1000;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListLogs {
    /// How many lines at most.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A line of a job's log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct JobLog {
    /// Which run of the job said it, from 1: as often as a worker has had the job.
    run: u32,
    /// Its place among the lines of the run, from 0.
    seq: u64,
    /// When, by the worker's clock.
    time: Timestamp,
    level: LogLevel,
    message: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct JobLogs {
    logs: Vec<JobLog>,
    next_cursor: Option<String>,
}

impl From<Line> for JobLog {
    fn from(Line { run, line }: Line) -> Self {
        Self { run, seq: line.seq, time: line.at, level: line.level, message: line.message }
    }
}

/// A place in a log as text: `2.17` is after line 17 of run 2.
pub(super) fn place_text(after: After) -> String {
    format!("{}.{}", after.run, after.seq)
}

/// Reads what [`place_text`] made.
pub(super) fn place(text: &str) -> Option<After> {
    let (run, seq) = text.split_once('.')?;
    let after = After { run: run.parse().ok()?, seq: seq.parse().ok()? };
    (after.run >= -1 && after.seq >= -1).then_some(after)
}

fn cursor(text: &str) -> Result<After> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let place = bytes.and_then(|bytes| place(std::str::from_utf8(&bytes).ok()?));
    place.ok_or_else(|| Error::bad_request("`cursor` is none that this list has given"))
}

/// List the lines of a job's log
///
/// In the order in which they were said: by run, oldest first.
#[utoipa::path(
    get, path = "/jobs/{id}/logs", tag = "jobs",
    operation_id = "logs",
    params(("id" = JobId, Path), ListLogs),
    responses((status = 200, body = JobLogs)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<JobId>,
    Query(query): Query<ListLogs>,
) -> Result<Json<JobLogs>> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::bad_request(format!("`limit` must be between 1 and {MAX_LIMIT}")));
    }
    let after = query.cursor.as_deref().map(cursor).transpose()?.unwrap_or(After::START);
    let mut lines = jobs::logs(&hub, &who.scope(None)?, &id, after, limit).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = lines.len() > size;
    lines.truncate(size);
    let last = lines.last().filter(|_| more).map(After::line);
    let next_cursor = last.map(|after| URL_SAFE_NO_PAD.encode(place_text(after)));
    Ok(Json(JobLogs { logs: lines.into_iter().map(Into::into).collect(), next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_foreign_text_does_not() {
        let after = After { run: 2, seq: 17 };
        assert_eq!(place_text(after), "2.17");
        assert_eq!(place("2.17"), Some(after));
        assert_eq!(place(&place_text(After::START)), Some(After::START));
        for bad in ["", "2", "2.", ".2", "-2.0", "0.-2", "1.2.3", "99999999999999999999.1", "a.b"] {
            assert_eq!(place(bad), None, "{bad}");
        }
        assert!(cursor("!").is_err() && cursor("eHg").is_err());
    }
}
