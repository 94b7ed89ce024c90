//! Runs what is due: a schedule's next time moves on and its job is made in one transaction.
//!
//! So no run is lost or done twice, however many hubs do this at once and whenever one of them dies: whoever writes a schedule
//! back first has run it. A hub that was down finds a schedule due once, however many of its times have passed.

mod fate;

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, Transaction};

use super::audit::{Deed, record_by_scheduler};
use super::jobs::job_deed;
use super::wake;
use crate::db::jobs::JobRow;
use crate::db::schedules::{self, LastRun, RunOutcome, Schedule};
use crate::db::sources::{self, SourceStatus};
use crate::db::{self, jobs};
use crate::{DbError, Hub};
use fate::{Fate, Why};

/// Handles schedules whose time has come, at most `limit` of them; gives how many there were.
pub(crate) async fn run_due(hub: &Hub, limit: u32) -> db::Result<u32> {
    let now = hub.clock().now();
    let mut due = schedules::due(&mut *hub.db().conn().await?, now, limit).await?;
    let found = u32::try_from(due.len()).unwrap_or(u32::MAX);
    // In the same order everywhere: hubs that run the same schedules wait for each other, and not in a circle.
    due.sort_by(|a, b| a.source_id.cmp(&b.source_id));
    let mut fates = Vec::with_capacity(due.len());
    for schedule in due {
        let fate = fate::of(hub, &schedule).await?;
        fates.push((schedule, fate));
    }
    settle_all(hub, fates, now).await?;
    Ok(found)
}

/// Writes down what becomes of schedules, and wakes workers for their jobs.
async fn settle_all(hub: &Hub, fates: Vec<(Schedule, Fate)>, now: Timestamp) -> db::Result<()> {
    if fates.is_empty() {
        return Ok(());
    }
    let mut tx = hub.db().begin().await?;
    let mut made = Vec::new();
    for (schedule, fate) in fates {
        made.extend(settle(&mut tx, &schedule, fate, now).await?);
    }
    tx.commit().await?;
    for job in &made {
        wake::push(hub, job);
    }
    Ok(())
}

/// The job that a schedule has made, if it has made one.
async fn settle(
    tx: &mut Transaction<'static, Any>,
    schedule: &Schedule,
    fate: Fate,
    now: Timestamp,
) -> db::Result<Option<JobRow>> {
    // From here on nobody deletes or disables the source.
    let status = match sources::lock_status(tx, &schedule.source_id).await {
        Err(DbError::NotFound) => {
            schedules::delete_for_source(tx, &schedule.source_id).await?;
            return Ok(None);
        }
        status => status?,
    };
    let fate = if status == SourceStatus::Disabled { Fate::source_disabled() } else { fate };
    let after = fate::after(schedule, &fate, now);
    if !schedules::save(tx, &after).await? {
        // Another hub was faster, or somebody changed it: if it is still due then, the next round finds it.
        return Ok(None);
    }
    let Fate::Run(job) = fate else {
        tell(tx, schedule, &fate, now).await?;
        return Ok(None);
    };
    if jobs::insert_unless_excluded(tx, &job).await? {
        record_by_scheduler(tx, job_deed(&job, "job.enqueue"), now).await?;
        return Ok(Some(*job));
    }
    let busy = Fate::Skip(busy(tx, schedule).await?);
    let skipped = fate::after(schedule, &busy, now);
    schedules::save(tx, &Schedule { revision: schedule.revision + 1, ..skipped }).await?;
    tell(tx, schedule, &busy, now).await?;
    Ok(None)
}

async fn busy(tx: &mut Transaction<'static, Any>, schedule: &Schedule) -> db::Result<Why> {
    let job = jobs::unfinished_backup(tx, &schedule.source_id).await?;
    let job = job.map_or_else(|| "another job".to_owned(), |id| format!("job {id}"));
    let message = format!("the source was busy: {job} was not finished");
    Ok(Why { code: "source_busy".to_owned(), message })
}

/// Writes down a run that was skipped; one that is tried again and again, once.
async fn tell(
    tx: &mut Transaction<'static, Any>,
    before: &Schedule,
    fate: &Fate,
    now: Timestamp,
) -> db::Result<()> {
    let why = match fate {
        Fate::Skip(why) => why,
        Fate::Wait(why, _) if !was_skipped_for(before, why) => why,
        Fate::Wait(..) | Fate::Rest(_) | Fate::Run(_) => return Ok(()),
    };
    tracing::info!(schedule_id = %before.id, tenant_id = %before.tenant_id, code = why.code, "scheduled run skipped");
    let deed = Deed {
        action: "schedule.skip",
        target_type: "schedule",
        target_id: before.id.as_str(),
        tenant_id: Some(&before.tenant_id),
        details: json!({ "source_id": before.source_id, "code": why.code, "message": why.message }),
    };
    record_by_scheduler(tx, deed, now).await
}

fn was_skipped_for(schedule: &Schedule, why: &Why) -> bool {
    matches!(&schedule.last_run, Some(LastRun { outcome: RunOutcome::Skipped { code, .. }, .. }) if *code == why.code)
}

#[cfg(test)]
mod tests;
