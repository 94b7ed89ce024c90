//! Makes the worker known to the hub, and keeps telling that it lives.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xvault::core::protocol::{Heartbeat, Register};

use crate::hub::{Backoff, Error, Hub, Standing};
use crate::metrics::Metrics;
use crate::vitals::Vitals;

/// Bounds of the pause between heartbeats, whatever the hub says.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(300);
/// The longest pause between two attempts while the hub refuses the worker's token.
const LONGEST_REFUSED: Duration = Duration::from_secs(60);

/// Tells the hub about this worker.
pub(crate) struct Membership {
    pub(crate) hub: Hub,
    pub(crate) register: Register,
    pub(crate) metrics: Metrics,
    /// Cancelled when the worker takes no more jobs.
    pub(crate) draining: CancellationToken,
    /// Whether an operator wants it to take no more jobs of the shared queue.
    pub(crate) paused: watch::Sender<bool>,
}

impl Membership {
    /// Registers, then sends heartbeats until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! { () = stop.cancelled() => {}, () = self.beat() => {}, () = self.watch_standing() => {} }
    }

    async fn beat(&self) {
        let mut vitals = Vitals::new();
        let mut pause = self.register().await;
        let mut complaint = None;
        let mut told_draining = false;
        let mut refused: Option<Backoff> = None;
        loop {
            let wait = refused.as_mut().map_or(pause, Backoff::pause);
            tokio::select! {
                // The hub should know at once that no more jobs are wanted.
                () = self.draining.cancelled(), if !told_draining => told_draining = true,
                // Another call was refused: from now on this is the one that asks whether it still is so.
                () = self.hub.becomes(Standing::Refused), if refused.is_none() => {}
                () = tokio::time::sleep(wait) => {}
            }
            match self.tell(&mut vitals).await {
                Ok(true) => {
                    tracing::warn!("the hub does not know this worker any more: registering again");
                    pause = self.register().await;
                }
                Ok(false) if complaint.take().is_some() => tracing::info!("the hub answers again"),
                Ok(false) => {}
                Err(error) => complain(&mut complaint, &error),
            }
            refused = match (*self.hub.standing().borrow(), refused) {
                (Standing::Refused, None) => Some(Backoff::new(SHORTEST, LONGEST_REFUSED)),
                (Standing::Refused, refused) => refused,
                _ => None,
            };
        }
    }

    /// One heartbeat; whether the hub wants the worker to register again.
    async fn tell(&self, vitals: &mut Vitals) -> Result<bool, Error> {
        let base = std::path::Path::new(&self.register.storage_base_path);
        let measured = vitals.measure(base, self.metrics.active_jobs());
        self.metrics.vitals(&measured);
        let heartbeat = Heartbeat {
            worker_id: self.register.worker_id.clone(),
            draining: self.draining.is_cancelled(),
            metrics: measured,
        };
        let answer = self.hub.heartbeat(&heartbeat).await;
        self.metrics.hub_reached(answer.is_ok());
        let answer = answer?;
        self.pause(answer.drain);
        Ok(answer.register)
    }

    /// Tells when the hub refuses the worker's token, and when it takes it again.
    async fn watch_standing(&self) {
        let (mut standing, mut was) = (self.hub.standing(), Standing::Unknown);
        let worker_id = &self.register.worker_id;
        // Its sender lives as long as the hub's client, which is ours.
        while standing.changed().await.is_ok() {
            let now = *standing.borrow_and_update();
            self.metrics.token_refused(now == Standing::Refused);
            match (was, now) {
                (_, Standing::Refused) => tracing::error!(
                    %worker_id,
                    "the hub refuses this worker's token: no jobs are taken until it accepts it; check WORKER_ID and WORKER_TOKEN, or make \
                     a new token with `xvault-hub token {worker_id}` and start the worker with it"
                ),
                (Standing::Refused, _) => {
                    tracing::info!(%worker_id, "the hub accepts this worker's token: jobs are taken again");
                }
                _ => {}
            }
            was = now;
        }
    }

    fn pause(&self, paused: bool) {
        let changed = self.paused.send_if_modified(|was| std::mem::replace(was, paused) != paused);
        match (changed, paused) {
            (true, true) => tracing::info!("an operator drains this worker: no more shared jobs are taken"),
            (true, false) => tracing::info!("shared jobs are taken again"),
            (false, _) => {}
        }
    }

    /// Registers, however long it takes; gives the pause between heartbeats.
    async fn register(&self) -> Duration {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        let mut complaint = None;
        loop {
            match self.hub.register(&self.register).await {
                Ok(answer) => {
                    tracing::info!(worker_id = %self.register.worker_id, "registered with the hub");
                    self.metrics.hub_reached(true);
                    return Duration::from_millis(answer.heartbeat_ms).clamp(SHORTEST, LONGEST);
                }
                Err(error) => {
                    self.metrics.hub_reached(false);
                    complain(&mut complaint, &error);
                    tokio::time::sleep(backoff.after(&error)).await;
                }
            }
        }
    }
}

/// Says what is wrong once, until it is something else. A token that is refused is told of elsewhere.
fn complain(said: &mut Option<String>, error: &Error) {
    if let Error::Unauthorized = error {
        return;
    }
    let text = error.to_string();
    if said.as_ref() != Some(&text) {
        tracing::warn!("{text}");
        *said = Some(text);
    }
}
