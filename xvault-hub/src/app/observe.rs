//! The fleet as it is right now, for its metrics.

use xvault_core::protocol::QueueName;

use crate::api::error::Result;
use crate::db::workers::Worker;
use crate::db::{jobs, schedules, workers};
use crate::metrics::Observed;
use crate::{Hub, db};

/// Unfinished jobs, waiting messages, when workers were last seen, and how many sources are overdue.
pub(crate) async fn fleet(hub: &Hub) -> Result<Observed> {
    let mut conn = hub.db().conn().await?;
    let workers = workers::all(&mut conn).await?;
    let jobs = unfinished(&mut conn).await?;
    let sources_overdue = schedules::watch::overdue(&mut conn).await?;
    drop(conn);
    let queues = depths(hub, &workers).await;
    let now = hub.clock().now();
    let age = |worker: Worker| {
        let seen = worker.last_seen_at?;
        Some((worker.id.to_string(), worker.status, now.duration_since(seen).as_secs()))
    };
    let workers = workers.into_iter().filter_map(age).collect();
    Ok(Observed { jobs, queues, workers, sources_overdue })
}

async fn unfinished(
    conn: &mut sqlx::AnyConnection,
) -> db::Result<Vec<(xvault_core::JobKind, xvault_core::JobStatus, i64)>> {
    let counts = jobs::counts(conn).await?;
    Ok(counts.into_iter().map(|count| (count.kind, count.status, count.jobs.cast_signed())).collect())
}

/// A queue that can't say is left out: its absence is the alarm.
async fn depths(hub: &Hub, workers: &[Worker]) -> Vec<(String, i64)> {
    let own = workers.iter().map(|worker| QueueName::Worker(worker.id.clone()));
    let mut depths = Vec::new();
    for queue in std::iter::once(QueueName::Shared).chain(own) {
        if let Ok(depth) = hub.queue().depth(&queue).await {
            depths.push((queue.to_string(), depth.cast_signed()));
        }
    }
    depths
}
