//! A worker takes a job.

use jiff::Timestamp;
use xvault_core::job::Refusal;
use xvault_core::protocol::{Claim, ClaimAnswer};
use xvault_core::{ClaimNonce, JobId, JobKind, LeaseToken, SnapshotId, WorkerId};

use super::delete::{self, Begun};
use super::{ROUNDS, assign, attempt};
use crate::Hub;
use crate::api::error::Result;
use crate::app::wake;
use crate::db::workers::Worker;
use crate::db::{Scope, jobs, jobs::JobRow, workers};

/// How many queued jobs are looked at when a worker takes what there is.
const CANDIDATES: i64 = 16;

/// Gives the worker the job it names, or the one that shall go first. Only its holder is told what the job needs.
pub(crate) async fn claim(hub: &Hub, worker_id: &WorkerId, claim: Claim) -> Result<ClaimAnswer> {
    let worker = workers::get(&mut *hub.db().conn().await?, worker_id).await?;
    if worker.recipient.is_none() {
        return Ok(nothing("the worker must register first"));
    }
    let won = match &claim.job_id {
        Some(id) => claim_one(hub, &worker, id, claim.nonce.as_ref()).await?,
        None => claim_any(hub, &worker).await?,
    };
    match won {
        Ok(job) => assign::assign(hub, &worker, &job).await,
        Err(reason) => Ok(nothing(reason)),
    }
}

fn nothing(reason: impl Into<String>) -> ClaimAnswer {
    ClaimAnswer::Nothing { reason: reason.into() }
}

/// The job, or why not.
type Won = std::result::Result<JobRow, String>;

async fn claim_one(hub: &Hub, worker: &Worker, id: &JobId, nonce: Option<&ClaimNonce>) -> Result<Won> {
    for _ in 0..ROUNDS {
        let job = match jobs::get(&mut *hub.db().conn().await?, &Scope::All, id).await {
            Err(crate::DbError::NotFound) => return Ok(Err("there is no such job".to_owned())),
            job => job?,
        };
        let taken = match given(&job, worker, nonce) {
            Some(token) => give_again(hub, &job, &token).await?,
            None => match may_take(hub, worker, &job).await? {
                Ok(()) => take(hub, worker, &job, nonce).await?,
                Err(reason) => return Ok(Err(reason.to_owned())),
            },
        };
        match taken {
            Taken::Yes(job) => return Ok(Ok(*job)),
            Taken::Refused(reason) => return Ok(Err(reason)),
            Taken::Changed => {}
        }
    }
    Ok(Err("others were faster".to_owned()))
}

/// As [`may_run`]. The message of a job that this worker may not run is sent to one that may.
async fn may_take(hub: &Hub, worker: &Worker, job: &JobRow) -> Result<std::result::Result<(), &'static str>> {
    let may = may_run(worker, job);
    // To the same worker it would come back at once, and for ever.
    let is_own = job.target_worker_id.as_ref() == Some(&worker.id);
    if may.is_err() && !is_own && !job.status().is_finished() && job.life.lease().is_none() {
        wake::redirect(hub, job).await?;
    }
    Ok(may)
}

/// The token that this very claim was given: its answer was lost.
fn given(job: &JobRow, worker: &Worker, nonce: Option<&ClaimNonce>) -> Option<LeaseToken> {
    let token = token(job, job.runs, &worker.id, nonce?);
    job.life
        .lease()
        .is_some_and(|lease| lease.worker_id == worker.id && lease.token == token)
        .then_some(token)
}

/// The lease token of a claim: of no other claim, and of no other run if the worker says the same nonce twice.
fn token(job: &JobRow, run: u32, worker: &WorkerId, nonce: &ClaimNonce) -> LeaseToken {
    LeaseToken::derive(&format!("{} {run} {worker} {nonce}", job.id))
}

/// The lease counts from now, as the answer will say.
async fn give_again(hub: &Hub, job: &JobRow, token: &LeaseToken) -> Result<Taken> {
    let now = hub.clock().now();
    let after = job.with(job.life.renew(token, now, hub.settings().lease)?, now);
    saved(hub, after, now).await
}

async fn claim_any(hub: &Hub, worker: &Worker) -> Result<Won> {
    for _ in 0..ROUNDS {
        let now = hub.clock().now();
        let candidates = jobs::eligible(&mut *hub.db().conn().await?, worker, now, CANDIDATES).await?;
        if candidates.is_empty() {
            return Ok(Err("there is no job for this worker".to_owned()));
        }
        for job in candidates {
            if let Taken::Yes(job) = take(hub, worker, &job, None).await? {
                return Ok(Ok(*job));
            }
        }
    }
    Ok(Err("others were faster".to_owned()))
}

/// Whether a worker may run a job at all.
fn may_run(worker: &Worker, job: &JobRow) -> std::result::Result<(), &'static str> {
    if job.target_worker_id.as_ref().is_some_and(|target| *target != worker.id) {
        Err("the job is for another worker")
    } else if !worker.is_capable(job.capability.as_deref()) {
        Err("the worker can't pull sources of this type")
    } else if worker.is_draining() && (job.target_worker_id.is_none() || job.kind == JobKind::Backup) {
        Err("the worker drains")
    } else {
        Ok(())
    }
}

enum Taken {
    Yes(Box<JobRow>),
    Refused(String),
    /// The row was changed by somebody else.
    Changed,
}

async fn take(hub: &Hub, worker: &Worker, job: &JobRow, nonce: Option<&ClaimNonce>) -> Result<Taken> {
    let now = hub.clock().now();
    let run = job.runs.saturating_add(1);
    let token = nonce.map_or_else(LeaseToken::generate, |nonce| token(job, run, &worker.id, nonce));
    let after = match claimed(job, now, (&worker.id, token), hub) {
        Ok(after) => after,
        Err(refusal) => return refused(hub, job, &refusal).await,
    };
    match job.kind {
        JobKind::Backup => {
            let begun = attempt::begin(hub, after, now).await?;
            return Ok(begun.map_or(Taken::Changed, taken));
        }
        JobKind::Replicate => {
            let begun = attempt::begin_copy(hub, &after, now).await?;
            return Ok(if begun { taken(after) } else { Taken::Changed });
        }
        JobKind::DeleteSnapshot => {}
        _ => return saved(hub, after, now).await,
    }
    Ok(match delete::begin(hub, job, &after, now).await? {
        Begun::Yes => taken(after),
        Begun::Changed => Taken::Changed,
        Begun::No(reason) => Taken::Refused(reason),
    })
}

/// By the clock of the hub that sent the message the job's time had come. Here it comes a little later, and nobody else would tell.
async fn refused(hub: &Hub, job: &JobRow, refusal: &Refusal) -> Result<Taken> {
    if let Refusal::TooEarly { .. } = refusal {
        jobs::push_in_time(&mut *hub.db().conn().await?, &job.id).await?;
    }
    Ok(Taken::Refused(refusal.to_string()))
}

async fn saved(hub: &Hub, after: JobRow, now: Timestamp) -> Result<Taken> {
    let is_saved = jobs::save(&mut *hub.db().conn().await?, &after, now).await?;
    Ok(if is_saved { taken(after) } else { Taken::Changed })
}

/// The row as it is written now.
fn taken(after: JobRow) -> Taken {
    Taken::Yes(Box::new(JobRow { revision: after.revision + 1, ..after }))
}

/// Each attempt at a backup makes a snapshot of its own, so that what a dead one left behind can be told.
fn claimed(
    job: &JobRow,
    now: Timestamp,
    (worker, token): (&WorkerId, LeaseToken),
    hub: &Hub,
) -> std::result::Result<JobRow, Refusal> {
    let life = job.life.claim(now, worker, token, hub.settings().lease)?;
    let after = JobRow { progress: None, ..job.with(life, now) };
    Ok(match job.kind {
        JobKind::Backup => JobRow { snapshot_id: Some(SnapshotId::generate()), ..after },
        _ => after,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Clock;
    use crate::app::bench::{Bench, on_both_engines};

    /// The clocks of two hubs agree but for the time that an answer of the database takes.
    async fn a_claim_that_comes_too_early_by_another_hubs_clock_is_made_again_in_time(bench: Bench) {
        let (worker, id) = (bench.worker("w").await, bench.backup().await);
        let behind = Clock::manual(bench.hub.clock().now() - Duration::from_millis(400));
        let other = bench.hub_at(behind.clone()).await;
        let early = claim(&other, &worker, Claim { job_id: Some(id), nonce: None }).await.unwrap();
        assert!(matches!(early, ClaimAnswer::Nothing { .. }), "{early:?}");
        assert_eq!(wake::push_due(&other, 10).await.unwrap().sent, 0);
        behind.advance(Duration::from_millis(400));
        assert_eq!(wake::push_due(&other, 10).await.unwrap().sent, 1);
        assert_eq!(wake::push_due(&other, 10).await.unwrap().sent, 0);
    }

    on_both_engines!(a_claim_that_comes_too_early_by_another_hubs_clock_is_made_again_in_time);
}
