//! The length of time of `keep_within`.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in calendar units: `30d`, `1y6m`, `2w`, `36h`. The letters are years, months, weeks, days and
/// hours; years, months, weeks and days are those of the calendar, so `1d` before noon is noon of the day before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Within {
    years: u32,
    months: u32,
    weeks: u32,
    days: u32,
    hours: u32,
}

/// Why a text is no [`Within`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write numbers with y, m (months), w, d or h behind them, each letter at most once, such as 30d, 1y6m or 36h"
)]
pub struct InvalidWithin;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The longest text that is looked at, in bytes: five numbers of up to nine digits with their letters.
const MAX_LEN: usize = 50;

impl Within {
    /// So many days.
    #[must_use]
    pub fn days(days: u32) -> Self {
        Self { days, ..Self::default() }
    }

    /// So many hours.
    #[must_use]
    pub fn hours(hours: u32) -> Self {
        Self { hours, ..Self::default() }
    }

    /// Whether it is no time at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The instant that lies so long before `end` in the calendar of `zone`; the first of all instants where that is
    /// further back than time goes.
    #[must_use]
    pub fn before(&self, end: Timestamp, zone: &TimeZone) -> Timestamp {
        let start = self.span().and_then(|span| end.to_zoned_datetime(zone.clone()).checked_sub(span));
        start.map_or(Timestamp::MIN, |start| start.timestamp())
    }

    /// The last instant up to which what is of `start` surely lies within, in the calendar of `zone`: a month after the 30th of
    /// January ends on the last of February.
    pub(crate) fn after(&self, start: Timestamp, zone: &TimeZone) -> Timestamp {
        let end = self.span().and_then(|span| start.to_zoned_datetime(zone.clone()).checked_add(span));
        let mut end = end.map_or(Timestamp::MAX, |end| end.timestamp());
        // Months are of many lengths and clocks are set, so the way there is not always the way back.
        while end > start && self.before(end, zone) > start {
            end = end.checked_sub(HOUR).map_or(start, |earlier| earlier.max(start));
        }
        end
    }

    fn span(&self) -> Result<Span, jiff::Error> {
        Span::new()
            .try_years(self.years)?
            .try_months(self.months)?
            .try_weeks(self.weeks)?
            .try_days(self.days)?
            .try_hours(self.hours)
    }

    fn parts(&mut self) -> [(char, &mut u32); 5] {
        let Self { years, months, weeks, days, hours } = self;
        [('y', years), ('m', months), ('w', weeks), ('d', days), ('h', hours)]
    }
}

impl FromStr for Within {
    type Err = InvalidWithin;

    fn from_str(text: &str) -> Result<Self, InvalidWithin> {
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(InvalidWithin);
        }
        let (mut within, mut seen, mut rest) = (Self::default(), String::new(), text);
        while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
            let (digits, tail) = rest.split_at(end);
            let letter = tail.chars().next().filter(|letter| !seen.contains(*letter)).ok_or(InvalidWithin)?;
            let mut parts = within.parts();
            let part = parts.iter_mut().find(|(name, _)| *name == letter).ok_or(InvalidWithin)?;
            *part.1 = digits.parse().map_err(|_| InvalidWithin)?;
            seen.push(letter);
            rest = tail.get(letter.len_utf8()..).unwrap_or_default();
        }
        if rest.is_empty() { Ok(within) } else { Err(InvalidWithin) }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0h");
        }
        let mut copy = *self;
        for (letter, number) in copy.parts().into_iter().filter(|(_, number)| **number > 0) {
            write!(f, "{number}{letter}")?;
        }
        Ok(())
    }
}

impl Serialize for Within {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
