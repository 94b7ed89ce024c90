//! The worker as a whole: starts its loops, and stops them in order.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xvault::FsStore;
use xvault::connectors::Network;
use xvault::connectors::tool::ToolOptions;
use xvault::core::Recipient;
use xvault::core::protocol::{JobMessage, QueueName, Register};

use crate::claims::Claims;
use crate::config::WorkerConfig;
use crate::downloads::{self, Downloads};
use crate::error::Error;
use crate::heartbeat::Membership;
use crate::hub::{Hub, Standing};
use crate::jobs::source::Doors;
use crate::jobs::{self, Tools};
use crate::metrics::Metrics;
use crate::queue::{Consumer, Feed, Handler, Undelivered};
use crate::scratch::ScratchServers;
use crate::slots::Slots;
use crate::{http, identity, reconcile};

/// How many quick jobs run beside the others: people wait for them, and they hold little memory.
const QUICK: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
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
    /// Jobs, which are waited for at the end.
    running: TaskTracker,
    downloads: Downloads,
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
        feed.check()?;
        let store = FsStore::open(&config.storage_base)
            .map_err(|source| Error::Store { path: config.storage_base.clone(), source: Box::new(source) })?;
        let upload_dir = config.upload_dir.clone().unwrap_or_else(|| config.storage_base.clone());
        if !upload_dir.is_dir() {
            return Err(Error::UploadDir(upload_dir));
        }
        let identity = identity::open(&config.storage_base)?;
        let recipient = identity.recipient();
        let database_tools =
            ToolOptions { allow_outdated: config.allow_outdated_tools, ..ToolOptions::default() };
        let scratch = ScratchServers::of(&config, &database_tools)?;
        let doors = Doors {
            identity,
            local_roots: jobs::real_roots(&config.allow_local).map_err(Error::AllowLocal)?,
            storage_base: config.storage_base.clone(),
            database_tools,
            network: Network::new(config.egress.clone()),
        };
        let tools = Arc::new(Tools {
            worker_id: config.worker_id.clone(),
            hub: Hub::new(&config.hub_url, &config.token, config.hub_ca_file.as_deref())?,
            store,
            doors,
            scratch,
            upload_dir,
            min_free: config.min_free,
            sweep_limit: config.sweep_limit,
            deletion_limit: config.deletion_limit,
            metrics: Metrics::new(),
            give_up: CancellationToken::new(),
        });
        let running = TaskTracker::new();
        let downloads = Downloads::new(tools.clone(), running.clone(), &config);
        Ok(Self { config, feed: Arc::new(feed), tools, recipient, running, downloads })
    }

    /// What the hub seals secrets for this worker to.
    #[must_use]
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// `/downloads/…`, for an HTTP server in the same program that passes the addresses of its clients on as `ConnectInfo`. Links
    /// lead there by [`WorkerConfig::download_url`]. It answers while the worker runs.
    pub fn download_router(&self) -> Router {
        self.downloads.router()
    }

    /// Runs until `shutdown`, then lets running jobs end for as long as the settings say, hands back what still runs, and returns.
    ///
    /// A hub or a queue that goes away is waited for, however long it takes. Dropping the future stops running jobs, too.
    ///
    /// # Errors
    /// When an address to serve at can't be had. Nothing was begun then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let (closing, shutdown) = (CancellationToken::new(), shutdown.child_token());
        let ends = [&closing, &shutdown, &self.tools.give_up];
        let _dropped = ends.map(|token| token.clone().drop_guard());
        let loops = TaskTracker::new();
        let metrics = listen(self.config.metrics_addr, "metrics").await?;
        let downloading = listen(self.config.download_addr, "downloads").await?;
        let download_url = self.download_url(downloading.as_ref())?;
        if let Some(listener) = metrics {
            loops.spawn(http::run(listener, self.tools.metrics.clone(), closing.clone()));
        }
        if let Some(listener) = downloading {
            let limits = downloads::limits(&self.config);
            loops.spawn(downloads::run(listener, self.downloads.router(), limits, closing.clone()));
        }
        let paused = watch::Sender::new(false);
        let membership = self.membership(&shutdown, &paused, download_url);
        loops.spawn(membership.run(closing.clone()));
        let (tools, stop) = (self.tools.clone(), shutdown.clone());
        loops.spawn(async move {
            let accepted = tools.hub.becomes(Standing::Accepted);
            let work = accepted.then(|()| {
                futures::future::join(reconcile::run(&tools.hub, &tools.store), tools.scratch.keep_clean())
            });
            tokio::select! { () = stop.cancelled() => {}, ((), ()) = work => {} }
        });
        self.consume(&loops, &self.running, &shutdown, &paused);
        shutdown.cancelled().await;
        self.downloads.close();
        self.drain(&self.running).await;
        closing.cancel();
        loops.close();
        if timeout(LINGER, loops.wait()).await.is_err() {
            tracing::debug!("some loops did not end in time");
        }
        Ok(())
    }

    /// What links begin with: the setting, or the address that is served at. An address that means all of this machine's is none.
    fn download_url(&self, listener: Option<&TcpListener>) -> Result<Option<String>, Error> {
        if let Some(url) = &self.config.download_url {
            return Ok(Some(url.trim_end_matches('/').to_owned()));
        }
        let Some(addr) = listener.and_then(|listener| listener.local_addr().ok()) else { return Ok(None) };
        if addr.ip().is_unspecified() {
            Err(Error::NoDownloadUrl(addr))
        } else {
            Ok(Some(format!("http://{addr}")))
        }
    }

    fn membership(
        &self,
        shutdown: &CancellationToken,
        paused: &watch::Sender<bool>,
        download_url: Option<String>,
    ) -> Membership {
        let register = Register {
            worker_id: self.config.worker_id.clone(),
            name: None,
            recipient: self.recipient.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: self.tools.doors.capabilities(),
            storage_base_path: self.config.storage_base.display().to_string(),
            concurrency: u32::try_from(self.config.concurrency.get()).unwrap_or(u32::MAX),
            download_url,
        };
        Membership {
            hub: self.tools.hub.clone(),
            register,
            metrics: self.tools.metrics.clone(),
            draining: shutdown.clone(),
            paused: paused.clone(),
        }
    }

    /// Starts a consumer for the shared queue, which an operator can pause, one for the worker's own, and one with slots of its own
    /// for what somebody waits for, so that long jobs don't hold it up.
    fn consume(
        &self,
        loops: &TaskTracker,
        running: &TaskTracker,
        shutdown: &CancellationToken,
        paused: &watch::Sender<bool>,
    ) {
        let (slots, claims) = (Slots::new(self.config.concurrency), Claims::default());
        let (quick, never) = (Slots::new(QUICK), watch::Sender::new(false));
        let id = || self.config.worker_id.clone();
        for (queue, slots, paused) in [
            (QueueName::Shared, &slots, paused),
            (QueueName::Worker(id()), &slots, &never),
            (QueueName::Quick(id()), &quick, &never),
        ] {
            let intake = Intake {
                tools: self.tools.clone(),
                slots: slots.clone(),
                running: running.clone(),
                claims: claims.clone(),
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
            let terms = Terms { standing: self.tools.hub.standing(), paused: paused.subscribe() };
            loops.spawn(consume(consumer, terms, shutdown.clone()));
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

/// An address that something is served at, if it is.
async fn listen(addr: Option<SocketAddr>, what: &'static str) -> Result<Option<TcpListener>, Error> {
    let Some(addr) = addr else { return Ok(None) };
    let bound = TcpListener::bind(addr).await.map_err(|source| Error::Listen { what, addr, source })?;
    tracing::info!(%addr, "serving {what}");
    Ok(Some(bound))
}

/// Consumes while the terms are met, until `stop`.
async fn consume(consumer: Consumer, terms: Terms, stop: CancellationToken) {
    loop {
        tokio::select! { biased; () = stop.cancelled() => return, () = terms.clone().wait_for(true) => {} }
        let pause = stop.child_token();
        let _dropped = pause.clone().drop_guard();
        tokio::join!(
            async {
                tokio::select! { () = pause.cancelled() => {}, () = terms.clone().wait_for(false) => pause.cancel() }
            },
            consumer.run(&pause),
        );
    }
}

/// What a queue is consumed on: the hub takes the worker's token, so that claims can be answered, and nobody pauses the queue.
#[derive(Clone)]
struct Terms {
    standing: watch::Receiver<Standing>,
    paused: watch::Receiver<bool>,
}

impl Terms {
    fn are_met(&self) -> bool {
        *self.standing.borrow() == Standing::Accepted && !*self.paused.borrow()
    }

    /// Waits until they are met, or until they are not.
    async fn wait_for(mut self, met: bool) {
        while self.are_met() != met {
            tokio::select! { () = changed(&mut self.standing) => {}, () = changed(&mut self.paused) => {} }
        }
    }
}

/// Ready when it has changed; never, when nobody can change it any more.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Turns messages into running jobs.
#[derive(Clone)]
struct Intake {
    tools: Arc<Tools>,
    slots: Slots,
    running: TaskTracker,
    claims: Claims,
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
            let (asked_at, claimed) = self.claims.claim(&tools.hub, &message.job_id).await;
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
