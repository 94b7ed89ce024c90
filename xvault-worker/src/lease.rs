//! The right to work on a job: kept alive while the job runs, and what it means when it ends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use xvault::core::protocol::LeaseAnswer;
use xvault::core::{JobId, LeaseToken};

use crate::hub::{self, Hub};

/// No lease is believed to last longer, whatever the hub says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The shortest pause between two renewals.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after a renewal that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Why a job may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The hub gave the job to somebody else.
    LeaseLost,
    /// The job is over: canceled, say.
    Finished,
    /// The hub was not heard of until the lease ran out: somebody else may have the job by now.
    HubSilent,
}

impl Stop {
    /// What to write into the worker's own log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::LeaseLost => "the hub gave the job to somebody else",
            Self::Finished => "the job was canceled or is over",
            Self::HubSilent => "the hub was not reached until the lease ran out",
        }
    }
}

/// The lease of one job. Ending it cancels the job.
#[derive(Debug)]
pub(crate) struct Lease {
    token: LeaseToken,
    cancel: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the last answer that renewed it was asked for: never later than when the hub counted from.
    renewed_at: Instant,
    span: Duration,
    stop: Option<Stop>,
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
        Self { token, cancel, state: Mutex::new(state) }
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

    /// When it ends unless renewed, by this machine's clock.
    pub(crate) fn deadline(&self) -> Instant {
        let state = self.state();
        state.renewed_at + state.span
    }

    /// Takes note of what the hub answered to a call that was sent at `asked_at`.
    pub(crate) fn heed(&self, asked_at: Instant, answer: &Result<LeaseAnswer, hub::Error>) {
        match answer {
            Ok(answer) => self.renewed(asked_at, answer.lease_ms),
            Err(hub::Error::LeaseLost) => self.end(Stop::LeaseLost),
            Err(hub::Error::JobFinished) => self.end(Stop::Finished),
            Err(_) => {}
        }
    }

    fn renewed(&self, asked_at: Instant, lease_ms: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers may overtake each other.
        if asked_at + span(lease_ms) > state.renewed_at + state.span {
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

/// When to renew next: after a third of the lease, sooner after a failure, and never after its end.
fn next_renewal(now: Instant, renewed_at: Instant, span: Duration, failed: bool) -> Instant {
    let due = if failed { now + (span / 10).min(LONGEST_RETRY) } else { renewed_at + span / 3 };
    due.max(now + SHORTEST_PAUSE).min((renewed_at + span).max(now))
}

/// Renews the lease for as long as it is polled. Returns when the lease has ended.
pub(crate) async fn keep(hub: &Hub, job_id: &JobId, lease: &Lease) {
    let mut failed = false;
    while lease.stop().is_none() {
        let state = lease.state();
        sleep_until(next_renewal(Instant::now(), state.renewed_at, state.span, failed)).await;
        let (asked_at, deadline) = (Instant::now(), lease.deadline());
        if asked_at >= deadline {
            // Not even asked: a stalled process must not go on with what others may have.
            return lease.end(Stop::HubSilent);
        }
        failed = match timeout_at(deadline, hub.renew(job_id, &lease.token)).await {
            Ok(answer) => {
                lease.heed(asked_at, &answer);
                answer.is_err()
            }
            Err(_) => true,
        };
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
        let before = lease.deadline();
        let early = Instant::now() - Duration::from_secs(30);
        lease.heed(early, &Ok(LeaseAnswer { lease_ms: 60_000 }));
        assert_eq!(lease.deadline(), before);
        let later = Instant::now() + Duration::from_secs(5);
        lease.heed(later, &Ok(LeaseAnswer { lease_ms: 60_000 }));
        assert_eq!(lease.deadline(), later + Duration::from_secs(60));
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
        assert!(lease(u64::MAX).deadline() <= Instant::now() + LONGEST);
    }

    proptest! {
        #[test]
        fn renewals_come_in_time_and_not_in_a_rush(
            span_ms in 0u64..100_000_000, since_ms in 0u64..200_000_000, failed: bool,
        ) {
            let (renewed_at, span) = (Instant::now(), Duration::from_millis(span_ms));
            let now = renewed_at + Duration::from_millis(since_ms);
            let next = next_renewal(now, renewed_at, span, failed);
            let end = renewed_at + span;
            prop_assert!(next >= now);
            prop_assert!(next <= end.max(now));
            if now < end && !failed {
                prop_assert!(next <= (renewed_at + span / 3).max(now + SHORTEST_PAUSE));
            }
            prop_assert!(next >= now + SHORTEST_PAUSE || next == end.max(now));
        }
    }
}
