//! The documentation read word for word, rule by rule and slowly, for the properties to compare with.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit};
use xvault_retention::{Count, Rules, Snapshot, Status};

/// A history at an instant in a place.
pub(crate) struct World<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) snapshots: &'a [Snapshot],
    pub(crate) now: Timestamp,
    pub(crate) zone: &'a TimeZone,
}

type Reasons = BTreeSet<String>;

impl World<'_> {
    /// Whether `s` is kept, and every reason.
    pub(crate) fn judge(&self, s: &Snapshot) -> (bool, Reasons) {
        let rules = self.rules();
        let by_rule: Reasons = rules.iter().filter_map(|rule| rule(self, s)).chain(self.tags(s)).collect();
        let too_old = self.too_old(s);
        let mut reasons = self.guards(s);
        if too_old.is_none() {
            reasons.extend(by_rule.clone());
        }
        if !reasons.is_empty() {
            return (true, reasons);
        }
        reasons.extend(too_old);
        if s.status == Status::Failed {
            reasons.insert("failed: counts for no rule".to_owned());
        } else if by_rule.is_empty() {
            reasons.insert("no rule keeps it".to_owned());
        }
        (false, reasons)
    }

    fn counts(&self, s: &Snapshot) -> bool {
        s.status != Status::Failed && s.at <= self.now
    }

    /// Those that count, are newer than `s` and hold at least as much.
    fn rivals<'s>(&'s self, s: &'s Snapshot) -> impl Iterator<Item = &'s Snapshot> {
        self.snapshots.iter().filter(move |other| self.counts(other) && newer(other, s) && as_good(other, s))
    }

    fn guards(&self, s: &Snapshot) -> Reasons {
        let good: Vec<&Snapshot> = self.snapshots.iter().filter(|other| self.counts(other)).collect();
        let best = good.iter().copied().filter(|one| good.iter().all(|other| as_good(one, other)));
        let last_good = best.max_by_key(|one| (one.at, one.id.clone()));
        let mut reasons = Reasons::new();
        if let Some(why) = &s.hold {
            reasons.insert(if why.is_empty() { "on hold".to_owned() } else { format!("on hold: {why}") });
        }
        if s.at > self.now {
            reasons.insert("dated in the future".to_owned());
        }
        if !self.rules.may_delete_last && last_good.is_some_and(|last| last.id == s.id) {
            let which = if good.len() == 1 { "only" } else { "last" };
            reasons.insert(format!("the {which} good snapshot"));
        }
        if self.rules.require_verified && self.counts(s) && !self.rivals(s).any(|rival| rival.verified) {
            reasons.insert("no newer one is verified".to_owned());
        }
        let age = self.now.duration_since(s.at);
        if let Some(hours) = self.rules.min_age_hours
            && !age.is_negative()
            && age < SignedDuration::from_hours(i64::try_from(hours).unwrap())
        {
            reasons.insert(format!("younger than {hours} h"));
        }
        reasons
    }

    fn too_old(&self, s: &Snapshot) -> Option<String> {
        let days = self.rules.max_age_days?;
        let age = self.now.duration_since(s.at);
        (age > SignedDuration::from_hours(24 * i64::try_from(days).unwrap()))
            .then(|| format!("older than {days} days"))
    }

    fn rules(&self) -> [fn(&Self, &Snapshot) -> Option<String>; 8] {
        [
            |world, _| world.rules.keep_all.then(|| "all are kept".to_owned()),
            Self::last,
            |world, s| world.newest_of(s, world.rules.keep_hourly?, Self::hour, hour_name),
            |world, s| {
                world.newest_of(s, world.rules.keep_daily?, Self::date, |date, _| format!("day {date}"))
            },
            |world, s| world.newest_of(s, world.rules.keep_weekly?, Self::monday, week_name),
            |world, s| world.newest_of(s, world.rules.keep_monthly?, Self::month, month_name),
            |world, s| world.newest_of(s, world.rules.keep_yearly?, Self::year, year_name),
            Self::within,
        ]
    }

    fn last(&self, s: &Snapshot) -> Option<String> {
        let (of, nth) = (self.rules.keep_last_n?, self.rivals(s).count() + 1);
        let suffix = match nth {
            1 | 21 | 31 => "st",
            2 | 22 | 32 => "nd",
            3 | 23 | 33 => "rd",
            _ => "th",
        };
        (self.counts(s) && nth as u64 <= of).then(|| format!("{nth}{suffix} of {of} last"))
    }

    fn within(&self, s: &Snapshot) -> Option<String> {
        let within = self.rules.keep_within?;
        let newest = self.rivals(s).map(|rival| rival.at).max().unwrap_or(s.at);
        let end = if self.rules.count == Count::Calendar { self.now } else { newest };
        (self.counts(s) && s.at >= within.before(end, self.zone)).then(|| format!("within {within}"))
    }

    fn tags(&self, s: &Snapshot) -> Vec<String> {
        let kept = s.tags.iter().filter(|tag| self.counts(s) && self.rules.keep_tags.contains(tag));
        kept.map(|tag| format!("tag {tag}")).collect()
    }

    /// The rule of one period: `start` gives where a period begins, which is also its identity.
    fn newest_of<P: Start>(
        &self,
        s: &Snapshot,
        count: u64,
        start: fn(&Self, Timestamp) -> P,
        name: fn(P, &Self) -> String,
    ) -> Option<String> {
        let own = start(self, s.at);
        let in_period = |period: P| {
            self.snapshots.iter().filter(move |one| self.counts(one) && start(self, one.at) == period)
        };
        let best = in_period(own).all(|other| other.id == s.id || beats(s, other));
        if !self.counts(s) || !best {
            return None;
        }
        let nth = match self.rules.count {
            Count::Calendar => start(self, self.now).steps(own) + 1,
            Count::Existing => {
                let newest = |period: P| in_period(period).map(|one| (one.at, one.id.clone())).max();
                let as_good_as_own = |period: P| in_period(period).any(|one| as_good(one, s));
                let periods: BTreeSet<P> = self
                    .snapshots
                    .iter()
                    .filter(|one| self.counts(one))
                    .map(|one| start(self, one.at))
                    .collect();
                let before = periods
                    .into_iter()
                    .filter(|period| newest(*period) > newest(own) && as_good_as_own(*period));
                before.count() as i64 + 1
            }
        };
        let passed_over = in_period(own).any(|other| newer(other, s));
        let which = if passed_over { "newest whole one" } else { "newest" };
        (nth <= i64::try_from(count).unwrap()).then(|| format!("{which} of {}", name(own, self)))
    }

    fn date(&self, at: Timestamp) -> Date {
        self.zone.to_datetime(at).date()
    }

    fn hour(&self, at: Timestamp) -> Timestamp {
        let shown = self.zone.to_datetime(at);
        let past = SignedDuration::from_mins(shown.minute().into())
            + SignedDuration::from_secs(shown.second().into());
        let start = at - past;
        start - SignedDuration::from_nanos(shown.subsec_nanosecond().into())
    }

    fn monday(&self, at: Timestamp) -> Monday {
        let date = self.date(at);
        Monday(date - jiff::Span::new().days(i64::from(date.weekday().to_monday_zero_offset())))
    }

    fn month(&self, at: Timestamp) -> Month {
        Month(self.date(at).first_of_month())
    }

    fn year(&self, at: Timestamp) -> Year {
        Year(self.date(at).year())
    }
}

fn newer(one: &Snapshot, other: &Snapshot) -> bool {
    (one.at, &one.id) > (other.at, &other.id)
}

fn as_good(one: &Snapshot, other: &Snapshot) -> bool {
    one.status == Status::Whole || other.status == Status::Partial
}

/// In one period: a whole one beats a partial one, otherwise the newer one wins.
fn beats(one: &Snapshot, other: &Snapshot) -> bool {
    if one.status == other.status { newer(one, other) } else { one.status == Status::Whole }
}

/// Where a period begins.
trait Start: Copy + Ord {
    /// How many periods of the calendar `earlier` lies back; 0 where it is later on the wall.
    fn steps(self, earlier: Self) -> i64;
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Monday(Date);
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month(Date);
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Year(i16);

impl Start for Timestamp {
    fn steps(self, earlier: Self) -> i64 {
        // A shorter hour, where a zone moves by half an hour, is an hour.
        ((self.as_second() - earlier.as_second()).max(0) + 3599) / 3600
    }
}

impl Start for Date {
    fn steps(self, earlier: Self) -> i64 {
        i64::from(self.since((Unit::Day, earlier)).unwrap().get_days()).max(0)
    }
}

impl Start for Monday {
    fn steps(self, earlier: Self) -> i64 {
        self.0.steps(earlier.0) / 7
    }
}

impl Start for Month {
    fn steps(self, earlier: Self) -> i64 {
        i64::from(self.0.since((Unit::Month, earlier.0)).unwrap().get_months()).max(0)
    }
}

impl Start for Year {
    fn steps(self, earlier: Self) -> i64 {
        i64::from(self.0 - earlier.0).max(0)
    }
}

fn hour_name(start: Timestamp, world: &World<'_>) -> String {
    // Its start may lie before a change of the clocks: any instant of it that was asked for has its own offset.
    let known = world.snapshots.iter().map(|one| one.at).filter(|at| world.hour(*at) == start);
    let offset = known.map(|at| world.zone.to_offset(at)).next().unwrap();
    let shown = offset.to_datetime(start);
    let offset = if offset.is_zero() { "Z".to_owned() } else { offset.to_string() };
    format!("hour {}T{:02}{offset}", shown.date(), shown.hour())
}

fn week_name(monday: Monday, _: &World<'_>) -> String {
    let week = monday.0.iso_week_date();
    format!("week {:04}-W{:02}", week.year(), week.week())
}

fn month_name(month: Month, _: &World<'_>) -> String {
    format!("month {:04}-{:02}", month.0.year(), month.0.month())
}

fn year_name(year: Year, _: &World<'_>) -> String {
    format!("year {:04}", year.0)
}
