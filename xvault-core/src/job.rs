//! The life of a job: a pure state machine.
//!
//! The hub's `jobs` table is the truth about every job, and [`Life`] is what a row of it means. Nothing changes a
//! row but a transition of this type, written back only if the row is still the one that was read; so what holds
//! here for any order of claims, renewals, expiries, cancels and completions holds in the database:
//!
//! - a job is completed at most once;
//! - only the holder of the lease can renew, complete or fail it, until the lease is ended: one that has run out is the holder's
//!   until [`Life::expire`] says otherwise, as after an outage of the hub, in which nobody could renew;
//! - a finished job stays finished until a person retries it.
//!
//! Times are passed in. Workers are told spans, never times, so their clocks don't matter.
//!
//! ```
//! use std::time::Duration;
//! use xvault_core::job::{JobStatus, Life, Refusal};
//! use xvault_core::{LeaseToken, WorkerId};
//!
//! let now = "2026-11-24T10:00:00Z".parse()?;
//! let ttl = Duration::from_secs(60);
//! let token = LeaseToken::generate();
//! let running = Life::queued(now, 3).claim(now, &WorkerId::local(), token.clone(), ttl)?;
//! assert_eq!((running.status(), running.attempt), (JobStatus::Running, 1));
//!
//! // Somebody cancels it: what its worker reports later is refused.
//! let canceled = running.cancel()?;
//! assert_eq!(canceled.complete(&token), Err(Refusal::Finished(JobStatus::Canceled)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Disposition;
use crate::{LeaseToken, WorkerId};

/// The code of a job whose worker was not heard of for a whole lease, as often as it was allowed.
pub const LEASE_EXPIRED: &str = "lease_expired";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word for it in JSON and in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text { $($word => Ok(Self::$variant),)* _ => Err(UnknownWord { what: $what }) }
            }
        }
    };
}

/// A text that names no kind or status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}")]
pub struct UnknownWord {
    what: &'static str,
}

words! {
    /// What a job does.
    JobKind, "job type" {
        /// Pulls a source into a snapshot.
        Backup = "backup",
        /// Gives a snapshot, or some of it, back.
        Restore = "restore",
        /// Removes a snapshot's bytes.
        DeleteSnapshot = "delete_snapshot",
        /// Reads a snapshot to check it.
        Verify = "verify",
        /// Logs in at a source and looks at its paths.
        Probe = "probe",
        /// Looks into a snapshot for somebody who waits: a listing, a search, a comparison.
        Browse = "browse",
        /// Copies a snapshot, as it is, to another store.
        Replicate = "replicate",
        /// Writes, reads, lists and deletes a probe object in a store.
        TestStore = "test_store",
        /// Removes from a store what crashed backups left.
        SweepStore = "sweep_store",
    }
}

words! {
    /// Where a job stands.
    JobStatus, "job status" {
        /// Waits for a worker.
        Queued = "queued",
        /// A worker has it.
        Running = "running",
        /// A worker has pulled and stored everything, and is proving and committing it.
        Finalizing = "finalizing",
        /// Done.
        Completed = "completed",
        /// Not done, and not tried again by itself.
        Failed = "failed",
        /// A person stopped it.
        Canceled = "canceled",
    }
}

impl JobKind {
    /// The kinds that read a snapshot: its bytes stay until such a job is finished.
    pub const READING: &'static [Self] = &[Self::Restore, Self::Verify, Self::Browse, Self::Replicate];
}

impl JobStatus {
    /// Whether nothing will happen to it by itself any more.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

/// Why a job failed, or the last attempt at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobError {
    /// A word for programs: `lease_expired`, `unknown_host_key`.
    pub code: String,
    /// A sentence for people, without secrets.
    pub message: String,
}

/// The right to work on a job, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What every later call must show.
    pub token: LeaseToken,
    /// Who has it.
    pub worker_id: WorkerId,
    /// When it runs out unless renewed, by the hub's clock: from then on it can be ended.
    pub expires_at: Timestamp,
}

/// Where a job stands, with what belongs to each place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits; not to be claimed before `not_before`.
    Queued {
        /// When the pause after a failed attempt ends.
        not_before: Timestamp,
    },
    /// A worker has it.
    Running(Lease),
    /// A worker proves and commits what it stored.
    Finalizing(Lease),
    /// Done.
    Completed,
    /// Given up; the reason is [`Life::error`].
    Failed,
    /// Stopped by a person.
    Canceled,
}

/// A job's state with its attempts. Transitions return the next state, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub state: State,
    /// How many times it was claimed, this time included.
    pub attempt: u32,
    /// After so many failed attempts it is given up.
    pub max_attempts: u32,
    /// What the last failed attempt ended with.
    pub error: Option<JobError>,
}

/// Why a transition is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Only a queued job can be claimed.
    #[error("the job is {0}, not queued")]
    NotQueued(JobStatus),
    /// A pause after a failed attempt is not over.
    #[error("the job waits until {not_before}")]
    TooEarly {
        /// Its end.
        not_before: Timestamp,
    },
    /// The token is not that of the lease.
    #[error("the lease is lost: the job was given to somebody else")]
    LeaseLost,
    /// It is over.
    #[error("the job is {0}")]
    Finished(JobStatus),
    /// The lease has not expired.
    #[error("the lease is alive")]
    LeaseAlive,
    /// Only a failed or canceled job can be retried.
    #[error("the job is {0}: only a failed or canceled job can be retried")]
    NotRetriable(JobStatus),
}

impl Life {
    /// A new job.
    #[must_use]
    pub fn queued(now: Timestamp, max_attempts: u32) -> Self {
        Self { state: State::Queued { not_before: now }, attempt: 0, max_attempts, error: None }
    }

    /// The state's word.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        match self.state {
            State::Queued { .. } => JobStatus::Queued,
            State::Running(_) => JobStatus::Running,
            State::Finalizing(_) => JobStatus::Finalizing,
            State::Completed => JobStatus::Completed,
            State::Failed => JobStatus::Failed,
            State::Canceled => JobStatus::Canceled,
        }
    }

    /// The lease, while a worker has the job.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Running(lease) | State::Finalizing(lease) => Some(lease),
            _ => None,
        }
    }

    /// A worker takes the job for `ttl`.
    ///
    /// # Errors
    /// [`Refusal::NotQueued`], [`Refusal::TooEarly`].
    pub fn claim(
        &self,
        now: Timestamp,
        worker_id: &WorkerId,
        token: LeaseToken,
        ttl: Duration,
    ) -> Result<Self, Refusal> {
        match self.state {
            State::Queued { not_before } if not_before > now => Err(Refusal::TooEarly { not_before }),
            State::Queued { .. } => {
                let lease = Lease { token, worker_id: worker_id.clone(), expires_at: later(now, ttl) };
                Ok(Self {
                    state: State::Running(lease),
                    attempt: self.attempt.saturating_add(1),
                    ..self.clone()
                })
            }
            _ => Err(Refusal::NotQueued(self.status())),
        }
    }

    /// The holder is alive: the lease now ends `ttl` from `now`.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Finished`].
    pub fn renew(&self, token: &LeaseToken, now: Timestamp, ttl: Duration) -> Result<Self, Refusal> {
        let lease = Lease { expires_at: later(now, ttl), ..self.held(token)?.clone() };
        let state = match self.state {
            State::Finalizing(_) => State::Finalizing(lease),
            _ => State::Running(lease),
        };
        Ok(Self { state, ..self.clone() })
    }

    /// The holder has stored everything and begins to prove and commit it. Doing so twice is fine.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Finished`].
    pub fn finalize(&self, token: &LeaseToken) -> Result<Self, Refusal> {
        let lease = self.held(token)?.clone();
        Ok(Self { state: State::Finalizing(lease), ..self.clone() })
    }

    /// The holder is done.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Finished`].
    pub fn complete(&self, token: &LeaseToken) -> Result<Self, Refusal> {
        self.held(token)?;
        Ok(Self { state: State::Completed, error: None, ..self.clone() })
    }

    /// The holder could not do it. What time may heal is queued again after a pause (see [`pause`]), while attempts are
    /// left; the rest fails.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Finished`].
    pub fn fail(
        &self,
        token: &LeaseToken,
        now: Timestamp,
        error: JobError,
        disposition: Disposition,
    ) -> Result<Self, Refusal> {
        self.held(token)?;
        let again = disposition != Disposition::Permanent && self.attempt < self.max_attempts;
        let state =
            if again { State::Queued { not_before: later(now, pause(self.attempt)) } } else { State::Failed };
        Ok(Self { state, error: Some(error), ..self.clone() })
    }

    /// The holder hands the job back undone (it is being stopped): the attempt does not count.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Finished`].
    pub fn release(&self, token: &LeaseToken, now: Timestamp) -> Result<Self, Refusal> {
        self.held(token)?;
        let attempt = self.attempt.saturating_sub(1);
        Ok(Self { state: State::Queued { not_before: now }, attempt, ..self.clone() })
    }

    /// The lease ran out: the job is queued again at once while attempts are left, else it fails as [`LEASE_EXPIRED`].
    ///
    /// # Errors
    /// [`Refusal::LeaseAlive`], [`Refusal::Finished`], or [`Refusal::LeaseLost`] when nobody has it.
    pub fn expire(&self, now: Timestamp) -> Result<Self, Refusal> {
        let Some(lease) = self.lease() else {
            return Err(self.not_held());
        };
        if lease.expires_at > now {
            return Err(Refusal::LeaseAlive);
        }
        let message = format!("worker {} was not heard of for a whole lease", lease.worker_id);
        let error = Some(JobError { code: LEASE_EXPIRED.to_owned(), message });
        let again = self.attempt < self.max_attempts;
        let state = if again { State::Queued { not_before: now } } else { State::Failed };
        Ok(Self { state, error, ..self.clone() })
    }

    /// A person stops it. Its worker learns with its next call.
    ///
    /// # Errors
    /// [`Refusal::Finished`].
    pub fn cancel(&self) -> Result<Self, Refusal> {
        if self.status().is_finished() {
            return Err(Refusal::Finished(self.status()));
        }
        Ok(Self { state: State::Canceled, ..self.clone() })
    }

    /// A person wants it tried again, with all its attempts.
    ///
    /// # Errors
    /// [`Refusal::NotRetriable`].
    pub fn retry(&self, now: Timestamp) -> Result<Self, Refusal> {
        match self.state {
            State::Failed | State::Canceled => Ok(Self::queued(now, self.max_attempts)),
            _ => Err(Refusal::NotRetriable(self.status())),
        }
    }

    /// Whether it has run out does not matter: nobody else has the job before it is ended.
    fn held(&self, token: &LeaseToken) -> Result<&Lease, Refusal> {
        match self.lease() {
            Some(lease) if lease.token == *token => Ok(lease),
            Some(_) => Err(Refusal::LeaseLost),
            None => Err(self.not_held()),
        }
    }

    fn not_held(&self) -> Refusal {
        let status = self.status();
        if status.is_finished() { Refusal::Finished(status) } else { Refusal::LeaseLost }
    }
}

/// How long a job waits after its failed attempt number `attempt` (from 1): 10 s, doubled each time, at most an hour.
#[must_use]
pub fn pause(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    Duration::from_secs((10_u64 << doublings).min(3600))
}

/// `now + span`, or the end of time.
fn later(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}
