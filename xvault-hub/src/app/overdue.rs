//! Which sources have gone without a whole snapshot for too long.
//!
//! A snapshot is expected of the first run after the last whole one (or after the schedule was made, changed or enabled).
//! When it has not come by [`crate::schedule::Timing::expectation`]'s time, the source is overdue. The watch tells so once, and once
//! when it is over.

use jiff::Timestamp;
use serde_json::json;
use sqlx::{Any, Transaction};

use super::audit::{Deed, record_by_scheduler};
use super::schedules::timing;
use crate::db::schedules::{self, Schedule, watch::Watched};
use crate::db::sources::{self, Source};
use crate::db::standing::{self, Known};
use crate::schedule::Expectation;
use crate::{Dialect, Hub, db};

/// How a source stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// When its last whole snapshot was reported.
    pub(crate) last_success_at: Option<Timestamp>,
    /// When the next is, or was, expected. None: of this source nothing is expected.
    pub(crate) next_expected_at: Option<Timestamp>,
    pub(crate) overdue: bool,
}

/// What is expected of a source that was last backed up at `last_success_at`.
fn expectation(schedule: &Schedule, last_success_at: Option<Timestamp>) -> Option<Expectation> {
    let since = last_success_at.map_or(schedule.watched_since, |at| at.max(schedule.watched_since));
    match timing(schedule) {
        Ok(timing) => timing.expectation(since),
        // Better what was expected when it could still be read.
        Err(_) => schedule.expected,
    }
}

/// How sources stand, in their order.
pub(crate) async fn standings(hub: &Hub, sources: &[Source]) -> db::Result<Vec<Standing>> {
    let ids: Vec<_> = sources.iter().map(|source| &source.id).collect();
    let known = standing::of_sources(&mut *hub.db().conn().await?, &ids).await?;
    let now = hub.clock().now();
    let of =
        |source: &Source| known.get(&source.id).map_or_else(Standing::default, |known| stands(known, now));
    Ok(sources.iter().map(of).collect())
}

fn stands(known: &Known, now: Timestamp) -> Standing {
    let watched = known.schedule.as_ref().filter(|schedule| known.active && schedule.enabled);
    let expected = watched.and_then(|schedule| expectation(schedule, known.last_success_at));
    Standing {
        last_success_at: known.last_success_at,
        next_expected_at: expected.map(|expected| expected.at),
        overdue: expected.is_some_and(|expected| expected.overdue_after <= now),
    }
}

/// Tells which sources have become overdue and which are so no more, at most `limit` of each; gives how many it looked at.
pub(crate) async fn watch(hub: &Hub, limit: u32) -> db::Result<u32> {
    let now = hub.clock().now();
    let mut conn = hub.db().conn().await?;
    let late = schedules::watch::late(&mut conn, now, limit).await?;
    let back = schedules::watch::back(&mut conn, limit).await?;
    drop(conn);
    let most = u32::try_from(late.len().max(back.len())).unwrap_or(u32::MAX);
    if most > 0 {
        let mut tx = hub.db().begin().await?;
        judge(&mut tx, hub.db().dialect(), late.into_iter().chain(back).collect(), now).await?;
        tx.commit().await?;
    }
    Ok(most)
}

/// Writes down how sources stand now, and tells it where that is news. Nothing happens to those that another hub was faster with.
async fn judge(
    tx: &mut Transaction<'static, Any>,
    dialect: Dialect,
    watched: Vec<Watched>,
    now: Timestamp,
) -> db::Result<()> {
    // As the scheduler: hubs wait for each other, and not in a circle.
    let ids: Vec<_> = watched.iter().map(|watched| &watched.schedule.source_id).collect();
    sources::lock_all(tx, dialect, &ids).await?;
    let judged: Vec<_> = watched.iter().map(|watched| judged(watched, now)).collect();
    let saved = schedules::save_course(tx, &judged.iter().collect::<Vec<_>>()).await?;
    let news = watched.iter().zip(&judged).filter(|(_, after)| saved.contains(&after.id));
    record_by_scheduler(tx, news.filter_map(|(before, after)| deed(before, after)).collect(), now).await
}

/// The schedule with what is expected of it now.
fn judged(watched: &Watched, now: Timestamp) -> Schedule {
    let before = &watched.schedule;
    let expected = expectation(before, watched.last_success_at);
    let overdue = expected.is_some_and(|expected| expected.overdue_after <= now);
    let overdue_at = if overdue { before.overdue_at.or(Some(now)) } else { None };
    Schedule { expected, overdue_at, ..before.clone() }
}

/// What is told of a source, if it is news.
fn deed<'a>(watched: &'a Watched, after: &Schedule) -> Option<Deed<'a>> {
    let before = &watched.schedule;
    let action = match (before.overdue_at, after.overdue_at) {
        (None, Some(_)) => "source.overdue",
        (Some(_), None) => "source.recovered",
        _ => return None,
    };
    if after.overdue_at.is_some() {
        tracing::warn!(source_id = %before.source_id, tenant_id = %before.tenant_id, "source is overdue");
    } else {
        tracing::info!(source_id = %before.source_id, tenant_id = %before.tenant_id, "source is backed up again");
    }
    Some(Deed {
        action,
        target_type: "source",
        target_id: before.source_id.as_str(),
        tenant_id: Some(&before.tenant_id),
        details: json!({
            "schedule_id": before.id,
            "last_success_at": watched.last_success_at,
            "next_expected_at": after.expected.map(|expected| expected.at),
        }),
    })
}

#[cfg(test)]
mod tests;
