//! Runs what is due: a schedule's next time moves on and its job is made in one transaction.
//!
//! So no run is lost or done twice, however many hubs do this at once and whenever one of them dies: whoever writes a schedule
//! back first has run it. A hub that was down finds a schedule due once, however many of its times have passed. Many
//! schedules are due at the same time: each statement is about all of a batch.

mod fate;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, Transaction};
use xvault_core::{JobId, JobKind, SourceId};

use super::audit::{Deed, record_by_scheduler};
use super::jobs::job_deed;
use super::wake;
use crate::Hub;
use crate::db::jobs::JobRow;
use crate::db::schedules::{self, LastRun, RunOutcome, Schedule};
use crate::db::sources::{self, SourceStatus};
use crate::db::{self, Dialect, jobs};
use fate::{Fate, Why};

/// A schedule whose time has come, as it was read, and what becomes of it.
struct Run {
    schedule: Schedule,
    fate: Fate,
}

/// Handles schedules whose time has come, at most `limit` of them; gives how many there were.
pub(crate) async fn run_due(hub: &Hub, limit: u32) -> db::Result<u32> {
    let now = hub.clock().now();
    let due = schedules::due(&mut *hub.db().conn().await?, now, limit).await?;
    let found = u32::try_from(due.len()).unwrap_or(u32::MAX);
    if found == 0 {
        return Ok(0);
    }
    let runs = fate::of_all(hub, due).await?;
    let mut tx = hub.db().begin().await?;
    let made = settle(&mut tx, hub.db().dialect(), runs, now).await?;
    tx.commit().await?;
    for job in &made {
        wake::push(hub, job);
    }
    Ok(found)
}

/// Writes down what becomes of schedules, and gives the jobs that were made.
async fn settle(
    tx: &mut Transaction<'static, Any>,
    dialect: Dialect,
    runs: Vec<Run>,
    now: Timestamp,
) -> db::Result<Vec<JobRow>> {
    let mut runs = lock(tx, dialect, runs).await?;
    let after: Vec<_> = runs.iter().map(|run| fate::after(&run.schedule, &run.fate, now)).collect();
    // Of the rest another hub was faster, or somebody changed them: what is still due then, the next round finds.
    let moved = schedules::save_course(tx, &after.iter().collect::<Vec<_>>()).await?;
    runs.retain(|run| moved.contains(&run.schedule.id));
    let made = add_jobs(tx, &mut runs, now).await?;
    record_by_scheduler(tx, runs.iter().filter_map(deed).collect(), now).await?;
    let jobs = runs.into_iter().filter_map(|run| match run.fate {
        Fate::Run(job) if made.contains(&job.id) => Some(*job),
        _ => None,
    });
    Ok(jobs.collect())
}

/// From here on nobody deletes or disables their sources. Runs of sources that were deleted are left out, with their schedules.
async fn lock(tx: &mut Transaction<'static, Any>, dialect: Dialect, runs: Vec<Run>) -> db::Result<Vec<Run>> {
    let ids: Vec<_> = runs.iter().map(|run| &run.schedule.source_id).collect();
    let locked = sources::lock_all(tx, dialect, &ids).await?;
    for gone in ids.into_iter().filter(|id| !locked.contains_key(*id)) {
        schedules::delete_for_source(tx, gone).await?;
    }
    Ok(runs.into_iter().filter_map(|run| settled(run, &locked)).collect())
}

fn settled(run: Run, locked: &HashMap<SourceId, SourceStatus>) -> Option<Run> {
    match locked.get(&run.schedule.source_id)? {
        SourceStatus::Disabled => Some(Run { fate: Fate::source_disabled(), ..run }),
        SourceStatus::Active | SourceStatus::Deleted => Some(run),
    }
}

/// Adds the jobs of runs, and gives the ids of those that were added. Runs of busy sources become skipped ones.
async fn add_jobs(
    tx: &mut Transaction<'static, Any>,
    runs: &mut [Run],
    now: Timestamp,
) -> db::Result<HashSet<JobId>> {
    let jobs: Vec<_> = runs.iter().filter_map(Run::job).collect();
    let made = jobs::insert_unless_excluded(tx, &jobs).await?;
    for run in runs.iter_mut().filter(|run| run.job().is_some_and(|job| !made.contains(&job.id))) {
        run.fate = Fate::Skip(busy(tx, &run.schedule).await?);
        // Saved once already, by ourselves.
        let skipped = fate::after(&run.schedule, &run.fate, now);
        let skipped = Schedule { revision: run.schedule.revision + 1, ..skipped };
        schedules::save_course(tx, &[&skipped]).await?;
    }
    Ok(made)
}

async fn busy(tx: &mut Transaction<'static, Any>, schedule: &Schedule) -> db::Result<Why> {
    let job = jobs::unfinished(tx, &schedule.source_id, JobKind::Backup).await?;
    let job = job.map_or_else(|| "another job".to_owned(), |id| format!("job {id}"));
    let message = format!("the source was busy: {job} was not finished");
    Ok(Why { code: "source_busy".to_owned(), message })
}

/// What is written down of a run: its job, or why it was skipped; when it is tried again and again, once.
fn deed(run: &Run) -> Option<Deed<'_>> {
    let before = &run.schedule;
    let why = match &run.fate {
        Fate::Run(job) => return Some(job_deed(job, "job.enqueue")),
        Fate::Skip(why) => why,
        Fate::Wait(why, _) if !was_skipped_for(before, why) => why,
        Fate::Wait(..) | Fate::Rest(_) => return None,
    };
    tracing::info!(schedule_id = %before.id, tenant_id = %before.tenant_id, code = why.code, "scheduled run skipped");
    Some(Deed {
        action: "schedule.skip",
        target_type: "schedule",
        target_id: before.id.as_str(),
        tenant_id: Some(&before.tenant_id),
        details: json!({ "source_id": before.source_id, "code": why.code, "message": why.message }),
    })
}

fn was_skipped_for(schedule: &Schedule, why: &Why) -> bool {
    matches!(&schedule.last_run, Some(LastRun { outcome: RunOutcome::Skipped { code, .. }, .. }) if *code == why.code)
}

impl Run {
    fn job(&self) -> Option<&JobRow> {
        match &self.fate {
            Fate::Run(job) => Some(job),
            Fate::Skip(_) | Fate::Wait(..) | Fate::Rest(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
