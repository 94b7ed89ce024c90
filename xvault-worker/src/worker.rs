//! The worker as a whole: starts its loops, and stops them in order.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xvault::FsStore;
use xvault::core::protocol::{JobMessage, QueueName, Register};
use xvault::core::{JobId, Recipient};

use crate::config::WorkerConfig;
use crate::error::Error;
use crate::heartbeat::Membership;
use crate::hub::{self, Backoff, Hub};
use crate::jobs::source::Doors;
use crate::jobs::{self, Tools};
use crate::metrics::Metrics;
use crate::queue::{Consumer, Feed, Handler, Undelivered};
use crate::slots::Slots;
use crate::{http, identity, reconcile};

/// How long the hub is asked for a job before its message is given back to the queue.
const CLAIM_PATIENCE: Duration = Duration::from_secs(15);
/// How long loops without a job may take to end: somebody may hold a connection to `/metrics` open.
const LINGER: Duration = Duration::from_secs(5);
/// How long cancelled jobs may take to be handed back.
const HAND_BACK: Duration = Duration::from_secs(60);

/// A worker that can be run.
pub struct Worker {
    config: WorkerConfig,
    feed: Arc<Feed>,
    tools: Arc<Tools>,
    recipient: Recipient,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("worker_id", &self.config.worker_id).finish_non_exhaustive()
    }
}

impl Worker {
    /// Opens the store and the worker's key, both of which are made when they are missing. Neither hub nor queue need to be there.
    ///
    /// # Errors
    /// When the settings can't work on this machine.
    pub fn new(config: WorkerConfig, feed: Feed) -> Result<Self, Error> {
        let store = FsStore::open(&config.storage_base)
            .map_err(|source| Error::Store { path: config.storage_base.clone(), source: Box::new(source) })?;
        let identity = identity::open(&config.storage_base)?;
        let recipient = identity.recipient();
        let doors = Doors {
            identity,
            local_roots: jobs::real_roots(&config.allow_local).map_err(Error::AllowLocal)?,
            storage_base: config.storage_base.clone(),
        };
        let tools = Arc::new(Tools {
            worker_id: config.worker_id.clone(),
            hub: Hub::new(&config.hub_url, &config.token, config.hub_ca_file.as_deref())?,
            store,
            doors,
            min_free: config.min_free,
            metrics: Metrics::new(),
            give_up: CancellationToken::new(),
        });
        Ok(Self { config, feed: Arc::new(feed), tools, recipient })
    }

    /// What the hub seals secrets for this worker to.
    #[must_use]
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Runs until `shutdown`, then lets running jobs end for as long as the settings say, hands back what still runs, and returns.
    ///
    /// A hub or a queue that goes away is waited for, however long it takes. Dropping the future stops running jobs, too.
    ///
    /// # Errors
    /// When the address for metrics can't be had. Nothing was begun then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let (closing, shutdown) = (CancellationToken::new(), shutdown.child_token());
        let ends = [&closing, &shutdown, &self.tools.give_up];
        let _dropped = ends.map(|token| token.clone().drop_guard());
        let loops = TaskTracker::new();
        if let Some(listener) = self.listen().await? {
            loops.spawn(http::run(listener, self.tools.metrics.clone(), closing.clone()));
        }
        let (known, paused) = (watch::Sender::new(false), watch::Sender::new(false));
        let membership = self.membership(&shutdown, &paused, &known);
        loops.spawn(membership.run(closing.clone()));
        let tools = self.tools.clone();
        let (is_known, stop) = (known.subscribe(), shutdown.clone());
        loops.spawn(async move {
            if wait_for(is_known, true, &stop).await {
                tokio::select! { () = stop.cancelled() => {}, () = reconcile::run(&tools.hub, &tools.store) => {} }
            }
        });
        let running = TaskTracker::new();
        self.consume(&loops, &running, &shutdown, (&known, &paused));
        shutdown.cancelled().await;
        self.drain(&running).await;
        closing.cancel();
        loops.close();
        if timeout(LINGER, loops.wait()).await.is_err() {
            tracing::debug!("some loops did not end in time");
        }
        Ok(())
    }

    async fn listen(&self) -> Result<Option<TcpListener>, Error> {
        let Some(addr) = self.config.metrics_addr else { return Ok(None) };
        let bound = TcpListener::bind(addr).await.map_err(|source| Error::Listen { addr, source })?;
        tracing::info!(%addr, "serving /metrics and /healthz");
        Ok(Some(bound))
    }

    fn membership(
        &self,
        shutdown: &CancellationToken,
        paused: &watch::Sender<bool>,
        known: &watch::Sender<bool>,
    ) -> Membership {
        let register = Register {
            worker_id: self.config.worker_id.clone(),
            name: None,
            recipient: self.recipient.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: self.tools.doors.capabilities(),
            storage_base_path: self.config.storage_base.display().to_string(),
            concurrency: u32::try_from(self.config.concurrency.get()).unwrap_or(u32::MAX),
        };
        Membership {
            hub: self.tools.hub.clone(),
            register,
            metrics: self.tools.metrics.clone(),
            draining: shutdown.clone(),
            paused: paused.clone(),
            known: known.clone(),
        }
    }

    /// Starts a consumer for the shared queue, which an operator can pause, and one for the worker's own.
    fn consume(
        &self,
        loops: &TaskTracker,
        running: &TaskTracker,
        shutdown: &CancellationToken,
        (known, paused): (&watch::Sender<bool>, &watch::Sender<bool>),
    ) {
        let slots = Slots::new(self.config.concurrency);
        let never = watch::Sender::new(false);
        for (queue, paused) in
            [(QueueName::Shared, paused), (QueueName::Worker(self.config.worker_id.clone()), &never)]
        {
            let intake = Intake {
                tools: self.tools.clone(),
                slots: slots.clone(),
                running: running.clone(),
                stop: shutdown.clone(),
            };
            let consumer = Consumer {
                feed: self.feed.clone(),
                queue,
                worker_id: self.config.worker_id.clone(),
                slots: slots.clone(),
                handler: intake.handler(),
                metrics: self.tools.metrics.clone(),
            };
            loops.spawn(consume(consumer, known.subscribe(), paused.subscribe(), shutdown.clone()));
        }
    }

    /// Waits for running jobs, then hands back those that still run.
    async fn drain(&self, running: &TaskTracker) {
        running.close();
        if !running.is_empty() {
            tracing::info!(jobs = running.len(), "stopping: waiting for running jobs");
        }
        if timeout(self.config.drain, running.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(jobs = running.len(), "running jobs are stopped and handed back to the hub");
        self.tools.give_up.cancel();
        if timeout(HAND_BACK, running.wait()).await.is_err() {
            // Their leases run out, and the hub gives them to somebody else.
            tracing::error!(jobs = running.len(), "some jobs did not stop");
        }
    }
}

/// Consumes while the hub knows the worker and nobody pauses the queue, until `stop`.
async fn consume(
    consumer: Consumer,
    known: watch::Receiver<bool>,
    paused: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    if !wait_for(known, true, &stop).await {
        return;
    }
    while wait_for(paused.clone(), false, &stop).await {
        let pause = stop.child_token();
        tokio::join!(
            async {
                wait_for(paused.clone(), true, &pause).await;
                pause.cancel();
            },
            consumer.run(&pause),
        );
    }
}

/// Waits until `flag` is `wanted`; false when `stop` came first.
async fn wait_for(mut flag: watch::Receiver<bool>, wanted: bool, stop: &CancellationToken) -> bool {
    let changed = async { flag.wait_for(|value| *value == wanted).await.is_ok() };
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        // Without a sender nobody can change it any more, and `stop` is all that can come.
        true = changed => true,
    }
}

/// Turns messages into running jobs.
#[derive(Clone)]
struct Intake {
    tools: Arc<Tools>,
    slots: Slots,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Intake {
    fn handler(self) -> Handler {
        Arc::new(move |message: JobMessage| self.clone().take(message).boxed())
    }

    /// Takes a slot, claims the job and starts it. The message is done with once the claim is answered.
    async fn take(self, message: JobMessage) -> Result<(), Undelivered> {
        let slot = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Undelivered::Stopping),
            slot = self.slots.take() => slot.ok_or(Undelivered::Stopping)?,
        };
        let (told, heard) = oneshot::channel();
        let tools = self.tools;
        // In a task of its own: a consumer that breaks off takes neither the claim nor the job with it.
        self.running.spawn(async move {
            let (asked_at, claimed) = claim(&tools.hub, &message.job_id).await;
            let job = match claimed {
                Ok(Ok(assignment)) => Some(jobs::run(tools, *assignment, asked_at)),
                Ok(Err(reason)) => {
                    tracing::debug!(job_id = %message.job_id, reason, "nothing to do for a message");
                    None
                }
                Err(error) => {
                    tracing::warn!(job_id = %message.job_id, %error, "a job could not be claimed");
                    tell(told, Err(Undelivered::HubUnreachable));
                    return;
                }
            };
            tell(told, Ok(()));
            if let Some(job) = job {
                job.await;
            }
            drop(slot);
        });
        heard.await.unwrap_or(Err(Undelivered::HubUnreachable))
    }
}

fn tell(waiting: oneshot::Sender<Result<(), Undelivered>>, answer: Result<(), Undelivered>) {
    if waiting.send(answer).is_err() {
        tracing::debug!("the consumer of a message broke off");
    }
}

type Claimed = Result<Result<Box<xvault::core::protocol::Assignment>, String>, hub::Error>;

/// Claims a job, for a while; gives when the claim that was answered was sent.
async fn claim(hub: &Hub, job_id: &JobId) -> (Instant, Claimed) {
    let until = Instant::now() + CLAIM_PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    loop {
        let asked_at = Instant::now();
        let claimed = hub.claim(job_id).await;
        let pause = match &claimed {
            Err(error @ hub::Error::Unreachable { .. }) => backoff.after(error),
            _ => return (asked_at, claimed),
        };
        if Instant::now() + pause >= until {
            return (asked_at, claimed);
        }
        tokio::time::sleep(pause).await;
    }
}
