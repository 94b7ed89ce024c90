//! The fleet as it is right now, for its metrics: what does not answer in time is left out, and its absence is told.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use xvault_core::WorkerId;
use xvault_core::protocol::QueueName;

use crate::Hub;
use crate::db::workers::Worker;
use crate::db::{self, jobs, schedules, snapshots, workers};
use crate::metrics::{Observed, Rows};

/// How long the database, and then the queue, may take: whoever collects metrics gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Unfinished jobs, waiting messages, when workers were last seen, and how many sources are overdue.
pub(crate) async fn fleet(hub: &Hub) -> Observed {
    let Ok(Ok((workers, rows))) = tokio::time::timeout(PATIENCE, rows(hub)).await else {
        return Observed { rows: None, queues: depths(hub, &[]).await };
    };
    Observed { rows: Some(rows), queues: depths(hub, &workers).await }
}

/// The workers that there are, and what the database says. Those that were deleted are of no interest.
async fn rows(hub: &Hub) -> db::Result<(Vec<Worker>, Rows)> {
    let mut conn = hub.db().conn().await?;
    let mut workers = workers::all(&mut conn).await?;
    workers.retain(|worker| worker.has_token);
    let counts = jobs::counts(&mut conn).await?;
    let sources_overdue = schedules::watch::overdue(&mut conn).await?;
    let snapshots_damaged = snapshots::count_damaged(&mut conn).await?;
    let jobs = counts.into_iter().map(|count| (count.kind, count.status, count.jobs.cast_signed()));
    let now = hub.clock().now();
    let age = |worker: &Worker| {
        let seen = worker.last_seen_at?;
        Some((worker.id.to_string(), worker.status.clone(), now.duration_since(seen).as_secs()))
    };
    let ages = workers.iter().filter_map(age).collect();
    Ok((workers, Rows { jobs: jobs.collect(), workers: ages, sources_overdue, snapshots_damaged }))
}

/// The queues of one worker.
pub(crate) fn queues_of(worker: &WorkerId) -> [QueueName; 2] {
    [QueueName::Worker(worker.clone()), QueueName::Quick(worker.clone())]
}

/// The lengths of all queues, asked for at once.
async fn depths(hub: &Hub, workers: &[Worker]) -> Vec<(String, i64)> {
    let own = workers.iter().flat_map(|Worker { id, .. }| queues_of(id));
    let deadline = Instant::now() + PATIENCE;
    let asked = std::iter::once(QueueName::Shared).chain(own).map(|queue| async move {
        let depth = timeout_at(deadline, hub.queue().depth(&queue)).await.ok()?.ok()?;
        Some((queue.to_string(), depth.cast_signed()))
    });
    join_all(asked).await.into_iter().flatten().collect()
}
