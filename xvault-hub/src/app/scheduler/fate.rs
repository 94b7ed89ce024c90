//! What becomes of a schedule whose time has come: found out first, and then followed to the next time.

use jiff::{SignedDuration, Timestamp};

use super::Run;
use crate::api::error::Error;
use crate::app::jobs::scheduled_backup;
use crate::app::schedules::timing;
use crate::db::jobs::JobRow;
use crate::db::needs::{self, Needs};
use crate::db::schedules::{LastRun, RunOutcome, Schedule};
use crate::{DbError, Hub, db};

/// How soon a run is tried again for which there is no worker yet.
const NO_WORKER: SignedDuration = SignedDuration::from_mins(1);
/// How soon a schedule is looked at again whose times this hub can't read.
const UNREADABLE: SignedDuration = SignedDuration::from_hours(1);

/// Why a run is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    /// A word for programs.
    pub(super) code: String,
    /// A sentence for people.
    pub(super) message: String,
}

impl From<&Error> for Why {
    fn from(error: &Error) -> Self {
        Self { code: error.code().to_owned(), message: error.message().to_owned() }
    }
}

/// What becomes of a time that has come.
#[derive(Debug)]
pub(super) enum Fate {
    /// It becomes this job.
    Run(Box<JobRow>),
    /// It becomes nothing.
    Skip(Why),
    /// It is tried again after so long, or at the next regular time if that is sooner.
    Wait(Why, SignedDuration),
    /// It becomes nothing, and nobody expects anything: source or tenant is disabled.
    Rest(Why),
}

impl Fate {
    /// The source was disabled in the meantime.
    pub(super) fn source_disabled() -> Self {
        let message = "the source is disabled".to_owned();
        Self::Rest(Why { code: "source_disabled".to_owned(), message })
    }

    fn outcome(&self) -> RunOutcome {
        match self {
            Self::Run(job) => RunOutcome::Job(job.id.clone()),
            Self::Skip(why) | Self::Wait(why, _) | Self::Rest(why) => {
                RunOutcome::Skipped { code: why.code.clone(), message: why.message.clone() }
            }
        }
    }
}

/// Finds out what becomes of schedules that are due.
pub(super) async fn of_all(hub: &Hub, due: Vec<Schedule>) -> db::Result<Vec<Run>> {
    let ids: Vec<_> = due.iter().map(|schedule| &schedule.source_id).collect();
    let mut known = needs::of_sources(&mut *hub.db().conn().await?, &ids).await?;
    let mut runs = Vec::with_capacity(due.len());
    for schedule in due {
        let needs = known.remove(&schedule.source_id).unwrap_or(Err(DbError::NotFound));
        let fate = of(hub, &schedule, needs).await?;
        runs.push(Run { schedule, fate });
    }
    Ok(runs)
}

async fn of(hub: &Hub, schedule: &Schedule, needs: db::Result<Needs>) -> db::Result<Fate> {
    if let Err(error) = timing(schedule) {
        let why = Why { code: "schedule_unreadable".to_owned(), message: error.to_string() };
        return Ok(Fate::Wait(why, UNREADABLE));
    }
    let needs = match needs {
        Ok(needs) => needs,
        Err(error) => {
            let why = Why { code: "source_unreadable".to_owned(), message: error.to_string() };
            return Ok(Fate::Skip(why));
        }
    };
    let refusal = match scheduled_backup(hub, schedule, &needs).await {
        Ok(job) => return Ok(Fate::Run(Box::new(job))),
        Err(error) => error,
    };
    let why = Why::from(&refusal);
    match refusal.code() {
        "unavailable" => Err(DbError::Sql(sqlx::Error::PoolTimedOut)),
        "no_worker" => Ok(Fate::Wait(why, NO_WORKER)),
        "source_disabled" | "tenant_disabled" => Ok(Fate::Rest(why)),
        _ => Ok(Fate::Skip(why)),
    }
}

/// The schedule after that: when it runs next, what came of this time, and what is expected of it.
pub(super) fn after(schedule: &Schedule, fate: &Fate, now: Timestamp) -> Schedule {
    let timing = timing(schedule).ok();
    let regular = timing.as_ref().and_then(|timing| timing.next_after(now));
    let next_run_at = match fate {
        Fate::Wait(_, pause) => {
            let soon = now.checked_add(*pause).unwrap_or(Timestamp::MAX);
            Some(regular.map_or(soon, |regular| regular.min(soon)))
        }
        Fate::Run(_) | Fate::Skip(_) | Fate::Rest(_) => regular,
    };
    let last_run = Some(LastRun { at: now, outcome: fate.outcome() });
    let after = Schedule { next_run_at, last_run, ..schedule.clone() };
    match fate {
        Fate::Rest(_) => {
            let expected = timing.and_then(|timing| timing.expectation(now));
            Schedule { watched_since: now, expected, overdue_at: None, ..after }
        }
        _ => after,
    }
}
