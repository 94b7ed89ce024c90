//! From policy and snapshots to a plan.
//!
//! One idea runs through all rules: **a partial snapshot never displaces a whole one.** Wherever newer snapshots are
//! counted, a whole one counts whole ones only and a partial one counts all. So each kind has its own N places.

mod guards;
mod rules;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::calendar::{Clock, Local};
use crate::plan::{Decision, Plan};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::snapshot::{Snapshot, Status};

/// Decides what happens at `now` to each of the `snapshots` of one source; hours, days, weeks, months and years are
/// those of `zone`. Nothing is deleted by this.
///
/// In which order the snapshots come does not matter. It takes O(n log n) time, O(n) when they come sorted by time.
#[must_use]
pub fn evaluate(policy: &Policy, snapshots: &[Snapshot], now: Timestamp, zone: &TimeZone) -> Plan {
    let mut candidates = newest_first(snapshots, now, zone);
    guards::apply(policy.rules(), &mut candidates);
    rules::apply(policy.rules(), &mut candidates, now, zone);
    let ages = Ages::new(policy, now);
    Plan::new(candidates.into_iter().map(|candidate| candidate.decide(&ages)).collect())
}

/// How good a snapshot is, for those that count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Partial,
    Whole,
}

/// A snapshot while it is judged.
struct Candidate<'a> {
    snapshot: &'a Snapshot,
    /// None: it failed or comes from the future, and counts for nothing.
    grade: Option<Grade>,
    local: Local,
    /// Reasons to keep it whatever its age.
    guards: Vec<Reason>,
    /// Reasons to keep it while it is not too old.
    rules: Vec<Reason>,
}

fn newest_first<'a>(snapshots: &'a [Snapshot], now: Timestamp, zone: &TimeZone) -> Vec<Candidate<'a>> {
    let mut order: Vec<&Snapshot> = snapshots.iter().collect();
    order.sort_unstable_by(|a, b| b.at.cmp(&a.at).then_with(|| b.id.cmp(&a.id)));
    let mut clock = Clock::new(zone);
    let candidate = |snapshot: &'a Snapshot| {
        let (grade, local) = (grade(snapshot, now), clock.local(snapshot.at));
        let mut guards = Vec::new();
        guards::by_itself(snapshot, now, &mut guards);
        Candidate { snapshot, grade, local, guards, rules: Vec::new() }
    };
    order.into_iter().map(candidate).collect()
}

fn grade(snapshot: &Snapshot, now: Timestamp) -> Option<Grade> {
    match snapshot.status {
        _ if snapshot.at > now => None,
        Status::Whole => Some(Grade::Whole),
        Status::Partial => Some(Grade::Partial),
        Status::Failed => None,
    }
}

/// Those that count, newest first.
fn good<'c, 'a>(candidates: &'c mut [Candidate<'a>]) -> impl Iterator<Item = (Grade, &'c mut Candidate<'a>)> {
    candidates.iter_mut().filter_map(|candidate| Some((candidate.grade?, candidate)))
}

/// Counts what is at least as good as the next one.
#[derive(Default)]
struct Tally {
    whole: u64,
    all: u64,
}

impl Tally {
    /// The place of the next one, 1 for the first, among those that are at least as good.
    fn place(&mut self, grade: Grade) -> u64 {
        self.all += 1;
        match grade {
            Grade::Partial => self.all,
            Grade::Whole => {
                self.whole += 1;
                self.whole
            }
        }
    }
}

/// The bounds of `min_age_hours` and `max_age_days`, and the numbers that they come from.
struct Ages {
    now: Timestamp,
    young: Option<(u64, Timestamp)>,
    old: Option<(u64, Timestamp)>,
}

impl Ages {
    fn new(policy: &Policy, now: Timestamp) -> Self {
        let rules = policy.rules();
        let bound = |number: Option<u64>, age: Option<SignedDuration>| Some((number?, before(now, age?)));
        Self {
            now,
            young: bound(rules.min_age_hours, policy.min_age()),
            old: bound(rules.max_age_days, policy.max_age()),
        }
    }

    fn young(&self, at: Timestamp) -> Option<Reason> {
        let (hours, bound) = self.young.filter(|_| at <= self.now)?;
        (at > bound).then_some(Reason::YoungerThan(hours))
    }

    fn old(&self, at: Timestamp) -> Option<Reason> {
        let (days, bound) = self.old?;
        (at < bound).then_some(Reason::OlderThan(days))
    }
}

/// As far back as time goes, if it goes no further.
fn before(now: Timestamp, age: SignedDuration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

impl Candidate<'_> {
    /// The order in which rules beat each other: guards and `min_age_hours`, then `max_age_days`, then the keep rules.
    fn decide(mut self, ages: &Ages) -> Decision {
        let at = self.snapshot.at;
        self.guards.extend(ages.young(at));
        let old = ages.old(at);
        let beaten = old.is_some();
        let mut reasons = self.guards;
        if !beaten {
            reasons.append(&mut self.rules);
        }
        let keep = !reasons.is_empty();
        if !keep {
            reasons.extend(old);
            match self.snapshot.status {
                Status::Failed => reasons.push(Reason::Failed),
                _ if self.rules.is_empty() => reasons.push(Reason::NoRule),
                _ => {}
            }
        }
        Decision { id: self.snapshot.id.clone(), at, keep, reasons }
    }
}
