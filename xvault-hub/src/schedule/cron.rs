//! Cron expressions: five fields, or one of the `@daily` forms, over the clock on the wall.
//!
//! Day of month and day of week are as in Vixie's cron: where neither field begins with `*`, a day that fits one of them will
//! do; else it must fit both.

use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime, Time};

use super::field::{Field, Part};

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 200;
/// A day that fits comes within so many years, if ever: 12 for a certain weekday on the first of a month across 2100.
const YEARS: i16 = 40;

/// Expressions by name.
const FORMS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which field; absent: all of it.
    pub(crate) part: Option<Part>,
    /// The text at fault, as much as is worth showing.
    pub(crate) text: String,
    pub(crate) reason: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(part) = self.part {
            write!(f, "{} `{}`: ", part.name(), self.text)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

/// Which minutes of which days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cron {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// Names the field and its text; and refuses what never comes, as the 30th of February.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_LENGTH {
            return Err(whole(format!("at most {MAX_LENGTH} characters are possible")));
        }
        let text = match text.trim() {
            form if form.starts_with('@') => named(form)?,
            text => text,
        };
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = <[&str; 5]>::try_from(fields).map_err(|fields| {
            whole(format!(
                "five fields are needed (minute, hour, day of month, month, day of week), not {}",
                fields.len()
            ))
        })?;
        let texts = [minutes, hours, days, months, weekdays];
        let mut read = [None; 5];
        for ((part, text), place) in Part::ALL.into_iter().zip(texts).zip(&mut read) {
            *place = Some(Field::parse(part, text)?);
        }
        let [Some(minutes), Some(hours), Some(days), Some(months), Some(weekdays)] = read else {
            return Err(whole("five fields are needed".to_owned()));
        };
        let cron = Self { minutes, hours, days, months, weekdays };
        if cron.never_comes() { Err(Part::DayOfMonth.fault(texts[2], never(texts[3]))) } else { Ok(cron) }
    }

    /// Whether no month that is allowed is long enough. A day of the week comes in every month.
    fn never_comes(&self) -> bool {
        let weekly = !self.days.star && !self.weekdays.star;
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        !weekly && self.months.numbers().all(|month| longest(month) < self.days.first())
    }

    /// Whether it runs in every hour: such a rhythm goes on while the clock is set back.
    pub(super) fn every_hour(&self) -> bool {
        (0..24).all(|hour| self.hours.contains(hour))
    }

    /// The shortest time between two runs, in minutes, taking every day for one that fits and of 24 hours.
    pub(super) fn shortest_gap(&self) -> u32 {
        let hours: Vec<_> = self.hours.numbers().map(i32::from).collect();
        let of_day: Vec<i32> = hours
            .iter()
            .flat_map(|hour| self.minutes.numbers().map(move |minute| hour * 60 + i32::from(minute)))
            .collect();
        let (first, last) =
            (of_day.first().copied().unwrap_or_default(), of_day.last().copied().unwrap_or_default());
        let within = of_day.windows(2).map(|pair| pair[1] - pair[0]);
        let shortest = within.chain([24 * 60 + first - last]).min().unwrap_or_default();
        u32::try_from(shortest).unwrap_or_default()
    }

    fn fits(&self, date: Date) -> bool {
        let day = self.days.contains(date.day());
        let weekday = self.weekdays.contains(date.weekday().to_sunday_zero_offset());
        let fits = if self.days.star || self.weekdays.star { day && weekday } else { day || weekday };
        fits && self.months.contains(date.month())
    }

    /// The first minute that is not before `from`. None when time ends before that.
    pub(super) fn next_from(&self, from: DateTime) -> Option<DateTime> {
        let from = minute_up(from)?;
        if self.fits(from.date())
            && let Some(time) = self.time_from(from.hour(), from.minute())
        {
            return Some(from.date().to_datetime(time));
        }
        let date = self.date_from(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(Time::new(self.hours.first(), self.minutes.first(), 0, 0).ok()?))
    }

    /// The first time of a day that fits.
    fn time_from(&self, hour: i8, minute: i8) -> Option<Time> {
        let (hour, minute) = match self.minutes.next_from(minute) {
            Some(minute) if self.hours.contains(hour) => (hour, minute),
            _ => (self.hours.next_from(hour.checked_add(1)?)?, self.minutes.first()),
        };
        Time::new(hour, minute, 0, 0).ok()
    }

    /// The first day that fits.
    fn date_from(&self, from: Date) -> Option<Date> {
        let mut date = from;
        while date.year() - from.year() <= YEARS {
            if !self.months.contains(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
            } else if self.fits(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }
}

/// The beginning of this minute, or of the next one if this has begun.
fn minute_up(at: DateTime) -> Option<DateTime> {
    let begun = at.second() > 0 || at.subsec_nanosecond() > 0;
    let minute = at.date().to_datetime(Time::new(at.hour(), at.minute(), 0, 0).ok()?);
    if begun { minute.checked_add(1.minute()).ok() } else { Some(minute) }
}

fn named(form: &str) -> Result<&'static str, Fault> {
    let known = FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(form));
    known.map(|(_, text)| *text).ok_or_else(|| {
        let names: Vec<_> = FORMS.iter().map(|(name, _)| *name).collect();
        whole(format!("of the forms with @ there are {}", names.join(", ")))
    })
}

fn never(months: &str) -> String {
    format!("there is no such day in month {months}: it would never run")
}

fn whole(reason: String) -> Fault {
    Fault { part: None, text: String::new(), reason }
}
