//! Hours, days, weeks, months and years in a time zone.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A unit of the calendar that a rule keeps the newest snapshot of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// A real hour that begins when the clock on the wall shows a full one: the hour that is shown twice when daylight
    /// saving time ends is two hours.
    Hour,
    /// A date.
    Day,
    /// An ISO week, Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// One hour, day, week, month or year, as plan and user see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bucket {
    period: Period,
    date: Date,
    hour: i8,
    offset: Offset,
}

/// An instant as the clocks of a place show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    at: Timestamp,
    offset: Offset,
}

/// Tells the local time of instants that come newest first: it asks the time zone once for each of its changes, as
/// a look-up costs more than all the rest that a snapshot needs.
pub(crate) struct Clock<'z> {
    zone: &'z TimeZone,
    /// What is known: from here to the last instant that was asked for, the offset is this one.
    since: Timestamp,
    until: Timestamp,
    offset: Offset,
}

impl<'z> Clock<'z> {
    pub(crate) fn new(zone: &'z TimeZone) -> Self {
        Self { zone, since: Timestamp::MAX, until: Timestamp::MIN, offset: Offset::UTC }
    }

    pub(crate) fn local(&mut self, at: Timestamp) -> Local {
        if at < self.since || at > self.until {
            self.offset = self.zone.to_offset(at);
            self.since = last_change(self.zone, at);
            self.until = at;
        }
        Local { at, offset: self.offset }
    }
}

/// The last change of the offset that is not after `at`.
fn last_change(zone: &TimeZone, at: Timestamp) -> Timestamp {
    // `preceding` gives what is strictly before: a change at `at` itself is asked for from just after it.
    let just_after = at.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(at);
    zone.preceding(just_after).next().map_or(Timestamp::MIN, |change| change.timestamp())
}

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

impl Local {
    /// What all instants in the same hour, day… have in common, and no other: for an hour its first second, for the
    /// others a number that goes up by one from each to the next.
    pub(crate) fn key(&self, period: Period) -> i64 {
        match period {
            Period::Hour => self.seconds() - (self.seconds() + self.past_the_hour()).rem_euclid(HOUR),
            Period::Day => self.day(),
            // Day 0, 1970-01-01, was a Thursday.
            Period::Week => (self.day() + 3).div_euclid(7),
            Period::Month => i64::from(self.date().year()) * 12 + i64::from(self.date().month()),
            Period::Year => i64::from(self.date().year()),
        }
    }

    pub(crate) fn bucket(&self, period: Period) -> Bucket {
        let shown = self.offset.to_datetime(self.at);
        Bucket { period, date: shown.date(), hour: shown.hour(), offset: self.offset }
    }

    fn date(&self) -> Date {
        self.offset.to_datetime(self.at).date()
    }

    fn day(&self) -> i64 {
        (self.seconds() + i64::from(self.offset.seconds())).div_euclid(DAY)
    }

    /// Since 1970, with the fraction cut off downwards.
    fn seconds(&self) -> i64 {
        self.at.as_second() - i64::from(self.at.subsec_nanosecond() < 0)
    }

    /// How far the wall's full hours lie off those of UTC.
    fn past_the_hour(&self) -> i64 {
        i64::from(self.offset.seconds()).rem_euclid(HOUR)
    }
}

impl Period {
    /// How many steps back from the one with the key `from` the one with the key `to` lies. Clocks that were set back
    /// may show a later date for an earlier instant: such a one lies no step back.
    pub(crate) fn steps(self, from: i64, to: i64) -> u64 {
        let back = u64::try_from(from - to).unwrap_or(0);
        match self {
            // Some zones move by half an hour: the shorter hour between is an hour of its own.
            Self::Hour => back.div_ceil(3600),
            _ => back,
        }
    }
}

impl Bucket {
    /// Which unit it is one of.
    #[must_use]
    pub fn period(&self) -> Period {
        self.period
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

/// `day 2026-11-24`, `week 2026-W47`, `hour 2026-10-25T02+01`.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { period, date, hour, offset } = self;
        write!(f, "{period} ")?;
        match period {
            Period::Hour if offset.is_zero() => write!(f, "{date}T{hour:02}Z"),
            Period::Hour => write!(f, "{date}T{hour:02}{offset}"),
            Period::Day => write!(f, "{date}"),
            Period::Week => {
                let week = date.iso_week_date();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            Period::Month => write!(f, "{:04}-{:02}", date.year(), date.month()),
            Period::Year => write!(f, "{:04}", date.year()),
        }
    }
}
