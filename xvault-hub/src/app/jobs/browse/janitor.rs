//! Removes what those left behind who stopped waiting, or whose hub did.

use std::time::Duration;

use jiff::Timestamp;

use super::waiting;
use crate::Hub;
use crate::api::error::Result;
use crate::db::jobs;

/// Nobody waits for so long.
const FORSAKEN: Duration = Duration::from_secs(120);
/// Long enough for a worker to hear how its job ended.
const OVER: Duration = Duration::from_secs(60);

/// Cancels looks that nobody waits for, at most `limit`, and removes those that are over.
pub(crate) async fn tidy(hub: &Hub, limit: u32) -> Result<()> {
    let before = |span| hub.clock().now().checked_sub(span).unwrap_or(Timestamp::MIN);
    let forsaken = jobs::unfinished_browses(&mut *hub.db().conn().await?, before(FORSAKEN), limit).await?;
    for id in &forsaken {
        match waiting::cancel(hub, id).await {
            // It has come to its end meanwhile.
            Err(error) if error.is("job_finished") || error.is("not_found") => {}
            done => done?,
        }
    }
    jobs::delete_finished_browses(&mut *hub.db().conn().await?, before(OVER)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use xvault_core::{JobKind, JobStatus};

    use super::*;
    use crate::app::bench::{Bench, on_both_engines};
    use crate::db::jobs::JobRow;
    use crate::db::{self, Scope};

    /// As when a hub is killed while somebody waits for it.
    async fn what_nobody_waits_for_is_canceled_and_then_removed(bench: Bench) {
        let (hub, source) = (&bench.hub, bench.source().await);
        let job = JobRow::new(JobKind::Browse, bench.tenant.clone(), source, 1, hub.clock().now());
        jobs::insert(&mut hub.db().conn().await.unwrap(), &job).await.unwrap();
        let status = async || {
            let found = jobs::get(&mut hub.db().conn().await.unwrap(), &Scope::All, &job.id).await;
            match found {
                Err(db::Error::NotFound) => None,
                found => Some(found.unwrap().status()),
            }
        };
        for (span, expected) in [
            (0, Some(JobStatus::Queued)),
            (119, Some(JobStatus::Queued)),
            (2, Some(JobStatus::Canceled)),
            (59, Some(JobStatus::Canceled)),
            (2, None),
        ] {
            hub.clock().advance(Duration::from_secs(span));
            tidy(hub, 10).await.unwrap();
            assert_eq!(status().await, expected, "{span} s later");
        }
    }

    on_both_engines!(what_nobody_waits_for_is_canceled_and_then_removed);
}
