//! Wakes workers: messages follow what is committed, and never fail what they follow.

use std::time::Duration;

use jiff::Timestamp;
use xvault_core::error::chain;
use xvault_core::protocol::{JobMessage, QueueName};
use xvault_core::{JobKind, WorkerId};

use crate::Hub;
use crate::db::{self, jobs, jobs::JobRow, workers};
use crate::queue::QueueError;

/// How long a message is given to reach a worker before another is sent. Doubled with each, for as long as the queue still
/// holds as many messages as jobs wait: what is lost is sent again at once.
const REPEAT: Duration = Duration::from_secs(60);
/// Doublings of [`REPEAT`] at most: about an hour.
const MAX_DOUBLINGS: u32 = 6;
/// More messages are not put into a queue: apalis-redis fetches none at all from 8,000 on, and the reconciler sends what
/// was held back.
pub(crate) const MAX_DEPTH: u64 = 2000;

/// A queued job whose first message is sent with this very change: [`push`] follows the commit.
pub(crate) fn with_message(job: JobRow, now: Timestamp) -> JobRow {
    JobRow { enqueued_at: Some(now), enqueue_count: 1, push_at: later(now, REPEAT), ..job }
}

/// A queued job that waits: its first message is sent by the reconciler, when `at` has come.
pub(crate) fn with_message_at(job: JobRow, at: Timestamp) -> JobRow {
    JobRow { enqueued_at: None, enqueue_count: 0, push_at: at, ..job }
}

/// Sends the message of a job that was just committed, beside the request. When it can't be sent, the reconciler is told
/// to.
pub(crate) fn push(hub: &Hub, job: &JobRow) {
    let (hub, job, queue) = (hub.clone(), job.clone(), queue_of(job));
    tokio::spawn(async move {
        if send(&hub, &queue, &job).await != Sent::Yes {
            give_back(&hub, &job).await;
        }
    });
}

/// Whether a message went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Yes,
    /// So many wait that it may wait with them.
    Full,
    /// The queue is away.
    Failed,
}

async fn send(hub: &Hub, queue: &QueueName, job: &JobRow) -> Sent {
    match try_send(hub, queue, job).await {
        Ok(true) => Sent::Yes,
        Ok(false) => Sent::Full,
        Err(error) => {
            // The queue itself tells when it goes and comes; each message would flood the log.
            tracing::debug!(job_id = %job.id, cause = %chain(&error), "message not sent");
            Sent::Failed
        }
    }
}

async fn try_send(hub: &Hub, queue: &QueueName, job: &JobRow) -> Result<bool, QueueError> {
    if hub.queue().depth(queue).await? >= MAX_DEPTH {
        return Ok(false);
    }
    hub.queue().push(queue, JobMessage { job_id: job.id.clone() }).await?;
    Ok(true)
}

async fn give_back(hub: &Hub, job: &JobRow) {
    let given = async { jobs::push_failed(&mut *hub.db().conn().await?, &job.id, hub.clock().now()).await };
    if let Err(error) = given.await {
        tracing::debug!(job_id = %job.id, cause = %chain(&error), "message not noted as unsent; it is sent later");
    }
}

/// Where a job's messages go.
fn queue_of(job: &JobRow) -> QueueName {
    match (job.kind, &job.target_worker_id) {
        (JobKind::Browse, Some(worker)) => QueueName::Quick(worker.clone()),
        (_, worker) => queue_for(worker.as_ref()),
    }
}

/// The queue of a worker, or the shared one.
fn queue_for(worker: Option<&WorkerId>) -> QueueName {
    worker.cloned().map_or(QueueName::Shared, QueueName::Worker)
}

/// A worker that can't run `job` has taken its message: sends another to one that can, if there is one.
pub(crate) async fn redirect(hub: &Hub, job: &JobRow) -> db::Result<()> {
    let able = workers::available(&mut *hub.db().conn().await?, job.capability.as_deref()).await?;
    let queue = match &job.target_worker_id {
        Some(_) => queue_of(job),
        None => match able.into_iter().next() {
            Some(worker) => QueueName::Worker(worker.id),
            None => return Ok(()),
        },
    };
    if send(hub, &queue, job).await == Sent::Failed {
        give_back(hub, job).await;
    }
    Ok(())
}

/// What a round of the reconciler did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Messages that were sent.
    pub(crate) sent: u32,
    /// More are due, and can be sent at once.
    pub(crate) more: bool,
    /// Messages are held back until the shared queue is shorter.
    pub(crate) full: bool,
    /// The queue is away.
    pub(crate) unreachable: bool,
}

/// Sends the messages that are due, at most `limit`: those that were lost, could not be sent, or waited for a pause to end.
pub(crate) async fn push_due(hub: &Hub, limit: u32) -> db::Result<Pushed> {
    let now = hub.clock().now();
    if !hasten_lost(hub, now).await? {
        return Ok(Pushed { unreachable: true, ..Pushed::default() });
    }
    if jobs::due_for_push(&mut *hub.db().conn().await?, now, 1, true).await?.is_empty() {
        return Ok(Pushed::default());
    }
    let Ok(depth) = hub.queue().depth(&QueueName::Shared).await else {
        return Ok(Pushed { unreachable: true, ..Pushed::default() });
    };
    let full = depth >= MAX_DEPTH;
    let due = jobs::due_for_push(&mut *hub.db().conn().await?, now, limit, !full).await?;
    let mut done = Pushed { full, ..Pushed::default() };
    for job in &due {
        match push_again(hub, job, now).await? {
            Sent::Yes => done.sent += 1,
            Sent::Full => done.full = true,
            Sent::Failed => return Ok(Pushed { unreachable: true, ..done }),
        }
    }
    done.more = done.sent > 0 && u32::try_from(due.len()).is_ok_and(|found| found >= limit);
    Ok(done)
}

/// Makes those messages due that the queues have lost. They hold fewer than there are jobs which were sent one: they were
/// restarted, flushed, or emptied by workers that could not run the jobs. False when a queue can't say.
async fn hasten_lost(hub: &Hub, now: Timestamp) -> db::Result<bool> {
    let before = now.checked_sub(REPEAT).unwrap_or(Timestamp::MIN);
    let queues = jobs::sent(&mut *hub.db().conn().await?, now, before).await?;
    for jobs::Sent { worker_id, jobs, patient } in queues {
        let worker = worker_id.as_ref();
        let Ok(depth) = hub.queue().depth(&queue_for(worker)).await else { return Ok(false) };
        let lost = jobs.saturating_sub(depth).min(patient);
        if lost > 0 {
            tracing::debug!(queue = %queue_for(worker), messages = lost, "messages were lost");
            jobs::hasten(&mut *hub.db().conn().await?, worker, now, before, lost).await?;
        }
    }
    Ok(true)
}

async fn push_again(hub: &Hub, job: &JobRow, now: Timestamp) -> db::Result<Sent> {
    let next = later(now, repeat_after(job.enqueue_count));
    if !jobs::take_push(&mut *hub.db().conn().await?, job, now, next).await? {
        // Another hub sends it, or a worker has it by now.
        return Ok(Sent::Yes);
    }
    let sent = send(hub, &queue_of(job), job).await;
    if sent == Sent::Failed {
        give_back(hub, job).await;
    }
    // Into a full queue it is sent with one of the next rounds: a worker that is away for days may have thousands waiting.
    Ok(sent)
}

/// The wait after message number `count` + 1.
fn repeat_after(count: i64) -> Duration {
    let doublings = u32::try_from(count).unwrap_or(MAX_DOUBLINGS).min(MAX_DOUBLINGS);
    REPEAT * (1 << doublings)
}

fn later(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_an_hour() {
        let secs: Vec<_> = [0, 1, 2, 6, 7, i64::MAX].map(|n| repeat_after(n).as_secs()).into();
        assert_eq!(secs, [60, 120, 240, 3840, 3840, 3840]);
    }
}
