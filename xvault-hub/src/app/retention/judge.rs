//! What a policy makes of a source's snapshots.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{SnapshotId, SourceId};
use xvault_retention::{Decision, Plan, Policy, evaluate};

use crate::api::error::{Error, Result};
use crate::db::retention::{self, Candidate, Keeping};
use crate::db::{self, Scope, jobs, jobs::JobRow, sources};
use crate::{DbError, Hub};

/// A plan, and what has become of it already.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) plan: Plan,
    /// Snapshots that are no part of the plan: they go whatever it says, because somebody wants it, or it has begun.
    pub(crate) leaving: usize,
    /// Snapshots that are no part of the plan because they are damaged: no sound one is given up for them, and no rule deletes
    /// them, because somebody may still get something out of them.
    pub(crate) damaged: usize,
    /// Deletions that an earlier plan wanted and that nobody has begun.
    queued: HashMap<SnapshotId, JobRow>,
}

impl Verdict {
    /// Snapshots that are to go and that no deletion is queued for, oldest first.
    pub(super) fn to_queue(&self) -> impl Iterator<Item = &Decision> {
        self.plan.to_delete().filter(|decision| !self.queued.contains_key(&decision.id))
    }

    /// Snapshots that are to stay although a deletion is queued, with that.
    pub(super) fn to_spare(&self) -> impl Iterator<Item = (&Decision, &JobRow)> {
        let kept = self.plan.decisions.iter().filter(|decision| decision.keep);
        kept.filter_map(|decision| Some((decision, self.queued.get(&decision.id)?)))
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_settled(&self) -> bool {
        self.to_queue().next().is_none() && self.to_spare().next().is_none()
    }
}

/// Judges the snapshots of a source by `policy`.
pub(super) async fn judge(
    conn: &mut AnyConnection,
    keeping: &Keeping,
    policy: &Policy,
    now: Timestamp,
) -> db::Result<Verdict> {
    let zone = keeping.zone()?;
    let candidates = retention::candidates(conn, &keeping.source_id).await?;
    let queued = if candidates.iter().any(|candidate| candidate.is_deleting && !candidate.has_begun) {
        queued(conn, &keeping.source_id).await?
    } else {
        HashMap::new()
    };
    let total = candidates.len();
    let stands = |candidate: &Candidate| {
        let may_stay = !candidate.has_begun && queued.contains_key(&candidate.snapshot.id);
        !candidate.is_deleting || (may_stay && !candidate.is_damaged)
    };
    let (sound, damaged): (Vec<_>, Vec<_>) =
        candidates.into_iter().filter(stands).partition(|candidate| !candidate.is_damaged);
    let leaving = total - sound.len() - damaged.len();
    let snapshots: Vec<_> = sound.into_iter().map(|candidate| candidate.snapshot).collect();
    let plan = evaluate(policy, &snapshots, now, &zone);
    Ok(Verdict { plan, leaving, damaged: damaged.len(), queued })
}

async fn queued(conn: &mut AnyConnection, source_id: &SourceId) -> db::Result<HashMap<SnapshotId, JobRow>> {
    let jobs = jobs::queued_by_hub(conn, source_id).await?;
    Ok(jobs.into_iter().filter_map(|job| Some((job.snapshot_id.clone()?, job))).collect())
}

/// What would become of the snapshots of a source right now, by its own policy or by another. None: it has none, and nothing
/// goes.
pub(crate) async fn plan(
    hub: &Hub,
    scope: &Scope,
    id: &SourceId,
    policy: Option<Policy>,
) -> Result<(Keeping, Timestamp, Option<Verdict>)> {
    let mut conn = hub.db().conn().await?;
    sources::get_live(&mut conn, scope, id).await.map_err(Error::of("source"))?;
    let mut keeping = retention::keeping(&mut conn, id).await?;
    if policy.is_some() {
        keeping.policy = policy;
    }
    let now = hub.clock().now();
    let verdict = match &keeping.policy {
        Some(policy) => {
            Some(judge(&mut conn, &keeping, policy, now).await.map_err(|error| zone(error, &keeping))?)
        }
        None => None,
    };
    Ok((keeping, now, verdict))
}

/// A zone that this hub does not know is no secret.
fn zone(error: DbError, keeping: &Keeping) -> Error {
    match error {
        DbError::Corrupt { column: "timezone" } => Error::conflict(
            "unknown_timezone",
            format!("this hub does not know the time zone {}", keeping.timezone),
        ),
        error => error.into(),
    }
}
