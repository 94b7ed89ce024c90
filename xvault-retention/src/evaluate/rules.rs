//! The keep rules.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Candidate, Grade, Tally, good};
use crate::calendar::{Clock, Period};
use crate::policy::{Count, Rules};
use crate::reason::Reason;
use crate::within::Within;

pub(super) fn apply(rules: &Rules, candidates: &mut [Candidate<'_>], now: Timestamp, zone: &TimeZone) {
    if rules.keep_all {
        keep_all(candidates);
    }
    if let Some(count) = rules.keep_last_n {
        keep_last(candidates, count);
    }
    let periods = [
        (Period::Hour, rules.keep_hourly),
        (Period::Day, rules.keep_daily),
        (Period::Week, rules.keep_weekly),
        (Period::Month, rules.keep_monthly),
        (Period::Year, rules.keep_yearly),
    ];
    for (period, count) in periods {
        if let Some(count) = count {
            keep_newest_of(candidates, period, Places { rule: rules.count, count, now, zone });
        }
    }
    if let Some(within) = rules.keep_within {
        keep_within(candidates, within, rules.count, now, zone);
    }
    if !rules.keep_tags.is_empty() {
        keep_tags(candidates, &rules.keep_tags);
    }
}

/// The only rule for failed ones too: who keeps all has asked for nothing to be deleted.
fn keep_all(candidates: &mut [Candidate<'_>]) {
    for candidate in candidates {
        candidate.rules.push(Reason::All);
    }
}

fn keep_last(candidates: &mut [Candidate<'_>], of: u64) {
    let mut tally = Tally::default();
    for (grade, candidate) in good(candidates) {
        let nth = tally.place(grade);
        if nth <= of {
            candidate.rules.push(Reason::Last { nth, of });
        }
    }
}

fn keep_tags(candidates: &mut [Candidate<'_>], tags: &[String]) {
    for (_, candidate) in good(candidates) {
        let kept = candidate.snapshot.tags.iter().filter(|tag| tags.contains(tag));
        candidate.rules.extend(kept.map(|tag| Reason::Tag(tag.as_str().into())));
    }
}

fn keep_within(
    candidates: &mut [Candidate<'_>],
    within: Within,
    count: Count,
    now: Timestamp,
    zone: &TimeZone,
) {
    let mut newest = |wanted: fn(Grade) -> bool| {
        good(candidates).find(|(grade, _)| wanted(*grade)).map(|(_, candidate)| candidate.snapshot.at)
    };
    let ends = match count {
        Count::Calendar => [Some(now); 2],
        Count::Existing => [newest(|grade| grade == Grade::Whole), newest(|_| true)],
    };
    let [whole, partial] = ends.map(|end| end.map(|end| within.before(end, zone)));
    for (grade, candidate) in good(candidates) {
        let start = if grade == Grade::Whole { whole } else { partial };
        if start.is_some_and(|start| candidate.snapshot.at >= start) {
            candidate.rules.push(Reason::Within(within));
        }
    }
}

/// Which hours, days… of a period have a place.
#[derive(Clone, Copy)]
struct Places<'z> {
    rule: Count,
    count: u64,
    now: Timestamp,
    zone: &'z TimeZone,
}

/// One hour, day… that has a snapshot.
struct Slot {
    key: i64,
    /// Place of its best candidate: the newest whole one, or the newest of all.
    best: usize,
    grade: Grade,
    /// Whether a newer one is partial.
    newer_partial: bool,
}

fn keep_newest_of(candidates: &mut [Candidate<'_>], period: Period, places: Places<'_>) {
    let current = Clock::new(places.zone).local(places.now).key(period);
    let mut tally = Tally::default();
    for slot in slots(candidates, period) {
        let nth = match places.rule {
            Count::Existing => tally.place(slot.grade),
            Count::Calendar => period.steps(current, slot.key) + 1,
        };
        if let Some(candidate) = candidates.get_mut(slot.best).filter(|_| nth <= places.count) {
            let bucket = candidate.local.bucket(period);
            candidate.rules.push(Reason::NewestOf { bucket, whole: slot.newer_partial });
        }
    }
}

/// The slots of a period, newest first by their newest snapshot.
fn slots(candidates: &[Candidate<'_>], period: Period) -> Vec<Slot> {
    let mut slots = Slots { all: Vec::new(), lowest: i64::MAX };
    for (place, candidate) in candidates.iter().enumerate() {
        if let Some(grade) = candidate.grade {
            slots.offer(candidate.local.key(period), place, grade);
        }
    }
    slots.all
}

/// Slots while they are found. Keys fall from one candidate to the next, except where clocks were set back over the
/// edge of a period: there, a period is left and entered again.
struct Slots {
    all: Vec<Slot>,
    lowest: i64,
}

impl Slots {
    fn offer(&mut self, key: i64, place: usize, grade: Grade) {
        match self.find(key) {
            Some(slot) => slot.offer(place, grade),
            None => self.all.push(Slot { key, best: place, grade, newer_partial: false }),
        }
        self.lowest = self.lowest.min(key);
    }

    /// From the end, where it nearly always is the first that is looked at.
    fn find(&mut self, key: i64) -> Option<&mut Slot> {
        if key < self.lowest {
            return None;
        }
        self.all.iter_mut().rev().find(|slot| slot.key == key)
    }
}

impl Slot {
    /// A whole one takes the place of a partial one, however new; otherwise who came first stays.
    fn offer(&mut self, place: usize, grade: Grade) {
        if self.grade == Grade::Partial && grade == Grade::Whole {
            (self.best, self.grade, self.newer_partial) = (place, grade, true);
        }
    }
}
