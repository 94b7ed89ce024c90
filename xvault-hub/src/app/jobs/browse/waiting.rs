//! The wait for an answer, and what becomes of the job when nobody waits any more.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tokio::time::Instant;
use xvault_core::error::chain;
use xvault_core::protocol::Browsed;
use xvault_core::{JobId, JobStatus};

use super::super::{change, commit};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db::jobs::{self, JobRow};
use crate::db::{self, Scope};

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(40);

/// Somebody who waits for a job. Dropped before it is over, it cancels the job.
pub(super) struct Waiting {
    hub: Hub,
    id: JobId,
    until: Instant,
    over: bool,
}

impl Waiting {
    pub(super) fn of(hub: &Hub, job: &JobRow) -> Self {
        let until = Instant::now() + hub.settings().browse_wait;
        Self { hub: hub.clone(), id: job.id.clone(), until, over: false }
    }

    /// What the worker saw, or why it did not look.
    pub(super) async fn answer(mut self) -> Result<Browsed> {
        loop {
            tokio::time::sleep(POLL).await;
            let job = jobs::get(&mut *self.hub.db().conn().await?, &Scope::All, &self.id).await;
            let job = job.map_err(Error::of("job"))?;
            if job.status().is_finished() {
                self.over = true;
                // What is left the janitor removes.
                jobs::delete_browse(&mut *self.hub.db().conn().await?, &self.id).await?;
                return told(job);
            }
            if Instant::now() >= self.until {
                return Err(too_slow(&job));
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (hub, id) = (self.hub.clone(), self.id.clone());
        tokio::spawn(async move {
            if let Err(error) = cancel(&hub, &id).await {
                tracing::debug!(job_id = %id, ?error, "a look that nobody waits for goes on");
            }
        });
    }
}

/// Ends a job that nobody waits for: its worker learns it with its next call.
pub(super) async fn cancel(hub: &Hub, id: &JobId) -> Result<()> {
    let stop = |job: &JobRow, now| Ok(job.with(job.life.cancel()?, now));
    let (tx, job) = change(hub, &Scope::All, id, stop).await?;
    commit(tx).await?;
    hub.metrics().finished(job.kind, job.status(), None);
    Ok(())
}

fn told(job: JobRow) -> Result<Browsed> {
    if let Some(result) = job.result {
        let found = serde_json::from_value(result);
        return found.map_err(|error| {
            tracing::error!(job_id = %job.id, cause = %chain(&error), "what a worker saw can't be read");
            db::Error::Corrupt { column: "result" }.into()
        });
    }
    let error = job.life.error;
    let code = error.as_ref().map_or("canceled", |error| error.code.as_str());
    let message = error.as_ref().map_or("somebody canceled it", |error| error.message.as_str());
    let message = format!("the worker could not look into the snapshot: {message}");
    Err(Error::new(StatusCode::BAD_GATEWAY, "browse_failed", message).details(json!({ "code": code })))
}

fn too_slow(job: &JobRow) -> Error {
    let worker = job.target_worker_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = match job.status() {
        JobStatus::Queued => {
            format!("worker {worker} did not begin in time: it may be down, or busy; try again")
        }
        _ => format!("worker {worker} did not come to an end in time; ask for less, or try again"),
    };
    Error::new(StatusCode::GATEWAY_TIMEOUT, "browse_timeout", message)
}
