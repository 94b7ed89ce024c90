//! What is to become of snapshots that lie in a worker's store.

use std::collections::HashMap;

use xvault_core::protocol::{MAX_RECONCILE, Reconcile, ReconcileAnswer, StoredSnapshot};
use xvault_core::{JobId, JobKind, JobStatus};

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db::{jobs, jobs::JobRow, snapshots};

/// Tells superseded snapshots, which may go, from unknown ones, which stay.
pub(crate) async fn reconcile(hub: &Hub, asked: Reconcile) -> Result<ReconcileAnswer> {
    if asked.snapshots.len() > MAX_RECONCILE {
        let reason = format!("at most {MAX_RECONCILE} fit in one call");
        return Err(Error::invalid_field("snapshots", reason));
    }
    let mut conn = hub.db().conn().await?;
    let ids: Vec<_> = asked.snapshots.iter().map(|stored| stored.job_id.clone()).collect();
    // Jobs before snapshots: a job that completes in between then has its snapshot, and is never taken for superseded.
    let found = jobs::many(&mut conn, &ids).await?;
    let found: HashMap<JobId, JobRow> = found.into_iter().map(|job| (job.id.clone(), job)).collect();
    let ids: Vec<_> = asked.snapshots.iter().map(|stored| stored.key.snapshot_id.clone()).collect();
    let known = snapshots::existing(&mut conn, &ids).await?;
    let mut answer = ReconcileAnswer::default();
    for stored in asked.snapshots {
        let has_row = known.contains(&stored.key.snapshot_id);
        match fate(found.get(&stored.job_id), has_row, &stored) {
            Fate::Known => {}
            Fate::Superseded => answer.superseded.push(stored.key),
            Fate::Unknown => answer.unknown.push(stored.key),
        }
    }
    Ok(answer)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Known,
    Superseded,
    Unknown,
}

/// Superseded is only what a job of this very source made in an attempt that can't complete any more.
fn fate(job: Option<&JobRow>, has_row: bool, stored: &StoredSnapshot) -> Fate {
    if has_row {
        return Fate::Known;
    }
    let key = &stored.key;
    let own = |job: &&JobRow| {
        job.kind == JobKind::Backup
            && job.tenant_id == key.tenant_id
            && job.source_id.as_ref() == Some(&key.source_id)
    };
    let Some(job) = job.filter(own) else {
        return Fate::Unknown;
    };
    let another = job.snapshot_id.as_ref() != Some(&key.snapshot_id);
    match job.status() {
        JobStatus::Failed | JobStatus::Canceled | JobStatus::Queued => Fate::Superseded,
        _ if another => Fate::Superseded,
        JobStatus::Running | JobStatus::Finalizing => Fate::Known,
        // It did complete with this snapshot, and the row is gone: not for a sweep to decide.
        JobStatus::Completed => Fate::Unknown,
    }
}
