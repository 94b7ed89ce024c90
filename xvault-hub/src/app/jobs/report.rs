//! What a worker says while it works. Each call keeps its lease alive.

use jiff::Timestamp;
use xvault_core::job::Refusal;
use xvault_core::protocol::{
    JobProgress, LeaseAnswer, LogLevel, LogLine, Logs, MAX_LOG_LINES, MAX_LOG_MESSAGE, Renew, Report,
};
use xvault_core::{JobId, LeaseToken, WorkerId};

use super::complete::unaddressed;
use super::{change, cleaned, commit, lease_answer};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db::{Scope, job_logs, jobs::JobRow, stores};

/// With this phase a job becomes *finalizing*.
const READ_BACK: &str = "read_back";
/// The longest name of a phase, in bytes.
const MAX_PHASE: usize = 64;

/// Refuses a job that a lease of somebody else is on. That the token fits, the transition sees to.
pub(super) fn held(job: &JobRow, worker: &WorkerId) -> Result<()> {
    match job.life.lease() {
        Some(lease) if lease.worker_id != *worker => Err(Refusal::LeaseLost.into()),
        _ => Ok(()),
    }
}

/// Keeps a lease alive.
pub(crate) async fn renew(hub: &Hub, worker: &WorkerId, id: &JobId, renew: Renew) -> Result<LeaseAnswer> {
    let decide = |job: &JobRow, now| renewed(hub, job, worker, &renew.lease_token, now);
    keep(hub, id, decide).await
}

/// Writes down that a job's holder was heard. Where the hub can't, it takes note that it has missed somebody.
async fn keep(
    hub: &Hub,
    id: &JobId,
    decide: impl Fn(&JobRow, Timestamp) -> Result<JobRow> + Sync,
) -> Result<LeaseAnswer> {
    let kept = async {
        let (tx, _) = change(hub, &Scope::All, id, decide).await?;
        commit(tx).await
    };
    match kept.await {
        Ok(()) => Ok(lease_answer(hub)),
        Err(error) => {
            if error.is_ours() {
                hub.miss_renewal();
            }
            Err(error)
        }
    }
}

fn renewed(hub: &Hub, job: &JobRow, worker: &WorkerId, token: &LeaseToken, now: Timestamp) -> Result<JobRow> {
    held(job, worker)?;
    Ok(job.with(job.life.renew(token, now, hub.settings().lease)?, now))
}

/// Takes note of how far a job has come.
pub(crate) async fn report(hub: &Hub, worker: &WorkerId, id: &JobId, said: Report) -> Result<LeaseAnswer> {
    let progress = JobProgress { phase: cleaned(&said.progress.phase, MAX_PHASE), ..said.progress };
    let value = serde_json::to_value(&progress).map_err(|error| Error::internal(&error))?;
    let decide = |job: &JobRow, now| {
        let mut job = renewed(hub, job, worker, &said.lease_token, now)?;
        if progress.phase == READ_BACK {
            job.life = job.life.finalize(&said.lease_token)?;
        }
        Ok(JobRow { progress: Some(value.clone()), ..job })
    };
    keep(hub, id, decide).await
}

/// Adds lines to a job's log.
pub(crate) async fn add_logs(hub: &Hub, worker: &WorkerId, id: &JobId, said: Logs) -> Result<LeaseAnswer> {
    if said.lines.len() > MAX_LOG_LINES {
        return Err(Error::invalid_field("lines", format!("at most {MAX_LOG_LINES} lines fit in one call")));
    }
    let decide = |job: &JobRow, now| renewed(hub, job, worker, &said.lease_token, now);
    let (mut tx, job) = change(hub, &Scope::All, id, decide).await?;
    let stores = match said.lines.iter().any(tells_of_a_store) {
        true => stores::of_job(&mut tx, &job).await?,
        false => Vec::new(),
    };
    let clean = |line: LogLine| LogLine {
        message: cleaned(&unaddressed(line.message, &stores), MAX_LOG_MESSAGE),
        ..line
    };
    let lines: Vec<_> = said.lines.into_iter().map(clean).collect();
    job_logs::insert(&mut tx, id, job.runs, &lines).await?;
    commit(tx).await?;
    Ok(lease_answer(hub))
}

/// Whether the line may quote a store's server, as failures do: then it is shown as the job's error is.
fn tells_of_a_store(line: &LogLine) -> bool {
    matches!(line.level, LogLevel::Warn | LogLevel::Error)
}
