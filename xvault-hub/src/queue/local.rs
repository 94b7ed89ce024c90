//! A queue inside one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use xvault_core::protocol::{JobMessage, QueueName};

use super::{JobQueue, QueueError};

/// The most messages that one channel holds: the hub stops at far fewer, give or take those that are sent at once.
const CAPACITY: usize = 8192;

/// Channels inside this process, for a hub and a worker in one program. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct LocalQueue {
    channels: Arc<Mutex<HashMap<QueueName, Channel>>>,
}

#[derive(Debug)]
struct Channel {
    sender: Sender<JobMessage>,
    receiver: Option<Receiver<JobMessage>>,
}

impl Default for Channel {
    fn default() -> Self {
        let (sender, receiver) = channel(CAPACITY);
        Self { sender, receiver: Some(receiver) }
    }
}

impl LocalQueue {
    /// The receiving end of `queue`: once, `None` after that.
    #[must_use]
    pub fn receiver(&self, queue: &QueueName) -> Option<Receiver<JobMessage>> {
        self.with(queue, |channel| channel.receiver.take())
    }

    fn with<T>(&self, queue: &QueueName, act: impl FnOnce(&mut Channel) -> T) -> T {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        act(channels.entry(queue.clone()).or_default())
    }
}

#[async_trait]
impl JobQueue for LocalQueue {
    async fn push(&self, queue: &QueueName, message: JobMessage) -> Result<(), QueueError> {
        let refused = |error: TrySendError<JobMessage>| QueueError {
            queue: queue.to_string(),
            reason: match error {
                TrySendError::Full(_) => "it is full".to_owned(),
                TrySendError::Closed(_) => "its worker is gone".to_owned(),
            },
        };
        self.with(queue, |channel| channel.sender.try_send(message)).map_err(refused)
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, QueueError> {
        // What waits takes up room, whoever has the receiver.
        let waiting = self.with(queue, |channel| channel.sender.max_capacity() - channel.sender.capacity());
        Ok(waiting as u64)
    }

    async fn clean(&self, _: &QueueName) -> Result<(), QueueError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_in_their_queue_and_in_order() {
        let queue = LocalQueue::default();
        let own = QueueName::Worker("w1".parse().unwrap());
        for id in ["a", "b"] {
            queue.push(&QueueName::Shared, JobMessage { job_id: id.parse().unwrap() }).await.unwrap();
        }
        assert_eq!(queue.depth(&QueueName::Shared).await.unwrap(), 2);
        assert_eq!(queue.depth(&own).await.unwrap(), 0);
        let mut shared = queue.receiver(&QueueName::Shared).unwrap();
        assert!(queue.receiver(&QueueName::Shared).is_none());
        assert_eq!(
            queue.depth(&QueueName::Shared).await.unwrap(),
            2,
            "the worker has taken none of them yet"
        );
        assert_eq!(shared.recv().await.unwrap().job_id.as_str(), "a");
        assert_eq!(queue.depth(&QueueName::Shared).await.unwrap(), 1);
        assert_eq!(shared.recv().await.unwrap().job_id.as_str(), "b");
        assert_eq!(queue.depth(&QueueName::Shared).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_channel_is_bounded() {
        let queue = LocalQueue::default();
        let message = || JobMessage { job_id: "a".parse().unwrap() };
        for _ in 0..CAPACITY {
            queue.push(&QueueName::Shared, message()).await.unwrap();
        }
        let error = queue.push(&QueueName::Shared, message()).await.unwrap_err();
        assert_eq!(error.to_string(), "queue xvault:jobs: it is full");
        let mut receiver = queue.receiver(&QueueName::Shared).unwrap();
        receiver.recv().await.unwrap();
        queue.push(&QueueName::Shared, message()).await.unwrap();
        drop(receiver);
        let error = queue.push(&QueueName::Shared, message()).await.unwrap_err();
        assert_eq!(error.to_string(), "queue xvault:jobs: its worker is gone");
    }
}
