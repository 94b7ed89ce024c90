//! What becomes of jobs: people ask for them, workers do them.
//!
//! Every change is a transition of [`xvault_core::job::Life`], written back only if the row is still the one that was read;
//! what belongs to it is done in the same transaction, and messages follow the commit.

mod access;
mod assign;
mod attempt;
mod browse;
mod claim;
mod complete;
mod copies;
mod delete;
mod enqueue;
mod expire;
mod people;
mod probes;
mod reading;
mod reconcile;
mod report;
mod restore;
mod stores;

pub(crate) use access::Reading as ReadingByLink;
pub(crate) use assign::assign;
pub(crate) use attempt::sweep as sweep_from_now_on;
pub(crate) use browse::{Ask, browse, tidy as tidy_browses};
pub(crate) use claim::claim;
pub(crate) use complete::complete;
pub(crate) use delete::{call_off, delete_snapshot, deletion, resume};
pub(crate) use enqueue::{NewJob, enqueue, job_deed, scheduled_backup};
pub(crate) use expire::expire_due;
pub(crate) use people::{cancel, get, list, logs, retry};
pub(crate) use probes::probe;
pub(crate) use reading::{Reading, lock_readable, reading};
pub(crate) use reconcile::reconcile;
pub(crate) use report::{add_logs, renew, report};
pub(crate) use restore::{
    DatabaseOrder, FROM_STORE, NewRestore, RestoreOrder, RestoreWish, ServerOrder, chosen_store, directory,
    entry_paths, made_by, off_the_disk, reroute, restore, unchosen,
};
pub(crate) use stores::{
    sweep_due, test as test_store, test_seconds, test_seconds_soon, until_next as until_next_sweep,
};

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Any, Transaction};
use xvault_core::protocol::LeaseAnswer;
use xvault_core::{JobId, SourceId};

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db::{Scope, jobs, jobs::JobRow, sources};

/// How often a change is decided anew because the row had changed.
const ROUNDS: u32 = 5;

/// Reads a job, lets `decide` change it, and writes it back: a transaction that is to be committed, with the job as it is
/// now. When the row was changed by somebody else in between, all of it is done again.
async fn change(
    hub: &Hub,
    scope: &Scope,
    id: &JobId,
    decide: impl Fn(&JobRow, Timestamp) -> Result<JobRow> + Sync,
) -> Result<(Transaction<'static, Any>, JobRow)> {
    change_locked(hub, scope, id, None, decide).await
}

/// As [`change`], in a transaction that begins with the lock of the snapshots of `source`.
async fn change_locked(
    hub: &Hub,
    scope: &Scope,
    id: &JobId,
    source: Option<&SourceId>,
    decide: impl Fn(&JobRow, Timestamp) -> Result<JobRow> + Sync,
) -> Result<(Transaction<'static, Any>, JobRow)> {
    for _ in 0..ROUNDS {
        let before = jobs::get(&mut *hub.db().conn().await?, scope, id).await.map_err(Error::of("job"))?;
        let now = hub.clock().now();
        let after = decide(&before, now)?;
        let mut tx = hub.db().begin().await?;
        if let Some(source) = source {
            sources::lock_snapshots(&mut tx, source).await?;
        }
        if jobs::save(&mut tx, &after, now).await? {
            return Ok((tx, after));
        }
        tx.rollback().await.map_err(crate::DbError::from)?;
    }
    Err(contended())
}

/// A row that others keep changing.
fn contended() -> Error {
    Error::conflict("contended", "the job is being changed by others; try again")
}

async fn commit(tx: Transaction<'static, Any>) -> Result<()> {
    Ok(tx.commit().await.map_err(crate::DbError::from)?)
}

fn lease_answer(hub: &Hub) -> LeaseAnswer {
    LeaseAnswer { lease_ms: millis(hub.settings().lease) }
}

/// A span as the protocol tells it.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Foreign text as it is stored: at most `max` bytes, without what a terminal or a database would stumble over.
pub(crate) fn cleaned(text: &str, max: usize) -> String {
    let kept = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    let mut clean: String = text.chars().map(kept).collect();
    if clean.len() > max {
        let end = (0..=max).rev().find(|&at| clean.is_char_boundary(at)).unwrap_or(0);
        clean.truncate(end);
    }
    clean
}

#[cfg(test)]
mod races;

#[cfg(test)]
mod tests {
    use super::cleaned;

    #[test]
    fn foreign_text_is_cut_at_a_character_and_loses_its_controls() {
        assert_eq!(cleaned("a\0b\x1b[31m\n", 100), "a\u{fffd}b\u{fffd}[31m\n");
        assert_eq!(cleaned("äää", 5), "ää");
        assert_eq!(cleaned("", 5), "");
    }
}
