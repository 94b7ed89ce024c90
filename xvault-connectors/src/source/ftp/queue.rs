//! What waits for a lane, and who gives way to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::lane::Job;

/// A job and its place among all others: what was given out first stands nearest to the head of the line, also when it comes back.
pub(super) struct Task {
    pub(super) rank: u64,
    pub(super) job: Job,
}

/// Tasks that wait for a lane, the nearest first.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<u64, Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&self, Task { rank, job }: Task) {
        self.waiting().jobs.insert(rank, job);
        self.changed.notify_waiters();
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_waiters();
    }

    /// The nearest task as soon as there is one; `None` once it is closed. Nothing is lost when the future is dropped.
    pub(super) async fn take(&self) -> Option<Task> {
        self.take_before(u64::MAX).await
    }

    /// The nearest task, as soon as one is nearer than `rank`.
    async fn take_before(&self, rank: u64) -> Option<Task> {
        loop {
            let changed = self.changed.notified();
            if let Some(taken) = self.waiting().take_before(rank) {
                return taken;
            }
            changed.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// `Some(None)` once it is closed.
    fn take_before(&mut self, rank: u64) -> Option<Option<Task>> {
        if self.closed {
            return Some(None);
        }
        let first = self.jobs.first_entry().filter(|first| *first.key() < rank)?;
        let (rank, job) = first.remove_entry();
        Some(Some(Task { rank, job }))
    }
}

/// How long a task may hold its lane while nobody takes what it brings.
///
/// Whatever the sink waits for is nearer to the head of the line than what is not taken, so it is never kept waiting by that.
pub(super) struct Patience {
    queue: Arc<Queue>,
    rank: u64,
    stall: Duration,
    /// What the lane is to do instead.
    pub(super) instead: Option<Task>,
}

impl Patience {
    pub(super) fn new(queue: &Arc<Queue>, rank: u64, stall: Duration) -> Self {
        Self { queue: Arc::clone(queue), rank, stall, instead: None }
    }

    /// Waits until the lane is to be free: its server was kept waiting for too long, or a nearer task needs it.
    pub(super) async fn ends(&mut self) {
        self.instead = timeout(self.stall, self.queue.take_before(self.rank)).await.ok().flatten();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ftp::list::Dir;

    fn task(rank: u64) -> Task {
        Task { rank, job: Job::List(Dir { root: 0, path: None, lineage: None }) }
    }

    #[tokio::test]
    async fn what_comes_back_goes_before_what_was_given_out_later() {
        let queue = Queue::default();
        for rank in [4, 7, 2] {
            queue.push(task(rank));
        }
        let mut ranks = Vec::new();
        for _ in 0..3 {
            ranks.extend(queue.take().await.map(|task| task.rank));
        }
        assert_eq!(ranks, [2, 4, 7]);
        queue.close();
        assert!(queue.take().await.is_none());
    }

    #[tokio::test]
    async fn one_lane_gives_way_to_what_is_nearer_and_none_to_what_is_not() {
        let queue = Arc::new(Queue::default());
        let hour = Duration::from_secs(3600);
        let (mut near, mut far) = (Patience::new(&queue, 2, hour), Patience::new(&queue, 9, hour));
        queue.push(task(5));
        let gave_way = tokio::select! {
            () = near.ends() => "near",
            () = far.ends() => "far",
        };
        assert_eq!((gave_way, far.instead.map(|task| task.rank)), ("far", Some(5)));
        assert!(timeout(Duration::from_millis(20), near.ends()).await.is_err());
        let mut short = Patience::new(&queue, 9, Duration::from_millis(1));
        short.ends().await;
        assert!(short.instead.is_none());
    }
}
