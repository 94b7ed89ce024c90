//! A queue inside one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use xvault_core::protocol::{JobMessage, QueueName};

use super::{JobQueue, QueueError};

/// Channels inside this process, for a hub and a worker in one program. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct LocalQueue {
    channels: Arc<Mutex<HashMap<QueueName, Channel>>>,
}

#[derive(Debug)]
struct Channel {
    sender: UnboundedSender<JobMessage>,
    receiver: Option<UnboundedReceiver<JobMessage>>,
}

impl Default for Channel {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { sender, receiver: Some(receiver) }
    }
}

impl LocalQueue {
    /// The receiving end of `queue`: once, `None` after that.
    #[must_use]
    pub fn receiver(&self, queue: &QueueName) -> Option<UnboundedReceiver<JobMessage>> {
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
        self.with(queue, |channel| channel.sender.send(message))
            .map_err(|_| QueueError { queue: queue.to_string(), reason: "its worker is gone".to_owned() })
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, QueueError> {
        // What was taken by the worker is not counted: the receiver is its own.
        let waiting = self.with(queue, |channel| channel.receiver.as_ref().map_or(0, UnboundedReceiver::len));
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
        assert_eq!(shared.recv().await.unwrap().job_id.as_str(), "a");
        assert_eq!(shared.recv().await.unwrap().job_id.as_str(), "b");
    }
}
