//! Retention of all sources, one after the other: what it needs does not grow with their number.

use std::time::Duration;

use tokio::time::Instant;
use xvault_core::error::chain;
use xvault_core::{SnapshotId, SourceId};
use xvault_retention::Summary;

use super::settle::{Settled, settle};
use crate::api::error::{Error, Result};
use crate::app::jobs::resume;
use crate::db::retention::Pause;
use crate::db::{self, Scope, retention, snapshots};
use crate::{DbError, Hub};

/// Sources that are asked for at once.
const PAGE: u32 = 500;
/// Of so many sources the outcome is told one by one.
const MAX_RESULTS: usize = 1000;

/// What came of one source.
#[derive(Debug, Clone)]
pub(crate) struct SourceResult {
    pub(crate) source_id: SourceId,
    /// None: it failed, for this reason.
    pub(crate) settled: std::result::Result<Settled, String>,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The first of them, in the order of their ids.
    pub(crate) results: Vec<SourceResult>,
    /// Those that are not told one by one.
    pub(crate) left_out: usize,
    /// Sources whose policy was applied.
    pub(crate) sources: usize,
    /// Sources where that failed.
    pub(crate) failed: usize,
    /// Of all of them.
    pub(crate) summary: Summary,
    /// Deletions that were queued.
    pub(crate) queued: usize,
    /// Deletions that were called off.
    pub(crate) spared: usize,
}

impl Report {
    fn add(&mut self, source_id: SourceId, settled: std::result::Result<Settled, String>) {
        match &settled {
            Ok(settled) => self.count(settled),
            Err(_) => self.failed += 1,
        }
        if self.results.len() < MAX_RESULTS {
            self.results.push(SourceResult { source_id, settled });
        } else {
            self.left_out += 1;
        }
    }

    fn count(&mut self, settled: &Settled) {
        self.sources += 1;
        self.summary.total_snapshots += settled.summary.total_snapshots;
        self.summary.total_to_keep += settled.summary.total_to_keep;
        self.summary.total_to_delete += settled.summary.total_to_delete;
        self.queued += settled.queued;
        self.spared += settled.spared;
    }
}

/// Applies the policy of every active source that has one, and goes on with deletions that broke off. A source that fails
/// does not stop the others; a database that is away does.
pub(crate) async fn run_all(hub: &Hub) -> db::Result<Report> {
    let (begin, mut report) = (Instant::now(), Report::default());
    resume_broken_off(hub).await?;
    let mut last: Option<SourceId> = None;
    loop {
        let page = retention::with_policy(&mut *hub.db().conn().await?, last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else { break };
        last = Some(end.clone());
        for source_id in page {
            apply(hub, source_id, &mut report).await?;
        }
    }
    tell(hub, &report, begin.elapsed());
    Ok(report)
}

async fn apply(hub: &Hub, source_id: SourceId, report: &mut Report) -> db::Result<()> {
    match settle(hub, &source_id).await {
        Ok(Some(settled)) => report.add(source_id, Ok(settled)),
        // Deleted, disabled or without a policy since it was listed.
        Ok(None) => {}
        Err(error @ DbError::Sql(_)) => return Err(error),
        Err(error) => {
            hub.metrics().retention_failed();
            let cause = chain(&error);
            tracing::warn!(source_id = %source_id, cause, "retention could not be applied");
            report.add(source_id, Err(cause));
        }
    }
    Ok(())
}

fn tell(hub: &Hub, report: &Report, took: Duration) {
    hub.metrics().retention_pass(took);
    let (seconds, sources, failed) = (took.as_secs_f64(), report.sources, report.failed);
    let (snapshots, deletions) = (report.summary.total_snapshots, report.queued);
    if deletions > 0 || report.spared > 0 || failed > 0 {
        let spared = report.spared;
        tracing::info!(seconds, sources, failed, snapshots, deletions, spared, "retention was applied");
    } else {
        tracing::debug!(seconds, sources, snapshots, "retention found nothing to do");
    }
}

/// Queues deletions again that had begun and then failed or were canceled: what is left is no backup.
async fn resume_broken_off(hub: &Hub) -> db::Result<()> {
    let mut last: Option<SnapshotId> = None;
    loop {
        let page = snapshots::half_deleted(&mut *hub.db().conn().await?, last.as_ref(), PAGE).await?;
        let Some(end) = page.last() else { return Ok(()) };
        last = Some(end.clone());
        for id in &page {
            resume(hub, id).await?;
        }
    }
}

/// As [`run_all`], in a task of its own: it goes on when nobody waits for it any more.
pub(crate) async fn run(hub: &Hub) -> Result<Report> {
    let hub = hub.clone();
    let done = tokio::spawn(async move { run_all(&hub).await }).await;
    Ok(done.map_err(|error| Error::internal(&error))??)
}

/// Applies the policy of one source. 404 when there is none; 409 `no_policy`, `source_disabled`, `schedule_disabled` or
/// `tenant_disabled`.
pub(crate) async fn run_one(hub: &Hub, id: &SourceId) -> Result<Report> {
    let keeping = super::get(hub, &Scope::All, id).await?;
    if keeping.policy.is_none() {
        return Err(Error::conflict(
            "no_policy",
            "the source has no retention policy: nothing of it is deleted",
        ));
    }
    let mut report = Report::default();
    match settle(hub, id).await? {
        Some(settled) => report.add(id.clone(), Ok(settled)),
        None => return Err(paused(keeping.pause())),
    }
    Ok(report)
}

fn paused(pause: Option<Pause>) -> Error {
    let (code, what) = match pause {
        Some(Pause::Tenant) => ("tenant_disabled", "the tenant"),
        Some(Pause::Schedule) => ("schedule_disabled", "the schedule of the source"),
        // None: it was, a moment ago.
        Some(Pause::Source) | None => ("source_disabled", "the source"),
    };
    Error::conflict(code, format!("{what} is disabled: nothing is deleted by itself"))
}
