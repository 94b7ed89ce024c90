//! How the one who started a job steers it: cancellation, progress, bandwidth.

use std::future::Future;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xvault_core::{Progress, Silent};

use crate::Error;

/// Steers one job. Clones steer the same job.
#[derive(Clone)]
pub struct Control {
    cancel: CancellationToken,
    progress: Arc<dyn Progress>,
    limiter: Option<Arc<Limiter>>,
}

impl Default for Control {
    fn default() -> Self {
        Self { cancel: CancellationToken::new(), progress: Arc::new(Silent), limiter: None }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("cancelled", &self.cancel.is_cancelled()).finish_non_exhaustive()
    }
}

impl Control {
    /// Watches the job with `progress`.
    #[must_use]
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    /// Stops the job when `cancel` is cancelled.
    #[must_use]
    pub fn with_cancel(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }

    /// Takes at most so many bytes of content a second from the source, on average.
    #[must_use]
    pub fn with_bandwidth(self, bytes_per_second: NonZeroU64) -> Self {
        Self { limiter: Some(Arc::new(Limiter::new(bytes_per_second))), ..self }
    }

    /// Who watches.
    #[must_use]
    pub fn progress(&self) -> &Arc<dyn Progress> {
        &self.progress
    }

    /// The token that stops the job.
    #[must_use]
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// For loops that do not wait.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once the job was cancelled.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Awaits `work`, but no longer than until the job is cancelled.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what `work` gives.
    pub async fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::Cancelled),
            done = work => done,
        }
    }

    /// Waits until `count` more bytes of content fit under the bandwidth limit.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the job is cancelled meanwhile.
    pub async fn throttle(&self, count: u64) -> Result<(), Error> {
        let Some(limiter) = &self.limiter else { return self.check() };
        let until = limiter.reserve(count, Instant::now());
        self.run(async {
            tokio::time::sleep_until(until).await;
            Ok(())
        })
        .await
    }
}

/// A bucket of one tenth of a second: bursts above that are smoothed out.
struct Limiter {
    bytes_per_second: NonZeroU64,
    free_at: Mutex<Option<Instant>>,
}

impl Limiter {
    fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// When `count` bytes may pass, given all that were let through before.
    fn reserve(&self, count: u64, now: Instant) -> Instant {
        const BURST: Duration = Duration::from_millis(100);
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.unwrap_or(now).max(now.checked_sub(BURST).unwrap_or(now));
        let end = start.checked_add(cost).unwrap_or(start);
        *free_at = Some(end);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_keeps_the_average() {
        let limiter = Limiter::new(NonZeroU64::new(1000).unwrap());
        let now = Instant::now();
        let mut last = now;
        for _ in 0..10 {
            last = limiter.reserve(500, now);
        }
        assert_eq!(last - now, Duration::from_secs(5));
        // An idle hour is no credit beyond the burst.
        let later = now + Duration::from_secs(3600);
        assert_eq!(limiter.reserve(1000, later) - later, Duration::from_millis(900));
    }

    #[tokio::test]
    async fn cancelling_ends_a_wait() {
        let control = Control::default().with_bandwidth(NonZeroU64::new(1).unwrap());
        let cancel = control.cancel_token().clone();
        let (waited, ()) = tokio::join!(control.throttle(1_000_000), async { cancel.cancel() });
        assert!(matches!(waited, Err(Error::Cancelled)));
        assert!(matches!(control.check(), Err(Error::Cancelled)));
    }
}
