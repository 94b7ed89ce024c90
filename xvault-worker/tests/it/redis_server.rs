//! Real Redis, and messages pushed as the hub pushes them.

use std::time::Duration;

use apalis::prelude::TaskSink;
use apalis_redis::{Config, RedisStorage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xvault::core::JobId;
use xvault::core::protocol::{JobMessage, QueueName};
use xvault_testkit::Redis;
use xvault_worker::Feed;

/// A private server that a worker listens to.
pub(crate) struct RedisServer(Redis);

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self(Redis::start())
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// The password in [`RedisServer::url`].
    pub(crate) fn password(&self) -> String {
        let url = self.url();
        url.split([':', '@']).nth(2).unwrap().to_owned()
    }

    pub(crate) fn feed(&self) -> Feed {
        Feed::Redis { url: self.url().into() }
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }

    /// Comes back empty.
    pub(crate) fn restart(&mut self) {
        self.0.restart_empty();
    }

    /// Answers nothing for a while; blocks so long.
    pub(crate) fn stall(&self, span: Duration) {
        self.0.stall(span);
    }

    pub(crate) fn flush_all(&self) {
        self.0.flush_all();
    }

    pub(crate) fn dump(&self) -> String {
        self.0.dump()
    }

    pub(crate) async fn connection(&self) -> redis::aio::ConnectionManager {
        redis::aio::ConnectionManager::new(redis::Client::open(self.url()).unwrap()).await.unwrap()
    }

    /// Messages that wait in a queue, to be taken now or later.
    pub(crate) async fn waiting(&self, queue: &QueueName) -> u64 {
        let mut ask = redis::pipe();
        ask.cmd("ZCARD").arg(format!("{queue}:scheduled")).cmd("LLEN").arg(format!("{queue}:active"));
        let (later, now): (u64, u64) = ask.query_async(&mut self.connection().await).await.unwrap();
        later + now
    }

    /// Pushes as the hub does.
    pub(crate) async fn push(&self, queue: &QueueName, job_id: &JobId) {
        self.push_any(queue, JobMessage { job_id: job_id.clone() }).await;
    }

    /// Pushes anything that has a JSON form.
    pub(crate) async fn push_any<T>(&self, queue: &QueueName, message: T)
    where
        T: Serialize + DeserializeOwned + Clone + Unpin + Send + Sync + 'static,
    {
        let config = Config::default().queue(queue.to_string());
        let mut storage = RedisStorage::<T>::new(self.connection().await).with_config(config);
        storage.push(message).await.unwrap();
    }
}
