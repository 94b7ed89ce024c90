//! Schedules: when sources are backed up. One for each source.

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, Transaction};
use xvault_core::{JobId, ScheduleId, SourceId, TenantId};
use xvault_retention::Policy;

use super::audit::{Deed, record};
use super::retention::replace;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::jobs::JobRow;
use crate::db::schedules::{self, RunOutcome, Schedule};
use crate::db::{Page, Scope, jobs, retention, sources};
use crate::schedule::{Rule, Timing, TimingError};
use crate::{DbError, Hub};

/// How often a change is decided anew because the row had changed.
const ROUNDS: u32 = 5;

/// A schedule to be. Rule, zone and policy are checked.
#[derive(Debug)]
pub(crate) struct NewSchedule {
    pub(crate) tenant_id: TenantId,
    pub(crate) source_id: SourceId,
    pub(crate) rule: Rule,
    pub(crate) timezone: String,
    pub(crate) enabled: bool,
    /// For its source. None: what the source has.
    pub(crate) retention_policy: Option<Policy>,
}

/// What shall be different about a schedule. What is absent stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) rule: Option<Rule>,
    pub(crate) timezone: Option<String>,
    pub(crate) enabled: Option<bool>,
    /// For its source. `Some(None)`: none any more.
    pub(crate) retention_policy: Option<Option<Policy>>,
}

/// A schedule with the job of its last run, and the policy of its source.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) schedule: Schedule,
    pub(crate) job: Option<JobRow>,
    pub(crate) retention_policy: Option<Policy>,
}

/// Saves a schedule. 409 `schedule_exists` when the source has one.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewSchedule) -> Result<Shown> {
    let policy = new.retention_policy.clone();
    let schedule = started(hub, new)?;
    let own = Scope::Tenant(schedule.tenant_id.clone());
    let mut tx = hub.db().begin().await?;
    sources::lock(&mut tx, &own, &schedule.source_id).await.map_err(Error::of("source"))?;
    match schedules::get_for_source(&mut tx, &own, &schedule.source_id).await {
        Err(DbError::NotFound) => {}
        Ok(there) => return Err(exists(&there)),
        Err(error) => return Err(error.into()),
    }
    schedules::insert(&mut tx, &schedule).await?;
    if let Some(policy) = &policy {
        replace(&mut tx, hub, &schedule.source_id, Some(policy)).await?;
    }
    let retention_policy = retention::policy(&mut tx, &schedule.source_id).await?;
    record(&mut tx, hub, who, deed("schedule.create", &schedule, retention_policy.as_ref())).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(Shown { schedule, job: None, retention_policy })
}

fn started(hub: &Hub, new: NewSchedule) -> Result<Schedule> {
    let now = hub.clock().now();
    let NewSchedule { tenant_id, source_id, rule, timezone, enabled, retention_policy: _ } = new;
    let schedule = Schedule {
        id: ScheduleId::generate(),
        tenant_id,
        source_id,
        rule,
        timezone,
        enabled,
        anchor_at: now,
        next_run_at: None,
        last_run: None,
        watched_since: now,
        expected: None,
        overdue_at: None,
        revision: 0,
        created_at: now,
        updated_at: now,
    };
    Ok(restarted(schedule, now)?)
}

fn exists(schedule: &Schedule) -> Error {
    let message = format!("schedule {} of this source exists already; change that one", schedule.id);
    Error::conflict("schedule_exists", message).details(json!({ "schedule_id": schedule.id }))
}

fn deed<'a>(action: &'a str, schedule: &'a Schedule, policy: Option<&Policy>) -> Deed<'a> {
    let (cron, interval_minutes) = match &schedule.rule {
        Rule::Cron(text) => (Some(text), None),
        Rule::Minutes(minutes) => (None, Some(minutes)),
    };
    Deed {
        action,
        target_type: "schedule",
        target_id: schedule.id.as_str(),
        tenant_id: Some(&schedule.tenant_id),
        details: json!({
            "source_id": schedule.source_id,
            "cron": cron,
            "interval_minutes": interval_minutes,
            "timezone": schedule.timezone,
            "enabled": schedule.enabled,
            "retention_policy": policy,
        }),
    }
}

/// The times of a schedule.
///
/// # Errors
/// When a zone that it was made with is not known here.
pub(crate) fn timing(schedule: &Schedule) -> std::result::Result<Timing, TimingError> {
    Timing::read(&schedule.id, &schedule.rule, &schedule.timezone, schedule.anchor_at)
}

/// The schedule as if it had just been made: from now on it runs, and a snapshot is expected, at its regular times.
fn restarted(schedule: Schedule, now: Timestamp) -> std::result::Result<Schedule, TimingError> {
    let timing = if schedule.enabled { Some(timing(&schedule)?) } else { None };
    let next_run_at = timing.as_ref().and_then(|timing| timing.next_after(now));
    let expected = timing.as_ref().and_then(|timing| timing.expectation(now));
    Ok(Schedule { next_run_at, watched_since: now, expected, overdue_at: None, ..schedule })
}

/// One schedule.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &ScheduleId) -> Result<Shown> {
    let mut conn = hub.db().conn().await?;
    let schedule = schedules::get(&mut conn, scope, id).await.map_err(Error::of("schedule"))?;
    let jobs = jobs::many(&mut conn, &last_jobs(std::slice::from_ref(&schedule))).await?;
    let retention_policy = retention::policy(&mut conn, &schedule.source_id).await?;
    Ok(Shown { schedule, job: jobs.into_iter().next(), retention_policy })
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(
    hub: &Hub,
    scope: &Scope,
    source_id: Option<&SourceId>,
    page: &Page,
) -> Result<Vec<Shown>> {
    let mut conn = hub.db().conn().await?;
    let schedules = schedules::list(&mut conn, scope, source_id, page).await?;
    let mut jobs = jobs::many(&mut conn, &last_jobs(&schedules)).await?;
    let mut shown = Vec::with_capacity(schedules.len());
    for schedule in schedules {
        let own = jobs.iter().position(|job| Some(&job.id) == last_job(&schedule));
        let job = own.map(|at| jobs.swap_remove(at));
        let retention_policy = retention::policy(&mut conn, &schedule.source_id).await?;
        shown.push(Shown { schedule, job, retention_policy });
    }
    Ok(shown)
}

fn last_jobs(schedules: &[Schedule]) -> Vec<JobId> {
    schedules.iter().filter_map(last_job).cloned().collect()
}

fn last_job(schedule: &Schedule) -> Option<&JobId> {
    match &schedule.last_run.as_ref()?.outcome {
        RunOutcome::Job(id) => Some(id),
        RunOutcome::Skipped { .. } => None,
    }
}

/// Changes what is asked for. When its times are not the same any more, it starts anew with them.
pub(crate) async fn update(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &ScheduleId,
    change: Change,
) -> Result<Shown> {
    let decide = |before: &Schedule, now| changed(before, &change, now);
    let (mut tx, schedule) = rewrite(hub, scope, id, decide).await?;
    if let Some(policy) = &change.retention_policy {
        replace(&mut tx, hub, &schedule.source_id, policy.as_ref()).await?;
    }
    let policy = retention::policy(&mut tx, &schedule.source_id).await?;
    record(&mut tx, hub, who, deed("schedule.update", &schedule, policy.as_ref())).await?;
    tx.commit().await.map_err(DbError::from)?;
    get(hub, scope, id).await
}

fn changed(before: &Schedule, change: &Change, now: Timestamp) -> Result<Schedule> {
    let rule = change.rule.as_ref().unwrap_or(&before.rule).clone();
    let after = Schedule {
        anchor_at: if rule == before.rule { before.anchor_at } else { now },
        rule,
        timezone: change.timezone.as_ref().unwrap_or(&before.timezone).clone(),
        enabled: change.enabled.unwrap_or(before.enabled),
        updated_at: now,
        ..before.clone()
    };
    let times = |schedule: &Schedule| (schedule.rule.clone(), schedule.timezone.clone(), schedule.enabled);
    if times(&after) == times(before) { Ok(after) } else { Ok(restarted(after, now)?) }
}

/// Reads a schedule, lets `decide` change it, and writes it back: a transaction that is to be committed. When the row was
/// changed by somebody else in between, all of it is done again.
async fn rewrite(
    hub: &Hub,
    scope: &Scope,
    id: &ScheduleId,
    decide: impl Fn(&Schedule, Timestamp) -> Result<Schedule>,
) -> Result<(Transaction<'static, Any>, Schedule)> {
    for _ in 0..ROUNDS {
        let before = schedules::get(&mut *hub.db().conn().await?, scope, id).await;
        let after = decide(&before.map_err(Error::of("schedule"))?, hub.clock().now())?;
        let mut tx = hub.db().begin().await?;
        // Before the schedule's: that is the order of everybody who needs both.
        sources::lock_snapshots(&mut tx, &after.source_id).await?;
        if schedules::save(&mut tx, &after).await? {
            return Ok((tx, after));
        }
        tx.rollback().await.map_err(DbError::from)?;
    }
    Err(Error::conflict("contended", "the schedule is being changed by others; try again"))
}

/// Removes a schedule, and its source's retention policy with it: where no snapshots come, none shall go.
pub(crate) async fn delete(hub: &Hub, who: &Principal, scope: &Scope, id: &ScheduleId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    let schedule = schedules::get(&mut tx, scope, id).await.map_err(Error::of("schedule"))?;
    sources::lock_snapshots(&mut tx, &schedule.source_id).await?;
    let policy = retention::policy(&mut tx, &schedule.source_id).await?;
    schedules::delete(&mut tx, id).await.map_err(Error::of("schedule"))?;
    replace(&mut tx, hub, &schedule.source_id, None).await?;
    record(&mut tx, hub, who, deed("schedule.delete", &schedule, policy.as_ref())).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}

/// The next `count` runs, if it is enabled and none is skipped, and the times they come from.
pub(crate) async fn preview(
    hub: &Hub,
    scope: &Scope,
    id: &ScheduleId,
    count: usize,
) -> Result<(Timing, Vec<Timestamp>)> {
    let schedule = schedules::get(&mut *hub.db().conn().await?, scope, id).await;
    let timing = timing(&schedule.map_err(Error::of("schedule"))?)
        .map_err(|error| Error::conflict("schedule_unreadable", error.to_string()))?;
    let runs = timing.runs_after(hub.clock().now()).take(count).collect();
    Ok((timing, runs))
}
