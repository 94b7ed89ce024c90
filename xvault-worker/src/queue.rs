//! Where wake-up calls come from: Redis in a fleet, a channel inside one program. The only file that names apalis.
//!
//! A queue is a wake-up channel and never owns a job, so a consumer may break off at any time: [`Consumer::run`] starts it
//! again, and what it was handing over goes on in a task of its own.

mod sweep;

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis::prelude::{
    BackendExt, BoxDynError, Data, PollSnapshot, PollStrategy, WorkerBuilder, WorkerBuilderExt,
};
use apalis_core::backend::codec::Codec;
use apalis_redis::{Config, ConnectionManager, RedisStorage};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use futures::{FutureExt, TryFutureExt};
use redis::aio::ConnectionManagerConfig;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use xvault::core::protocol::{JobMessage, QueueName};
use xvault::core::secret::{ExposeSecret, SecretString};
use xvault::core::service::{SettingError, refused_redis_url};
use xvault::core::{JobId, WorkerId};

use crate::hub::Backoff;
use crate::metrics::Metrics;
use crate::slots::{GateLayer, Slots};

/// How often Redis is asked for messages.
const POLL: Duration = Duration::from_millis(150);
/// Messages of a consumer that was not heard of for three of these go to another one.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After so many heartbeats without a sign a consumer's messages go to others: five minutes, as consumers judge each other
/// by their own clocks, which may differ by a minute or two. What is lost meanwhile the hub sends again.
const MISSED: usize = 60;
/// Redis may stall for so long before a consumer gives up; the client's own half a second kills one at each hiccup.
const RESPONSE: Duration = Duration::from_secs(5);
/// A consumer that lived for so long is well.
const HEALTHY: Duration = Duration::from_secs(30);

/// Where a worker's wake-up calls come from.
#[derive(Debug)]
#[non_exhaustive]
pub enum Feed {
    /// From Redis, which need not be there yet.
    Redis {
        /// `redis://[user:password@]host:port/db`.
        url: SecretString,
    },
    /// From the hub in the same program.
    Local(LocalFeed),
}

impl Feed {
    /// Refuses what will never work. Whether Redis is there is another matter.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Redis { url } => {
                let url = url.expose_secret();
                redis::Client::open(url).map(drop).map_err(|_| refused_redis_url(url))
            }
        }
    }
}

/// The receiving ends of the queues of a hub in the same program.
#[derive(Clone)]
pub struct LocalFeed {
    shared: Line,
    own: Line,
    quick: Line,
}

type Line = Arc<Mutex<Receiver<JobMessage>>>;

impl LocalFeed {
    /// From the receivers of [`QueueName::Shared`] and of this worker's [`QueueName::Worker`] and [`QueueName::Quick`].
    #[must_use]
    pub fn new(shared: Receiver<JobMessage>, own: Receiver<JobMessage>, quick: Receiver<JobMessage>) -> Self {
        let [shared, own, quick] = [shared, own, quick].map(|line| Arc::new(Mutex::new(line)));
        Self { shared, own, quick }
    }

    /// The messages of one queue. A stream that is dropped loses none: the next one goes on.
    fn messages(&self, queue: &QueueName) -> BoxStream<'static, Result<Parcel, Infallible>> {
        let line = match queue {
            QueueName::Shared => self.shared.clone(),
            QueueName::Worker(_) => self.own.clone(),
            QueueName::Quick(_) => self.quick.clone(),
        };
        let next = move |cx: &mut Context<'_>| {
            line.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx).map(|message| message.map(Some))
        };
        stream::poll_fn(next).map(|message| Ok(Parcel(message))).boxed()
    }
}

impl fmt::Debug for LocalFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFeed").finish_non_exhaustive()
    }
}

/// Why a message is to be delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undelivered {
    /// Nobody knows whether the job can be had.
    #[error("the hub can't be asked for the job")]
    HubUnreachable,
    /// No more jobs are taken.
    #[error("the worker is being stopped")]
    Stopping,
}

/// What is done with a message. It is said to be delivered when the future is ready, in milliseconds.
pub(crate) type Handler =
    Arc<dyn Fn(JobMessage) -> BoxFuture<'static, Result<(), Undelivered>> + Send + Sync>;

/// Takes messages of one queue.
#[derive(Clone)]
pub(crate) struct Consumer {
    pub(crate) feed: Arc<Feed>,
    pub(crate) queue: QueueName,
    pub(crate) worker_id: WorkerId,
    pub(crate) slots: Slots,
    pub(crate) handler: Handler,
    pub(crate) metrics: Metrics,
}

impl Consumer {
    /// Consumes until `stop`, whatever happens to the queue.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut trouble: Option<String> = None;
        while !stop.is_cancelled() {
            let mut live = AbortOnDropHandle::new(tokio::spawn(self.clone().live(stop.clone())));
            let ended = tokio::select! {
                ended = &mut live => ended,
                () = tokio::time::sleep(HEALTHY) => {
                    backoff.reset();
                    if trouble.take().is_some() {
                        tracing::info!(queue = %self.queue, "jobs are taken from the queue again");
                    }
                    live.await
                }
            };
            if stop.is_cancelled() {
                return;
            }
            let reason = ended.map_or_else(|panic| panic.to_string(), |ended| ended.0);
            self.metrics.consumer_ended(&self.queue);
            if trouble.as_ref() != Some(&reason) {
                tracing::warn!(queue = %self.queue, reason, "the queue is in trouble; trying again until it is not");
                trouble = Some(reason);
            }
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(backoff.pause()) => {} }
        }
    }

    /// One life of a consumer, which ends with `stop` or with trouble.
    async fn live(self, stop: CancellationToken) -> Ended {
        let ended = match &*self.feed {
            Feed::Local(feed) => {
                let backend = feed.messages(&self.queue);
                self.consume_local(backend, &stop).await
            }
            Feed::Redis { url } => {
                let connected = tokio::select! {
                    () = stop.cancelled() => return Ended("stopped".to_owned()),
                    connected = connect(url) => connected,
                };
                match connected {
                    Ok(connection) => self.consume_redis(connection, &stop).await,
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        Ended(ended.map_or_else(|reason| reason, |()| "the queue was closed".to_owned()))
    }
}

/// How a life of a consumer ended.
struct Ended(String);

/// What came through a queue: a message, or bytes that are none.
#[derive(Debug, Clone)]
struct Parcel(Option<JobMessage>);

/// Reads anything: with a codec that can fail, one bad message would stop its queue for ever.
#[derive(Debug, Clone, Copy)]
struct Lenient;

impl Codec<Parcel> for Lenient {
    type Error = Infallible;
    type Compact = Vec<u8>;

    fn encode(&self, parcel: &Parcel) -> Result<Vec<u8>, Infallible> {
        Ok(serde_json::to_vec(&parcel.0).unwrap_or_default())
    }

    fn decode(&self, bytes: &Vec<u8>) -> Result<Parcel, Infallible> {
        Ok(Parcel(serde_json::from_slice(bytes).ok()))
    }
}

/// Asks at a steady pace. apalis's own intervals lose their waker under load.
struct Every(Interval);

impl Every {
    fn new(period: Duration) -> Self {
        let mut interval = interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(interval)
    }
}

impl PollStrategy for Every {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = false;
        while self.0.poll_tick(cx).is_ready() {
            due = true;
        }
        if due { Poll::Ready(Some(())) } else { Poll::Pending }
    }
}

/// The two backends are of different types without a common name.
macro_rules! consume {
    ($consumer:expr, $backend:expr, $stop:expr) => {{
        // apalis takes a name that was used before for one that lives, even after its end.
        let name = format!("{}:{}", $consumer.worker_id, JobId::generate());
        let stopped = $stop.clone().cancelled_owned().map(Ok::<(), std::io::Error>);
        let worker = WorkerBuilder::new(name)
            .backend($backend)
            .layer(GateLayer($consumer.slots.clone()))
            .concurrency(1)
            .catch_panic()
            .data($consumer.clone())
            .build(deliver);
        worker.run_until(stopped).map_err(|error| xvault::core::error::chain(&error)).boxed().await
    }};
}

impl Consumer {
    async fn consume_local(
        &self,
        backend: BoxStream<'static, Result<Parcel, Infallible>>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        consume!(self, backend, stop)
    }

    async fn consume_redis(
        &self,
        mut connection: ConnectionManager,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let config = config(&self.queue);
        // Before each life: what ended the last one must not end this one, too.
        let swept = sweep::sweep(&mut connection, &config).await.map_err(|error| error.to_string())?;
        if swept > 0 {
            self.metrics.bad_messages(&self.queue, swept);
            tracing::warn!(queue = %self.queue, messages = swept, "messages without content were removed");
        }
        let storage = RedisStorage::<Parcel>::new(connection)
            .with_config(config)
            .with_codec(Lenient)
            .poll_with_strategy(Every::new(POLL));
        consume!(self, storage, stop)
    }
}

/// Hands a message on. What can't be read is dropped: the hub's reconciler knows what was meant.
async fn deliver(parcel: Parcel, consumer: Data<Consumer>) -> Result<(), BoxDynError> {
    let Some(message) = parcel.0 else {
        consumer.metrics.bad_messages(&consumer.queue, 1);
        tracing::warn!(queue = %consumer.queue, "a message that can't be read was dropped");
        return Ok(());
    };
    (consumer.handler)(message).await.map_err(Into::into)
}

fn config(queue: &QueueName) -> Config {
    Config::default()
        .queue(queue.to_string())
        .batch_size(1)
        .heartbeat_interval(HEARTBEAT)
        .missed_heartbeats(MISSED)
        .emit_events(false)
        .idempotency_ttl(Some(Duration::from_secs(120)))
}

async fn connect(url: &SecretString) -> Result<ConnectionManager, redis::RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE))
        .set_connection_timeout(Some(RESPONSE))
        .set_number_of_retries(0);
    ConnectionManager::new_with_config(redis::Client::open(url.expose_secret())?, config).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::sync::mpsc::channel;

    proptest! {
        #[test]
        fn any_bytes_are_a_parcel(bytes: Vec<u8>) {
            let Ok(parcel) = Lenient.decode(&bytes);
            let id = JobId::generate();
            prop_assert!(parcel.0.is_none_or(|message| message.job_id != id));
        }
    }

    #[test]
    fn a_message_survives_its_codec() {
        let message = JobMessage { job_id: JobId::generate() };
        let Ok(bytes) = Lenient.encode(&Parcel(Some(message.clone())));
        let Ok(read) = Lenient.decode(&bytes);
        assert_eq!(read.0, Some(message));
    }

    #[tokio::test]
    async fn a_local_stream_that_breaks_off_loses_no_message() {
        let (sender, shared) = channel(8);
        let ((_own, own), (_quick, quick)) = (channel(8), channel(8));
        let feed = LocalFeed::new(shared, own, quick);
        for id in ["a", "b", "c"] {
            sender.try_send(JobMessage { job_id: id.parse().unwrap() }).unwrap();
        }
        let mut got = Vec::new();
        for _ in 0..3 {
            let mut stream = feed.messages(&QueueName::Shared);
            let Ok(parcel) = stream.next().await.unwrap();
            got.push(parcel.0.unwrap().job_id.to_string());
        }
        assert_eq!(got, ["a", "b", "c"]);
    }

    #[test]
    fn a_redis_that_will_never_answer_is_refused_without_a_word_of_its_password() {
        for (url, told) in [
            ("rediss://:hunter2@h:6379/0", "TLS"),
            ("valkeys://:hunter2@h", "TLS"),
            ("http://:hunter2@h", "redis://:password@host"),
            (":hunter2@h:6379", "redis://:password@host"),
            ("redis://:hunter2@", "redis://:password@host"),
            ("redis://:hunter2/@h:6379/0", "%XX"),
            ("redis://:hunter2@h:port", "redis://:password@host"),
            ("redis://:hunter2@h/db", "redis://:password@host"),
        ] {
            let error = Feed::Redis { url: url.into() }.check().unwrap_err().to_string();
            assert!(error.starts_with("REDIS_URL: ") && error.contains(told), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for url in ["redis://h", "redis://u:hunter%40@h:6379/1", "redis+unix:///run/redis.sock"] {
            Feed::Redis { url: url.into() }.check().unwrap();
        }
    }

    #[test]
    fn the_feed_shows_no_password() {
        let feed = Feed::Redis { url: SecretString::from("redis://:hunter2@localhost") };
        assert!(!format!("{feed:?}").contains("hunter2"));
    }
}
