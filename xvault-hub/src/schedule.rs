//! When a schedule runs: pure arithmetic on instants, without a clock of its own.
//!
//! A [`Rhythm`] gives regular times, and [`Timing`] adds to each the same few seconds or minutes, made of the schedule's id: ten
//! thousand `@daily` schedules do not begin in one second, and each begins at the same time every day.

mod cron;
mod field;
mod wall;

pub(crate) use cron::{Cron, Fault};
pub(crate) use field::Part;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use xvault_core::ScheduleId;

/// The longest interval, in minutes: a leap year.
pub(crate) const MAX_INTERVAL: u32 = 366 * 24 * 60;
/// The greatest shift of a run. Runs are shifted by a tenth of the time between two at most.
const MAX_JITTER: SignedDuration = SignedDuration::from_mins(5);
/// Rhythms that are quicker, in minutes, run on time: a schedule of one minute runs in each.
const MIN_JITTERED: u32 = 10;
/// The least time that a snapshot may be late before its source is overdue.
const MIN_GRACE: SignedDuration = SignedDuration::from_hours(1);
/// The most.
const MAX_GRACE: SignedDuration = SignedDuration::from_hours(24);
/// Names of files beside those of zones, or of a zone that differs from machine to machine.
const NO_ZONES: [&str; 4] = ["localtime", "posixrules", "factory", "etc/unknown"];

/// What a schedule says of its times, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A cron expression.
    Cron(String),
    /// Every so many minutes: 1 to [`MAX_INTERVAL`].
    Minutes(u32),
}

/// What makes regular times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rhythm {
    /// Times of the wall clock.
    Cron(Cron),
    /// Every so many minutes of elapsed time since `anchor`, whatever clocks do in between and however late runs were.
    Every {
        /// At least one.
        minutes: u32,
        anchor: Timestamp,
    },
}

/// When the next snapshot of a source is expected, and from when on it is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub(crate) at: Timestamp,
    pub(crate) overdue_after: Timestamp,
}

/// Why a schedule has no times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimingError {
    /// The expression is none.
    #[error(transparent)]
    Cron(#[from] Fault),
    /// The zone is none that this machine knows.
    #[error("there is no time zone `{0}` in the IANA database; write one like `Europe/Berlin`")]
    Zone(String),
}

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timing {
    rhythm: Rhythm,
    zone: TimeZone,
    jitter: SignedDuration,
}

impl Timing {
    /// The timing of the schedule with this id. Only the times of an interval are counted from `anchor`.
    ///
    /// # Errors
    /// When expression or zone can't be read.
    pub(crate) fn read(
        id: &ScheduleId,
        rule: &Rule,
        timezone: &str,
        anchor: Timestamp,
    ) -> Result<Self, TimingError> {
        let rhythm = match rule {
            Rule::Cron(text) => Rhythm::Cron(Cron::parse(text)?),
            Rule::Minutes(minutes) => Rhythm::Every { minutes: *minutes, anchor },
        };
        let zone = zone(timezone).ok_or_else(|| TimingError::Zone(timezone.to_owned()))?;
        Ok(Self::new(id.as_str(), rhythm, zone))
    }

    fn new(id: &str, rhythm: Rhythm, zone: TimeZone) -> Self {
        let minutes = match &rhythm {
            Rhythm::Cron(cron) => cron.shortest_gap(),
            Rhythm::Every { minutes, .. } => *minutes,
        };
        Self { rhythm, zone, jitter: jitter(id, minutes) }
    }

    /// The first run after `after`. None when there is none before the end of time.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.checked_sub(self.jitter).ok()?;
        let regular = match &self.rhythm {
            Rhythm::Cron(cron) => wall::next_after(cron, &self.zone, after)?,
            Rhythm::Every { minutes, anchor } => interval_after(*minutes, *anchor, after)?,
        };
        regular.checked_add(self.jitter).ok()
    }

    /// The runs after `after`, in order.
    pub(crate) fn runs_after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next_after(after), |run| self.next_after(*run))
    }

    /// What is expected after `since`: a snapshot of the next run, within a quarter of the time that the run after that
    /// leaves, which is taken to be an hour at least and a day at most.
    pub(crate) fn expectation(&self, since: Timestamp) -> Option<Expectation> {
        let mut runs = self.runs_after(since);
        let (at, following) = (runs.next()?, runs.next()?);
        let grace = (following.duration_since(at) / 4).clamp(MIN_GRACE, MAX_GRACE);
        Some(Expectation { at, overdue_after: at.checked_add(grace).ok()? })
    }

    /// Where its clock hangs.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// How much later than its regular time each run begins.
    pub(crate) fn jitter(&self) -> SignedDuration {
        self.jitter
    }
}

/// The zone of this name in the IANA database, whatever the case.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    if NO_ZONES.iter().any(|other| name.eq_ignore_ascii_case(other)) {
        return None;
    }
    TimeZone::get(name).ok()
}

/// The first of the times `anchor` + n × `minutes`, n ≥ 1, that is after `after`.
fn interval_after(minutes: u32, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
    let length = SignedDuration::from_mins(i64::from(minutes.max(1)));
    let elapsed = after.duration_since(anchor).max(SignedDuration::ZERO);
    let periods = elapsed.as_nanos().checked_div(length.as_nanos())? + 1;
    let nanos = length.as_nanos().checked_mul(periods)?;
    anchor.checked_add(SignedDuration::try_from_nanos_i128(nanos)?).ok()
}

/// The same for the same id, of whole seconds, and spread evenly over ids.
fn jitter(id: &str, minutes: u32) -> SignedDuration {
    if minutes < MIN_JITTERED {
        return SignedDuration::ZERO;
    }
    let bound = (SignedDuration::from_mins(i64::from(minutes)) / 10).min(MAX_JITTER).as_secs();
    let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let [a, b, c, d, ..] = hash;
    SignedDuration::from_secs(i64::from(u32::from_be_bytes([a, b, c, d])) % bound.max(1))
}

#[cfg(test)]
mod tests;
