//! `/api/v1/schedules`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::{JobId, JobStatus, ScheduleId, SourceId, TenantId};
use xvault_retention::Policy;

use super::schedule_fields::{rule, timezone};
use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::paging::{cut, page};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::retention::parse;
use crate::app::schedules::{self, Change, NewSchedule, Shown};
use crate::db::schedules::{LastRun, RunOutcome as DbOutcome};
use crate::schedule::Rule;

/// Where clocks hang when nobody says.
const DEFAULT_TIMEZONE: &str = "UTC";
/// How many runs a preview shows.
const PREVIEW: usize = 10;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update, delete))
        .routes(routes!(preview))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateSchedule {
    /// Whose it is. Operators must say, here or in the query; others may leave it out.
    tenant_id: Option<TenantId>,
    source_id: SourceId,
    /// Five fields (`30 3 * * mon-fri`), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Either this or
    /// `interval_minutes`.
    #[schema(max_length = 200)]
    cron: Option<String>,
    /// Elapsed minutes from one run to the next, counted from now.
    #[schema(minimum = 1, maximum = 527_040)]
    interval_minutes: Option<u32>,
    /// The zone of the IANA database whose clock `cron` goes by; `UTC` when absent.
    timezone: Option<String>,
    /// Whether it runs; true when absent.
    enabled: Option<bool>,
    /// Which snapshots of the source are kept. When absent, the source's policy stays as it is.
    #[schema(value_type = Option<Policy>)]
    retention_policy: Option<Value>,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateSchedule {
    /// Takes the place of `interval_minutes`.
    #[schema(max_length = 200)]
    cron: Option<String>,
    /// Takes the place of `cron`. A new interval is counted from now.
    #[schema(minimum = 1, maximum = 527_040)]
    interval_minutes: Option<u32>,
    /// The zone of the IANA database whose clock `cron` goes by.
    timezone: Option<String>,
    /// Whether it runs.
    enabled: Option<bool>,
    /// Which snapshots of the source are kept; `null` for all.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Policy>)]
    retention_policy: Option<Option<Value>>,
}

/// Tells `null` from absence.
fn present<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<Option<Value>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListSchedules {
    /// Whose: for operators, who see everybody's otherwise.
    tenant_id: Option<TenantId>,
    /// Only that of this source.
    source_id: Option<SourceId>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// When a source is backed up, and which of its snapshots are kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Schedule {
    id: ScheduleId,
    tenant_id: TenantId,
    source_id: SourceId,
    /// Either this or `interval_minutes`.
    cron: Option<String>,
    interval_minutes: Option<u32>,
    timezone: String,
    enabled: bool,
    /// The source's, as `/sources/{id}/retention` shows it. Absent: all are kept.
    retention_policy: Option<Policy>,
    /// When it runs next. Absent while it is disabled.
    next_run_at: Option<Timestamp>,
    /// What came of its last time. Absent: it never had one.
    last_run: Option<ScheduledRun>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Schedules {
    schedules: Vec<Schedule>,
    next_cursor: Option<String>,
}

/// What came of a time to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum RunOutcome {
    /// Its job waits for a worker.
    Queued,
    /// Its job is being done.
    Running,
    /// Its job is all but done.
    Finalizing,
    /// Its job made a snapshot.
    Completed,
    /// Its job failed.
    Failed,
    /// Somebody stopped its job.
    Canceled,
    /// There was no job.
    Skipped,
}

/// A time to run that has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ScheduledRun {
    /// When it was noticed.
    at: Timestamp,
    outcome: RunOutcome,
    /// Absent when it was skipped.
    job_id: Option<JobId>,
    /// Why it was skipped, or failed.
    reason: Option<RunReason>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RunReason {
    /// A word for programs.
    code: String,
    /// A sentence for people.
    message: String,
}

/// The next runs of a schedule, if it is enabled and none is skipped.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SchedulePreview {
    timezone: String,
    /// How much later than its regular time each run begins: the same for all, so that not all schedules begin at once.
    jitter_seconds: i64,
    runs: Vec<PreviewedRun>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PreviewedRun {
    at: Timestamp,
    /// The same on the clock of the schedule's zone.
    #[schema(format = DateTime)]
    local: String,
}

impl From<Shown> for Schedule {
    fn from(Shown { schedule, job, retention_policy }: Shown) -> Self {
        let (cron, interval_minutes) = match schedule.rule {
            Rule::Cron(text) => (Some(text), None),
            Rule::Minutes(minutes) => (None, Some(minutes)),
        };
        Self {
            id: schedule.id,
            tenant_id: schedule.tenant_id,
            source_id: schedule.source_id,
            cron,
            interval_minutes,
            timezone: schedule.timezone,
            enabled: schedule.enabled,
            retention_policy,
            next_run_at: schedule.next_run_at,
            last_run: schedule.last_run.and_then(|run| told(run, job)),
            created_at: schedule.created_at,
            updated_at: schedule.updated_at,
        }
    }
}

fn told(run: LastRun, job: Option<crate::db::jobs::JobRow>) -> Option<ScheduledRun> {
    let at = run.at;
    match run.outcome {
        DbOutcome::Skipped { code, message } => {
            let reason = Some(RunReason { code, message });
            Some(ScheduledRun { at, outcome: RunOutcome::Skipped, job_id: None, reason })
        }
        DbOutcome::Job(_) => {
            let job = job?;
            let outcome = job.status().into();
            let reason = job.life.error.map(|error| RunReason { code: error.code, message: error.message });
            Some(ScheduledRun { at, outcome, job_id: Some(job.id), reason })
        }
    }
}

impl From<JobStatus> for RunOutcome {
    fn from(status: JobStatus) -> Self {
        match status {
            JobStatus::Queued => Self::Queued,
            JobStatus::Running => Self::Running,
            JobStatus::Finalizing => Self::Finalizing,
            JobStatus::Completed => Self::Completed,
            JobStatus::Failed => Self::Failed,
            JobStatus::Canceled => Self::Canceled,
        }
    }
}

/// Save a schedule
///
/// A source has one schedule. Times that a clock skips when it is set forward run as soon as it goes on; times that it shows
/// twice when it is set back run the first time. `GET /schedules/{id}/preview` shows the next runs.
#[utoipa::path(
    post, path = "/schedules", tag = "schedules",
    params(NamedTenant),
    request_body = CreateSchedule,
    responses(
        (status = 201, body = Schedule),
        (status = 409, body = ErrorBody, description = "The source has a schedule (`schedule_exists`): \
            `details.schedule_id` names it."),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateSchedule>,
) -> Result<(StatusCode, Json<Schedule>)> {
    who.require(Role::Admin)?;
    let rule = rule(body.cron.as_deref(), body.interval_minutes)?
        .ok_or_else(|| Error::invalid_field("cron", "this or `interval_minutes` is needed"))?;
    let new = NewSchedule {
        tenant_id: who.tenant(named.or(body.tenant_id)?)?,
        source_id: body.source_id,
        rule,
        timezone: timezone(body.timezone.as_deref().unwrap_or(DEFAULT_TIMEZONE))?,
        enabled: body.enabled.unwrap_or(true),
        retention_policy: body.retention_policy.as_ref().map(parse).transpose()?.flatten(),
    };
    Ok((StatusCode::CREATED, Json(schedules::create(&hub, &who, new).await?.into())))
}

/// List schedules
///
/// Newest first.
#[utoipa::path(
    get, path = "/schedules", tag = "schedules",
    params(ListSchedules),
    responses((status = 200, body = Schedules)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListSchedules>,
) -> Result<Json<Schedules>> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let rows = schedules::list(&hub, &who.scope(query.tenant_id)?, query.source_id.as_ref(), &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.schedule.id.as_str());
    Ok(Json(Schedules { schedules: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a schedule
#[utoipa::path(
    get, path = "/schedules/{id}", tag = "schedules",
    params(("id" = ScheduleId, Path)),
    responses((status = 200, body = Schedule)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<ScheduleId>) -> Result<Json<Schedule>> {
    Ok(Json(schedules::get(&hub, &who.scope(None)?, &id).await?.into()))
}

/// Change a schedule
///
/// What is absent stays. With other times, or enabled again, it starts anew: a run that it missed before is not made up for.
#[utoipa::path(
    put, path = "/schedules/{id}", tag = "schedules",
    params(("id" = ScheduleId, Path)),
    request_body = UpdateSchedule,
    responses((status = 200, body = Schedule)),
)]
async fn update(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<ScheduleId>,
    Json(body): Json<UpdateSchedule>,
) -> Result<Json<Schedule>> {
    who.require(Role::Admin)?;
    let policy = body.retention_policy.map(|policy| parse(&policy.unwrap_or_default())).transpose()?;
    let change = Change {
        rule: rule(body.cron.as_deref(), body.interval_minutes)?,
        timezone: body.timezone.as_deref().map(timezone).transpose()?,
        enabled: body.enabled,
        retention_policy: policy,
    };
    Ok(Json(schedules::update(&hub, &who, &who.scope(None)?, &id, change).await?.into()))
}

/// Delete a schedule
///
/// Its source is not backed up by itself any more, and its snapshots are kept: the source's retention policy goes, too.
#[utoipa::path(
    delete, path = "/schedules/{id}", tag = "schedules",
    params(("id" = ScheduleId, Path)),
    responses((status = 204, description = "It is deleted.")),
)]
async fn delete(State(hub): State<Hub>, who: Principal, Path(id): Path<ScheduleId>) -> Result<StatusCode> {
    who.require(Role::Admin)?;
    schedules::delete(&hub, &who, &who.scope(None)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show the next ten runs
///
/// From now on, if it is enabled and none is skipped.
#[utoipa::path(
    get, path = "/schedules/{id}/preview", tag = "schedules",
    params(("id" = ScheduleId, Path)),
    responses(
        (status = 200, body = SchedulePreview),
        (status = 409, body = ErrorBody, description = "The hub does not know its time zone any more (`schedule_unreadable`)."),
    ),
)]
async fn preview(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<ScheduleId>,
) -> Result<Json<SchedulePreview>> {
    let (timing, runs) = schedules::preview(&hub, &who.scope(None)?, &id, PREVIEW).await?;
    let zone = timing.zone();
    let local = |at: Timestamp| at.display_with_offset(zone.to_offset(at)).to_string();
    Ok(Json(SchedulePreview {
        timezone: zone.iana_name().unwrap_or(DEFAULT_TIMEZONE).to_owned(),
        jitter_seconds: timing.jitter().as_secs(),
        runs: runs.into_iter().map(|at| PreviewedRun { at, local: local(at) }).collect(),
    }))
}
