//! What a policy says, in the plainest words there are: for each snapshot alone, by looking at all others.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A snapshot that lies somewhere.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) at: Timestamp,
    /// Nothing is missing in it.
    pub(crate) whole: bool,
    pub(crate) held: bool,
}

/// The rules that the story uses; 0: there is no such rule.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) last: usize,
    pub(crate) hourly: i64,
    pub(crate) daily: i64,
    pub(crate) weekly: i64,
    pub(crate) monthly: i64,
    pub(crate) min_age_hours: i64,
    pub(crate) max_age_days: i64,
}

impl Rules {
    /// As the API takes them.
    pub(crate) fn json(&self) -> serde_json::Value {
        let last = i64::try_from(self.last).unwrap();
        let rules = [
            ("keep_last_n", last),
            ("keep_hourly", self.hourly),
            ("keep_daily", self.daily),
            ("keep_weekly", self.weekly),
            ("keep_monthly", self.monthly),
            ("min_age_hours", self.min_age_hours),
            ("max_age_days", self.max_age_days),
        ];
        rules.into_iter().filter(|(_, n)| *n > 0).collect()
    }

    /// Whether snapshot `id` of `all` is to stay at `now`.
    pub(crate) fn keep(
        &self,
        id: &str,
        all: &BTreeMap<String, Made>,
        now: Timestamp,
        zone: &TimeZone,
    ) -> bool {
        let one = &all[id];
        let age = now.duration_since(one.at);
        // Those that a rule would rather keep: a partial one is worth less than a whole one.
        let newer = || all.iter().filter(|(other, made)| (made.at, *other) > (one.at, &id.to_owned()));
        let rivals = newer().filter(|(_, made)| made.whole || !one.whole).count();
        let best_there_is = match all.values().any(|made| made.whole) {
            true => one.whole && newer().all(|(_, made)| !made.whole),
            false => newer().next().is_none(),
        };
        if one.held || best_there_is || age < SignedDuration::from_hours(self.min_age_hours) {
            return true;
        }
        if self.max_age_days > 0 && age > SignedDuration::from_hours(24 * self.max_age_days) {
            return false;
        }
        let best_of = |places: i64, bucket: &dyn Fn(Timestamp) -> i64| {
            let mine = |made: &Made| bucket(made.at) == bucket(one.at);
            let better = |(other, made): (&String, &Made)| {
                mine(made)
                    && (made.whole && !one.whole
                        || made.whole == one.whole && (made.at, other) > (one.at, &id.to_owned()))
            };
            bucket(now) - bucket(one.at) < places && !all.iter().any(better)
        };
        let day = |at: Timestamp| zone.to_datetime(at).date().duration_since(EPOCH).as_hours() / 24;
        let hour = |at: Timestamp| day(at) * 24 + i64::from(zone.to_datetime(at).hour());
        // 1970-01-01 was a Thursday.
        let week = |at: Timestamp| (day(at) + 3).div_euclid(7);
        let month = |at: Timestamp| {
            let date = zone.to_datetime(at).date();
            i64::from(date.year()) * 12 + i64::from(date.month())
        };
        rivals < self.last
            || best_of(self.hourly, &hour)
            || best_of(self.daily, &day)
            || best_of(self.weekly, &week)
            || best_of(self.monthly, &month)
    }
}

const EPOCH: jiff::civil::Date = jiff::civil::date(1970, 1, 1);
