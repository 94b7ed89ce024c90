//! How workers are woken: messages that carry a job's id and nothing else.
//!
//! A queue may lose messages and deliver them twice: the `jobs` table is the truth, a claim decides, and the reconciler
//! sends again what was lost. So pushing never fails a request.

mod local;
mod redis;

pub use local::LocalQueue;
pub use redis::RedisQueue;

use std::fmt::Debug;

use async_trait::async_trait;
use xvault_core::protocol::{JobMessage, QueueName};

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
#[error("queue {queue}: {reason}")]
pub struct QueueError {
    /// Which queue.
    pub queue: String,
    /// One sentence, without secrets.
    pub reason: String,
}

/// Where messages go.
#[async_trait]
pub trait JobQueue: Debug + Send + Sync {
    /// Sends a message. It may arrive late, twice or never.
    ///
    /// # Errors
    /// When it surely won't arrive, or that is unknown after a few seconds.
    async fn push(&self, queue: &QueueName, message: JobMessage) -> Result<(), QueueError>;

    /// How many messages wait.
    ///
    /// # Errors
    /// When the queue can't say.
    async fn depth(&self, queue: &QueueName) -> Result<u64, QueueError>;

    /// Removes what finished messages and ended consumers leave behind in `queue`. What waits, or is to be handled again,
    /// stays.
    ///
    /// # Errors
    /// When something may be left.
    async fn clean(&self, queue: &QueueName) -> Result<(), QueueError>;
}
