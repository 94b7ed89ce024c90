//! Puts a plan into effect, source by source.
//!
//! Most evaluations find nothing to do, and only read. Otherwise the source is locked and judged again, so that whatever is
//! done follows from what is there at that moment: two hubs that do the same at once do it once, and what somebody deletes by
//! hand is no longer counted on.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::job::JobError;
use xvault_core::{JobKind, JobStatus, SourceId};
use xvault_retention::{Decision, Reason, Summary};

use super::judge::{Verdict, judge};
use crate::app::audit::{Deed, record_by_system};
use crate::app::jobs::{call_off, deletion};
use crate::app::wake;
use crate::db::retention::{self, Keeping};
use crate::db::{self, Scope, jobs, jobs::JobRow, snapshots, sources};
use crate::{DbError, Hub};

/// Deletions that are queued in one transaction: SQLite has one writer, and it must not be held up.
const BATCH: usize = 200;
/// Messages that are sent at once; those of the rest follow with the reconciler's next round.
const MESSAGES: usize = 8;
/// How often a round is tried anew because the snapshots or jobs it is about were changed in it.
const ROUNDS: u32 = 5;

/// What an evaluation of a source came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Of the last judgement.
    pub(crate) summary: Summary,
    /// Deletions that were queued.
    pub(crate) queued: usize,
    /// Deletions that were called off.
    pub(crate) spared: usize,
}

/// Applies its policy to a source that has one, and is active: to all of its snapshots, however many must go.
pub(super) async fn settle(hub: &Hub, source_id: &SourceId) -> db::Result<Option<Settled>> {
    let mut conn = hub.db().conn().await?;
    let keeping = retention::keeping(&mut conn, source_id).await?;
    let Some(policy) = keeping.policy.as_ref().filter(|_| keeping.is_active()) else { return Ok(None) };
    let verdict = judge(&mut conn, &keeping, policy, hub.clock().now()).await?;
    drop(conn);
    let mut settled = Settled { summary: verdict.plan.summary, ..Settled::default() };
    if verdict.is_settled() {
        return Ok(Some(settled));
    }
    let mut failures = 0;
    loop {
        match round(hub, source_id).await {
            Ok(done) => {
                settled.summary = done.summary;
                settled.queued += done.queued.len();
                settled.spared += done.spared;
                wake(hub, &done);
                if !done.more {
                    return Ok(Some(settled));
                }
            }
            // Somebody held or deleted one of them in this very moment.
            Err(DbError::Duplicate | DbError::NotFound) if failures < ROUNDS => failures += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What one transaction did.
#[derive(Debug, Default)]
struct Round {
    summary: Summary,
    queued: Vec<JobRow>,
    spared: usize,
    /// More must go than fits in one.
    more: bool,
}

async fn round(hub: &Hub, source_id: &SourceId) -> db::Result<Round> {
    let mut tx = hub.db().begin().await?;
    sources::lock_snapshots(&mut tx, source_id).await?;
    let keeping = retention::keeping(&mut tx, source_id).await?;
    let Some(policy) = keeping.policy.as_ref().filter(|_| keeping.is_active()) else {
        return Ok(Round::default());
    };
    let verdict = judge(&mut tx, &keeping, policy, hub.clock().now()).await?;
    let mut done = Round { summary: verdict.plan.summary, ..Round::default() };
    done.spared = call_off_kept(&mut tx, hub, &keeping, &verdict).await?;
    for decision in verdict.to_queue() {
        if done.queued.len() == BATCH {
            done.more = true;
            break;
        }
        let first = done.queued.len() < MESSAGES;
        done.queued.push(queue(&mut tx, hub, &keeping, decision, first).await?);
    }
    tx.commit().await?;
    Ok(done)
}

/// Queues the deletion of a snapshot. [`DbError::NotFound`] when it is gone or held by now.
async fn queue(
    conn: &mut AnyConnection,
    hub: &Hub,
    keeping: &Keeping,
    decision: &Decision,
    at_once: bool,
) -> db::Result<JobRow> {
    let now = hub.clock().now();
    let snapshot = snapshots::get(conn, &Scope::All, &decision.id).await?;
    let job = deletion(&snapshot, None, now);
    let job = if at_once { wake::with_message(job, now) } else { wake::with_message_at(job, now) };
    jobs::insert(conn, &job).await?;
    if !snapshots::mark_deleting(conn, &snapshot.id, now).await? {
        return Err(DbError::NotFound);
    }
    note(conn, hub, keeping, decision, &job, "snapshot.delete").await?;
    Ok(job)
}

/// Calls off what is queued and not wanted any more. Gives how many there were.
async fn call_off_kept(
    conn: &mut AnyConnection,
    hub: &Hub,
    keeping: &Keeping,
    verdict: &Verdict,
) -> db::Result<usize> {
    let mut spared = 0;
    for (decision, job) in verdict.to_spare() {
        let message = format!("retention keeps the snapshot: {}", sentence(&decision.reasons));
        if call_off(conn, job, kept(message), hub.clock().now()).await? {
            note(conn, hub, keeping, decision, job, "snapshot.keep").await?;
            spared += 1;
        }
    }
    Ok(spared)
}

fn kept(message: String) -> JobError {
    JobError { code: "kept".to_owned(), message }
}

fn sentence(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

async fn note(
    conn: &mut AnyConnection,
    hub: &Hub,
    keeping: &Keeping,
    decision: &Decision,
    job: &JobRow,
    action: &str,
) -> db::Result<()> {
    let deed = Deed {
        action,
        target_type: "snapshot",
        target_id: decision.id.as_str(),
        tenant_id: Some(&keeping.tenant_id),
        details: json!({ "source_id": keeping.source_id, "job_id": job.id, "reasons": decision.reasons }),
    };
    record_by_system(conn, deed, hub.clock().now()).await
}

fn wake(hub: &Hub, done: &Round) {
    hub.metrics().retention_queued(done.queued.len());
    for job in done.queued.iter().take(MESSAGES) {
        wake::push(hub, job);
    }
    for _ in 0..done.spared {
        hub.metrics().finished(JobKind::DeleteSnapshot, JobStatus::Canceled, None);
    }
}

/// In a transaction that has the source locked, after something changed that may make snapshots stay: calls off what is
/// queued and not wanted any more. Nothing is queued. A source without a policy wants nothing to go.
pub(crate) async fn spare(conn: &mut AnyConnection, hub: &Hub, source_id: &SourceId) -> db::Result<()> {
    let queued = jobs::queued_by_hub(conn, source_id).await?;
    if queued.is_empty() {
        return Ok(());
    }
    let keeping = retention::keeping(conn, source_id).await?;
    let now = hub.clock().now();
    let Some(policy) = &keeping.policy else {
        for job in &queued {
            call_off(conn, job, kept("the source has no retention policy any more".to_owned()), now).await?;
        }
        return Ok(());
    };
    let verdict = judge(conn, &keeping, policy, now).await?;
    call_off_kept(conn, hub, &keeping, &verdict).await?;
    Ok(())
}

/// A backup of the source was completed: applies its policy, beside whatever goes on. What fails is told, and tried again with
/// the next backup or pass.
pub(crate) fn after_backup(hub: &Hub, source_id: &SourceId) {
    let (hub, source_id) = (hub.clone(), source_id.clone());
    tokio::spawn(async move {
        if let Err(error) = settle(&hub, &source_id).await {
            hub.metrics().retention_failed();
            let cause = xvault_core::error::chain(&error);
            tracing::warn!(source_id = %source_id, cause, "retention could not be applied after a backup");
        }
    });
}
