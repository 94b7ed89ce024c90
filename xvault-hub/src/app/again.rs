//! Use cases that are done again when the database called them off.

use crate::api::error::{Error, Result};

/// How often a use case is tried.
const ROUNDS: u32 = 3;

/// Does `round` again when the database called it off because others changed the same at once. It must be a use case that
/// commits once, at its end: nothing of it has happened then.
pub(crate) async fn again<T, F: Future<Output = Result<T>>>(round: impl Fn() -> F) -> Result<T> {
    for _ in 1..ROUNDS {
        match round().await {
            Err(error) if error.is(Error::CALLED_OFF) => {}
            done => return done,
        }
    }
    round().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::http::StatusCode;

    use super::*;

    /// The error of a use case that fails so often, and how often it was tried.
    async fn tried(failures: u32, code: &'static str) -> (Option<&'static str>, u32) {
        let rounds = AtomicU32::new(0);
        let round = || async {
            match rounds.fetch_add(1, Ordering::Relaxed) < failures {
                true => Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, code, "no")),
                false => Ok(()),
            }
        };
        (again(round).await.err().map(|error| error.code()), rounds.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn only_what_was_called_off_is_done_again_and_not_for_ever() {
        assert_eq!(tried(2, Error::CALLED_OFF).await, (None, 3));
        assert_eq!(tried(3, Error::CALLED_OFF).await, (Some(Error::CALLED_OFF), 3));
        assert_eq!(tried(1, "database_busy").await, (Some("database_busy"), 1));
    }
}
