//! Taking jobs, and taking them again when the answer was lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use xvault::core::protocol::Assignment;
use xvault::core::{ClaimNonce, JobId};

use crate::hub::{self, Backoff, Hub};

/// How long the hub is asked for a job before its message is given back to the queue.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most claims that are remembered: each was a message, and a queue may be long.
const MAX_REMEMBERED: usize = 1000;

/// A job, or why there is nothing to do.
pub(crate) type Claimed = Result<Result<Box<Assignment>, String>, hub::Error>;

/// The claims that nobody has answered. The hub may have given their jobs to this worker: it says so when it hears the same nonce
/// again. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<BTreeMap<JobId, ClaimNonce>>>);

impl Claims {
    /// Claims a job, for a while; gives when the claim that was answered was sent.
    pub(crate) async fn claim(&self, hub: &Hub, job_id: &JobId) -> (Instant, Claimed) {
        let nonce = self.recall(job_id);
        let (asked_at, claimed) = claim(hub, job_id, &nonce).await;
        if claimed.is_err() {
            self.remember(job_id, nonce);
        }
        (asked_at, claimed)
    }

    /// The nonce of the claim that was not answered, or a new one. Of two messages about a job only one gets it.
    fn recall(&self, job_id: &JobId) -> ClaimNonce {
        self.unanswered().remove(job_id).unwrap_or_else(ClaimNonce::generate)
    }

    fn remember(&self, job_id: &JobId, nonce: ClaimNonce) {
        let mut unanswered = self.unanswered();
        unanswered.insert(job_id.clone(), nonce);
        if unanswered.len() > MAX_REMEMBERED {
            // Ids sort by age. Another worker has long had the oldest job, or its lease has run out.
            unanswered.pop_first();
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, BTreeMap<JobId, ClaimNonce>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn claim(hub: &Hub, job_id: &JobId, nonce: &ClaimNonce) -> (Instant, Claimed) {
    let until = Instant::now() + PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    loop {
        let asked_at = Instant::now();
        let claimed = hub.claim(job_id, nonce).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_said_again_by_one_claim_and_for_its_own_job() {
        let (claims, job_id, other) = (Claims::default(), JobId::generate(), JobId::generate());
        let nonce = claims.recall(&job_id);
        claims.remember(&job_id, nonce.clone());
        assert_ne!(claims.recall(&other), nonce);
        assert_eq!(claims.clone().recall(&job_id), nonce);
        assert_ne!(claims.recall(&job_id), nonce);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let claims = Claims::default();
        for _ in 0..2 * MAX_REMEMBERED {
            claims.remember(&JobId::generate(), ClaimNonce::generate());
        }
        assert_eq!(claims.unanswered().len(), MAX_REMEMBERED);
        let (newest, nonce) = (JobId::generate(), ClaimNonce::generate());
        claims.remember(&newest, nonce.clone());
        assert_eq!(claims.recall(&newest), nonce, "what was forgotten is the oldest");
    }
}
