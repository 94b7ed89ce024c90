//! Queues in Redis: the one place of the hub that names apalis.
//!
//! Facts about apalis-redis 1.0.0 that shape this file: a push that was given up poisons its storage (the next one says
//! `Ok` and sends nothing), so each push has a storage of its own; redis-rs gives up after half a second unless told
//! otherwise; finished tasks stay in Redis for ever unless somebody removes them (`forget`).

mod forget;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apalis_core::backend::TaskSink as _;
use apalis_redis::{Config, RedisStorage};
use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError};
use xvault_core::protocol::{JobMessage, QueueName};
use xvault_core::service::refused_redis_url;

use super::{JobQueue, QueueError};

/// How long one call may take, with connecting.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long Redis may take for an answer, and for a connection: half a second, the default, breaks on each hiccup.
const ANSWER: Duration = Duration::from_secs(5);

/// Queues in Redis, for a fleet. Connects when it is first needed, and again whenever it must.
pub struct RedisQueue {
    connection: ConnectionManager,
    /// Whether the last call failed: only changes are logged.
    away: AtomicBool,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection knows the password.
        f.debug_struct("RedisQueue").field("away", &self.away).finish_non_exhaustive()
    }
}

impl RedisQueue {
    /// Takes note of where Redis is (`redis://:PASSWORD@HOST:PORT/DB`), and does not connect yet. To be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the URL is none. It is not repeated: it may hold a password.
    pub fn new(url: &str) -> Result<Self, QueueError> {
        let invalid = |_: RedisError| QueueError {
            queue: "redis".to_owned(),
            reason: refused_redis_url(url).to_string(),
        };
        let client = Client::open(url).map_err(invalid)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(ANSWER))
            .set_connection_timeout(Some(ANSWER))
            .set_max_delay(Duration::from_secs(2));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(invalid)?;
        Ok(Self { connection, away: AtomicBool::new(false) })
    }

    fn storage(&self, queue: &QueueName) -> RedisStorage<JobMessage> {
        let config = Config::default().queue(queue.to_string()).emit_events(false);
        RedisStorage::new(self.connection.clone()).with_config(config)
    }

    /// Makes one call with patience, and tells when Redis goes and comes back. What fails at once is tried once more: that
    /// is how a connection shows that the server was restarted.
    async fn call<T, E, F>(
        &self,
        queue: &QueueName,
        call: impl Fn() -> F + Send + Sync,
    ) -> Result<T, QueueError>
    where
        E: fmt::Display,
        F: Future<Output = Result<T, E>> + Send,
    {
        let twice = async {
            match call().await {
                Ok(value) => Ok(value),
                Err(_) => call().await,
            }
        };
        let failed = |reason: String| QueueError { queue: queue.to_string(), reason };
        let result = match tokio::time::timeout(PATIENCE, twice).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer in {} s", PATIENCE.as_secs()))),
        };
        self.tell(&result);
        result
    }

    fn tell<T>(&self, result: &Result<T, QueueError>) {
        let away = result.is_err();
        if self.away.swap(away, Ordering::Relaxed) == away {
            return;
        }
        match result {
            Ok(_) => tracing::info!("Redis is back"),
            Err(error) => tracing::warn!(%error, "Redis is away; jobs wait in the database"),
        }
    }
}

/// Makes all messages due by any clock. apalis makes them due at the sender's present second, and a worker whose clock is
/// a minute behind would take them a minute late.
fn due_at_once(queue: &QueueName) -> redis::Cmd {
    let scheduled = format!("{queue}:scheduled");
    let mut all = redis::cmd("ZUNIONSTORE");
    all.arg(&scheduled).arg(1).arg(&scheduled).arg("WEIGHTS").arg(0);
    all
}

#[async_trait]
impl JobQueue for RedisQueue {
    async fn push(&self, queue: &QueueName, message: JobMessage) -> Result<(), QueueError> {
        let push = || {
            let (mut storage, message) = (self.storage(queue), message.clone());
            let (mut connection, due) = (self.connection.clone(), due_at_once(queue));
            async move {
                storage.push(message).await.map_err(|error| error.to_string())?;
                due.query_async::<()>(&mut connection).await.map_err(|error| error.to_string())
            }
        };
        self.call(queue, push).await
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64, QueueError> {
        let ask = || {
            let mut connection = self.connection.clone();
            let mut ask = redis::pipe();
            ask.cmd("ZCARD").arg(format!("{queue}:scheduled")).cmd("LLEN").arg(format!("{queue}:active"));
            async move { ask.query_async::<(u64, u64)>(&mut connection).await }
        };
        self.call(queue, ask).await.map(|(scheduled, active)| scheduled.saturating_add(active))
    }

    async fn clean(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.forget_messages(queue).await?;
        self.forget_consumers(queue).await
    }
}
