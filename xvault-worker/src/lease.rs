//! The right to work on a job: kept alive while the job runs, and what it means when it ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use xvault::core::protocol::LeaseAnswer;
use xvault::core::{JobId, LeaseToken};

use crate::hub::{self, Backoff, Hub};

/// No lease is believed to last longer, whatever the hub says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The shortest pause between two renewals.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after renewals that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// Bounds of the time that the answer to a renewal may take.
const ANSWER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// Why a job may not go on. Only the hub can say so: while it is silent it gives the job to nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The hub gave the job to somebody else.
    LeaseLost,
    /// The job is over: canceled, say.
    Finished,
}

impl Stop {
    /// What to write into the worker's own log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::LeaseLost => "the hub gave the job to somebody else",
            Self::Finished => "the job was canceled or is over",
        }
    }
}

/// The lease of one job. Ending it cancels the job.
#[derive(Debug)]
pub(crate) struct Lease {
    token: LeaseToken,
    cancel: CancellationToken,
    state: Mutex<State>,
    /// Told whenever the hub has said something about the job.
    heard: Notify,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the last answer that renewed it was asked for: never later than when the hub counted from.
    renewed_at: Instant,
    span: Duration,
    stop: Option<Stop>,
}

impl State {
    /// When it runs out unless renewed, by this machine's clock.
    fn deadline(self) -> Instant {
        self.renewed_at + self.span
    }
}

impl Lease {
    /// A lease of `lease_ms` that was asked for at `asked_at`; `cancel` is cancelled when it ends.
    pub(crate) fn new(
        token: LeaseToken,
        lease_ms: u64,
        asked_at: Instant,
        cancel: CancellationToken,
    ) -> Self {
        let state = State { renewed_at: asked_at, span: span(lease_ms), stop: None };
        Self { token, cancel, state: Mutex::new(state), heard: Notify::new() }
    }

    /// What every call about the job shows.
    pub(crate) fn token(&self) -> &LeaseToken {
        &self.token
    }

    /// Cancelled when the job may not go on.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Why the job may not go on, if so.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.state().stop
    }

    /// Takes note of what the hub answered to a call that was sent at `asked_at`.
    pub(crate) fn heed(&self, asked_at: Instant, answer: &Result<LeaseAnswer, hub::Error>) {
        match answer {
            Ok(answer) => self.renewed(asked_at, answer.lease_ms),
            Err(hub::Error::LeaseLost) => self.end(Stop::LeaseLost),
            Err(hub::Error::JobFinished) => self.end(Stop::Finished),
            Err(hub::Error::Unreachable { .. }) => return,
            Err(_) => {}
        }
        self.heard.notify_waiters();
    }

    /// Waits until the hub says something about the job: anything, if only that it is over.
    pub(crate) async fn heard(&self) {
        let heard = self.heard.notified();
        if self.stop().is_none() {
            heard.await;
        }
    }

    fn renewed(&self, asked_at: Instant, lease_ms: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers may overtake each other; of two, the later question's counts, be its lease shorter.
        if asked_at >= state.renewed_at {
            (state.renewed_at, state.span) = (asked_at, span(lease_ms));
        }
    }

    fn end(&self, stop: Stop) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop.get_or_insert(stop);
        self.cancel.cancel();
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn span(lease_ms: u64) -> Duration {
    Duration::from_millis(lease_ms).min(LONGEST)
}

/// When to renew next while all is well: after a third of the lease.
fn next_renewal(now: Instant, renewed_at: Instant, span: Duration) -> Instant {
    (renewed_at + span / 3).max(now + SHORTEST_PAUSE)
}

/// The pauses after renewals that fail: so short that a hub which comes back, and then waits for a whole lease, hears this worker.
fn retries(span: Duration) -> Backoff {
    let longest = (span / 4).clamp(SHORTEST_PAUSE, LONGEST_RETRY);
    Backoff::new((span / 10).clamp(SHORTEST_PAUSE, longest), longest)
}

/// How long the answer to a renewal may take.
fn patience(span: Duration) -> Duration {
    (span / 3).clamp(ANSWER.0, ANSWER.1)
}

/// Renews the lease for as long as it is polled, however long the hub is silent. Returns when the hub has ended it.
pub(crate) async fn keep(hub: &Hub, job_id: &JobId, lease: &Lease) {
    let mut failing: Option<Failing> = None;
    while lease.stop().is_none() {
        let state = lease.state();
        sleep_until(match &mut failing {
            Some(failing) => Instant::now() + failing.backoff.pause(),
            None => next_renewal(Instant::now(), state.renewed_at, state.span),
        })
        .await;
        let asked_at = Instant::now();
        let answer = timeout(patience(state.span), hub.renew(job_id, &lease.token)).await;
        if let Ok(answer) = &answer {
            lease.heed(asked_at, answer);
        }
        failing = match answer {
            Ok(Ok(_)) => None,
            _ => failing.or_else(|| Some(Failing { backoff: retries(state.span), told: false })),
        };
        tell(lease, failing.as_mut());
    }
}

/// Renewals that bring nothing.
struct Failing {
    backoff: Backoff,
    told: bool,
}

/// Says, once, that a lease has run out without the hub having been heard.
fn tell(lease: &Lease, failing: Option<&mut Failing>) {
    let Some(failing) = failing.filter(|failing| !failing.told) else { return };
    if lease.stop().is_none() && Instant::now() >= lease.state().deadline() {
        failing.told = true;
        tracing::warn!(
            "the hub was silent for a whole lease: the job goes on until the hub says that somebody else has it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lease(lease_ms: u64) -> Lease {
        Lease::new(LeaseToken::generate(), lease_ms, Instant::now(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_late_answer_never_shortens_a_lease() {
        let lease = lease(60_000);
        let before = lease.state().deadline();
        let early = Instant::now() - Duration::from_secs(30);
        lease.heed(early, &Ok(LeaseAnswer { lease_ms: 60_000 }));
        assert_eq!(lease.state().deadline(), before);
        let later = Instant::now() + Duration::from_secs(5);
        lease.heed(later, &Ok(LeaseAnswer { lease_ms: 60_000 }));
        assert_eq!(lease.state().deadline(), later + Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_lease_is_as_long_as_the_hub_said_last() {
        let lease = lease(600_000);
        let later = Instant::now() + Duration::from_secs(5);
        lease.heed(later, &Ok(LeaseAnswer { lease_ms: 60_000 }));
        assert_eq!(lease.state().deadline(), later + Duration::from_secs(60), "the next hub may be stricter");
    }

    #[tokio::test]
    async fn the_first_reason_stays_and_the_job_is_cancelled() {
        let lease = lease(60_000);
        lease.heed(Instant::now(), &Err(hub::Error::Unauthorized));
        assert!(lease.stop().is_none() && !lease.cancel().is_cancelled());
        lease.heed(Instant::now(), &Err(hub::Error::JobFinished));
        lease.heed(Instant::now(), &Err(hub::Error::LeaseLost));
        assert_eq!(lease.stop(), Some(Stop::Finished));
        assert!(lease.cancel().is_cancelled());
    }

    #[tokio::test]
    async fn an_absurd_lease_neither_overflows_nor_lasts() {
        assert!(lease(u64::MAX).state().deadline() <= Instant::now() + LONGEST);
    }

    #[tokio::test]
    async fn whatever_the_hub_says_is_heard_and_silence_is_not() {
        let lease = lease(60_000);
        let unreachable = hub::Error::Unreachable { reason: String::new(), sent: true, retry_after: None };
        let mut heard = std::pin::pin!(lease.heard());
        assert!(futures::poll!(heard.as_mut()).is_pending());
        lease.heed(Instant::now(), &Err(unreachable));
        assert!(futures::poll!(heard.as_mut()).is_pending() && lease.stop().is_none());
        lease.heed(Instant::now(), &Err(hub::Error::Unauthorized));
        assert!(futures::poll!(heard).is_ready());
        // Of a job that is over nothing more is said.
        lease.heed(Instant::now(), &Err(hub::Error::JobFinished));
        lease.heard().await;
    }

    proptest! {
        #[test]
        fn renewals_come_in_time_and_not_in_a_rush(span_ms in 0u64..100_000_000, since_ms in 0u64..200_000_000) {
            let (renewed_at, span) = (Instant::now(), Duration::from_millis(span_ms));
            let now = renewed_at + Duration::from_millis(since_ms);
            let next = next_renewal(now, renewed_at, span);
            prop_assert!(next >= now + SHORTEST_PAUSE);
            prop_assert!(next <= (renewed_at + span / 3).max(now + SHORTEST_PAUSE));
        }

        /// A hub that is back gives the job away after a whole lease: by then a renewal was answered, be it that the one before
        /// it was sent into the outage and had to time out.
        #[test]
        fn a_hub_that_comes_back_is_told_before_it_gives_the_job_away(span_ms in 3_000u64..100_000_000, failures in 0usize..20) {
            let span = Duration::from_millis(span_ms);
            let mut retries = retries(span);
            let pause = (0..=failures).map(|_| retries.pause()).last().unwrap();
            prop_assert!(pause >= SHORTEST_PAUSE);
            prop_assert!(patience(span) + pause < span);
        }
    }
}
