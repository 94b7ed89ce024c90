//! Whatever the order in which workers, hubs and people act on a job, and whatever their clocks say.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use xvault_core::error::Disposition;
use xvault_core::job::{JobError, LEASE_EXPIRED, Life, Refusal, State};
use xvault_core::{JobStatus, LeaseToken, WorkerId};

const LEASE: Duration = Duration::from_secs(60);
const WORKERS: usize = 3;

/// Something that somebody does. Tokens are told by their age among those that a worker ever held: 0 is the newest.
#[derive(Debug, Clone)]
enum Act {
    Claim(usize),
    Renew(usize, usize),
    Finalize(usize, usize),
    Complete(usize, usize),
    Fail(usize, usize, Disposition),
    Release(usize, usize),
    Expire,
    Cancel,
    Retry,
    /// The clock goes on, or back: hubs may differ.
    Clock(i64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let worker = 0..WORKERS;
    let age = prop_oneof![4 => Just(0_usize), 1 => 0_usize..4];
    let held = (worker.clone(), age);
    let disposition =
        prop_oneof![Just(Disposition::Permanent), Just(Disposition::Transient), Just(Disposition::Cancelled)];
    let act = prop_oneof![
        6 => worker.prop_map(Act::Claim),
        2 => held.clone().prop_map(|(w, t)| Act::Renew(w, t)),
        2 => held.clone().prop_map(|(w, t)| Act::Finalize(w, t)),
        2 => held.clone().prop_map(|(w, t)| Act::Complete(w, t)),
        2 => (held.clone(), disposition).prop_map(|((w, t), d)| Act::Fail(w, t, d)),
        1 => held.prop_map(|(w, t)| Act::Release(w, t)),
        3 => Just(Act::Expire),
        1 => Just(Act::Cancel),
        1 => Just(Act::Retry),
        4 => prop_oneof![-5_i64..40, 55_i64..70, 3000_i64..4000].prop_map(Act::Clock),
    ];
    prop::collection::vec(act, 0..80)
}

/// What an observer knows, besides the job itself.
struct Observer {
    life: Life,
    now: Timestamp,
    /// Every token that each worker ever held, the newest last.
    tokens: [Vec<LeaseToken>; WORKERS],
    /// The token of the one lease that was not ended.
    holder: Option<LeaseToken>,
    completions: u32,
    /// Attempts that failed or expired since a person last asked for the job.
    lost: u32,
}

impl Observer {
    fn token(&self, worker: usize, age: usize) -> LeaseToken {
        let held = &self.tokens[worker];
        held.iter().rev().nth(age).cloned().unwrap_or_else(LeaseToken::generate)
    }

    fn claim(&mut self, worker: usize) -> Result<(), TestCaseError> {
        let (id, token) = (WorkerId::derive(&worker.to_string()), LeaseToken::generate());
        let queued = self.life.status() == JobStatus::Queued;
        if let Ok(life) = self.life.claim(self.now, &id, token.clone(), LEASE) {
            prop_assert!(queued && self.holder.is_none(), "claimed while held or over");
            self.life = life;
            self.tokens[worker].push(token.clone());
            self.holder = Some(token);
        }
        Ok(())
    }

    /// A call of a worker: the holder's succeeds, however late it comes, and nobody else's.
    fn call(
        &mut self,
        token: &LeaseToken,
        ends: bool,
        next: Result<Life, Refusal>,
    ) -> Result<bool, TestCaseError> {
        let is_holder = Some(token) == self.holder.as_ref();
        let Ok(life) = next else {
            prop_assert!(!is_holder, "the holder was refused");
            return Ok(false);
        };
        prop_assert!(is_holder, "a stale token succeeded");
        self.life = life;
        if ends {
            self.holder = None;
        }
        Ok(true)
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        let before = self.life.clone();
        match act {
            Act::Claim(worker) => self.claim(*worker)?,
            Act::Renew(w, t) => {
                let token = self.token(*w, *t);
                self.call(&token, false, before.renew(&token, self.now, LEASE))?;
            }
            Act::Finalize(w, t) => {
                let token = self.token(*w, *t);
                self.call(&token, false, before.finalize(&token))?;
            }
            Act::Complete(w, t) => {
                let token = self.token(*w, *t);
                self.completions += u32::from(self.call(&token, true, before.complete(&token))?);
            }
            Act::Fail(w, t, disposition) => {
                let token = self.token(*w, *t);
                let error = JobError { code: "x".into(), message: "y".into() };
                let next = before.fail(&token, self.now, error, *disposition);
                self.lost += u32::from(self.call(&token, true, next)?);
            }
            Act::Release(w, t) => {
                let token = self.token(*w, *t);
                self.call(&token, true, before.release(&token, self.now))?;
            }
            Act::Expire => {
                if let Ok(life) = before.expire(self.now) {
                    prop_assert!(self.holder.take().is_some());
                    (self.life, self.lost) = (life, self.lost + 1);
                }
            }
            Act::Cancel => {
                if let Ok(life) = before.cancel() {
                    (self.life, self.holder) = (life, None);
                }
            }
            Act::Retry => {
                if let Ok(life) = before.retry(self.now) {
                    prop_assert!(before.status().is_finished());
                    (self.life, self.lost) = (life, 0);
                }
            }
            Act::Clock(seconds) => {
                self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
            }
        }
        self.check(&before, act)
    }

    fn check(&self, before: &Life, act: &Act) -> Result<(), TestCaseError> {
        let (was, is) = (before.status(), self.life.status());
        if was.is_finished() && was != is {
            prop_assert!(matches!(act, Act::Retry), "{was} became {is} by itself");
            prop_assert_ne!(was, JobStatus::Completed, "a completed job was resurrected");
        }
        prop_assert!(self.completions <= 1, "completed twice");
        prop_assert_eq!(is == JobStatus::Completed, self.completions == 1);
        prop_assert!(self.life.attempt <= self.life.max_attempts, "more attempts than allowed");
        prop_assert!(self.lost <= self.life.max_attempts);
        prop_assert_eq!(self.life.lease().map(|lease| &lease.token), self.holder.as_ref());
        self.check_alive()
    }

    /// An unfinished job goes on once enough time has passed: it is never lost.
    fn check_alive(&self) -> Result<(), TestCaseError> {
        let (late, other) = ("2199-01-01T00:00:00Z".parse().unwrap(), WorkerId::derive("other"));
        let mut life = self.life.clone();
        if life.lease().is_some() {
            life = life.expire(late).unwrap();
        }
        match &life.state {
            State::Queued { .. } => {
                let token = LeaseToken::generate();
                let claimed = life.claim(late, &other, token.clone(), LEASE).unwrap();
                prop_assert_eq!(claimed.complete(&token).unwrap().status(), JobStatus::Completed);
            }
            State::Failed => prop_assert!(life.error.is_some(), "failed without a reason"),
            State::Completed | State::Canceled => {}
            State::Running(_) | State::Finalizing(_) => prop_assert!(false, "an expired lease lives"),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_job_is_completed_once_and_never_lost_or_resurrected(acts in acts(), max_attempts in 1_u32..4) {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let life = Life::queued(now, max_attempts);
        let tokens = Default::default();
        let mut observer = Observer { life, now, tokens, holder: None, completions: 0, lost: 0 };
        for act in &acts {
            observer.act(act)?;
        }
    }
}

#[test]
fn a_lease_that_has_run_out_is_its_holders_until_it_is_ended() {
    let start: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
    let (token, late) = (LeaseToken::generate(), start + 100 * LEASE);
    let life = Life::queued(start, 2).claim(start, &WorkerId::local(), token.clone(), LEASE).unwrap();
    let renewed = life.renew(&token, late, LEASE).unwrap();
    assert_eq!(renewed.expire(late), Err(Refusal::LeaseAlive));
    assert_eq!(life.complete(&token).unwrap().status(), JobStatus::Completed);
    let ended = life.expire(late).unwrap();
    assert_eq!(ended.renew(&token, late, LEASE), Err(Refusal::LeaseLost));
    assert_eq!(ended.complete(&token), Err(Refusal::LeaseLost));
}

#[test]
fn a_silent_worker_costs_an_attempt_and_the_last_one_fails_the_job() {
    let start: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
    let (worker, mut life, mut now) = (WorkerId::local(), Life::queued(start, 2), start);
    for attempt in 1..=2 {
        life = life.claim(now, &worker, LeaseToken::generate(), LEASE).unwrap();
        assert_eq!(life.attempt, attempt);
        assert_eq!(life.expire(now + Duration::from_secs(59)), Err(Refusal::LeaseAlive));
        now += LEASE;
        life = life.expire(now).unwrap();
    }
    assert_eq!(life.status(), JobStatus::Failed);
    assert_eq!(life.error.unwrap().code, LEASE_EXPIRED);
}
