//! A loop that can't be stopped by what goes wrong in it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use xvault_core::error::chain;

use crate::DbError;

/// The pause after a first failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a round failed, as a sentence.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self(chain(&error))
    }
}

/// Does `round` again and again until `stop`, with the pauses that it asks for. Failures are told when they begin and
/// when they end; a panic counts as one.
pub(super) async fn repeat<F: Future<Output = Result<Duration, Failure>>>(
    name: &str,
    stop: &CancellationToken,
    round: impl Fn() -> F,
) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let done = tokio::select! {
            () = stop.cancelled() => break,
            done = AssertUnwindSafe(round()).catch_unwind() => done,
        };
        let pause = match done.unwrap_or_else(|_| Err(Failure("it panicked".to_owned()))) {
            Ok(pause) => {
                if failures > 0 {
                    tracing::info!(name, "works again");
                }
                failures = 0;
                pause
            }
            Err(Failure(cause)) => {
                if failures == 0 {
                    tracing::warn!(name, cause, "fails; it is tried again until it works");
                }
                failures += 1;
                pause_after(failures)
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!([1, 2, 3, 6, 99].map(|n| pause_after(n).as_secs()), [1, 2, 4, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_outlives_errors_and_panics_and_stops_when_told() {
        let (stop, rounds) = (CancellationToken::new(), AtomicU32::new(0));
        let round = || async {
            match rounds.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("once"),
                1 => Err(Failure("twice".to_owned())),
                4 => {
                    stop.cancel();
                    Ok(Duration::ZERO)
                }
                _ => Ok(Duration::from_secs(5)),
            }
        };
        let start = tokio::time::Instant::now();
        repeat("test", &stop, round).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 5);
        assert_eq!(start.elapsed(), Duration::from_secs(1 + 2 + 5 + 5));
    }
}
