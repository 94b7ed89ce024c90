//! How long a server is waited for, and how often it is asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use xvault_core::{Dispose, Disposition};

use crate::Error;

/// Before the server has answered once, a wrong address is likelier than an outage: people shall not wait for it.
const FIRST_CONTACT: Duration = Duration::from_secs(3);
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Repeats what failed for a reason that time heals; clones share whether the server has ever answered.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    retry_for: Duration,
    for_an_entry: Duration,
    answered: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(retry_for: Duration, for_an_entry: Duration) -> Self {
        Self { retry_for, for_an_entry, answered: Arc::default() }
    }

    /// Awaits the next entry of a listing: a server can answer with pages that hold nothing and promise more, for ever.
    pub(super) async fn awaiting<T>(
        &self,
        prefix: &str,
        entry: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let after = self.for_an_entry;
        let timed = tokio::time::timeout(after, entry).await;
        timed.unwrap_or_else(|_| Err(Error::Timeout { what: format!("list {prefix}"), after }))
    }

    /// Calls `attempt` with 0, 1, 2… until it succeeds, or fails for good, or too much time has gone by. Whatever it does must
    /// be the same when it is done twice.
    pub(super) async fn retrying<T, F>(&self, mut attempt: impl FnMut(u32) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begin = Instant::now();
        let (mut failing_since, mut count) = (None, 0);
        loop {
            let error = match attempt(count).await {
                Ok(done) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error) => error,
            };
            let pause = delay(count);
            // A part of some GiB may take longer than the limit to be sent: it is sent again all the same.
            let since = *failing_since
                .get_or_insert_with(|| if self.has_answered() { Instant::now() } else { begin });
            if error.disposition() != Disposition::Transient || since.elapsed() + pause > self.limit() {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            count += 1;
        }
    }

    fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn limit(&self) -> Duration {
        if self.has_answered() { self.retry_for } else { self.retry_for.min(FIRST_CONTACT) }
    }
}

/// Doubles up to the longest.
fn delay(count: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1 << count.min(10)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(disposition: Disposition) -> Error {
        Error::Store { action: "write x".into(), disposition, source: "no".into() }
    }

    fn patience(retry_for: Duration) -> Patience {
        Patience::new(retry_for, Duration::MAX)
    }

    async fn attempts(patience: &Patience, disposition: Disposition) -> (u32, Duration) {
        let (begin, mut attempts) = (Instant::now(), 0);
        let outcome: Result<(), _> = patience
            .retrying(|count| {
                assert_eq!(count, attempts);
                attempts += 1;
                async move { Err(failed(disposition)) }
            })
            .await;
        assert_eq!(outcome.unwrap_err().disposition(), disposition);
        (attempts, begin.elapsed())
    }

    #[tokio::test]
    async fn an_outage_is_waited_out_and_a_wrong_address_is_told_soon() {
        let patience = patience(Duration::from_secs(60));
        let (count, took) = attempts(&patience, Disposition::Transient).await;
        assert!(count == 4 && took < FIRST_CONTACT, "{count} {took:?}");
        patience.retrying(|_| async { Ok(()) }).await.unwrap();
        assert_eq!(patience.limit(), Duration::from_secs(60));
        assert_eq!(attempts(&patience, Disposition::Permanent).await.0, 1);
    }

    #[tokio::test]
    async fn what_took_longer_than_the_limit_before_it_failed_is_tried_again() {
        let patience = patience(Duration::from_millis(300));
        patience.retrying(|_| async { Ok(()) }).await.unwrap();
        let slow = |count| async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            if count == 0 { Err(failed(Disposition::Transient)) } else { Ok(count) }
        };
        assert_eq!(patience.retrying(slow).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_heals_goes_on() {
        let healed =
            |count| async move { if count < 2 { Err(failed(Disposition::Transient)) } else { Ok(count) } };
        assert_eq!(patience(Duration::from_secs(60)).retrying(healed).await.unwrap(), 2);
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        assert_eq!([0, 1, 4, 40].map(delay), [200, 400, 3200, 10_000].map(Duration::from_millis));
    }
}
