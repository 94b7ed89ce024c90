//! From the clock on the wall to instants: what a cron expression means where clocks are set forward and back.
//!
//! Between two changes of a zone's offset the wall clock runs evenly. So one stretch after the other is searched:
//! - where a change skips times and one of these was to run, it runs at the change itself, once;
//! - where a change repeats times, they have run the first time, and are passed over. A rhythm of every hour goes on: it
//!   would pause else for as long as the clock was set back.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;

/// A time during which a zone's offset stays the same.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    offset: Offset,
    /// When it began, and the offset until then. None: always.
    change: Option<(Timestamp, Offset)>,
    /// When the next one begins.
    end: Option<Timestamp>,
}

impl Stretch {
    /// The one that `at` lies in.
    fn around(zone: &TimeZone, at: Timestamp) -> Self {
        let just_after = at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(at);
        let began = zone.preceding(just_after).next().map(|change| change.timestamp());
        let change = began.and_then(|began| {
            let before = began.checked_sub(SignedDuration::from_nanos(1)).ok()?;
            Some((began, zone.to_offset(before)))
        });
        let end = zone.following(at).next().map(|change| change.timestamp());
        Self { offset: zone.to_offset(at), change, end }
    }

    /// The first run that is not before `from`, which lies in this stretch: here, or in a later one.
    fn first_run(&self, cron: &Cron, from: Timestamp) -> Option<Run> {
        let mut wall = self.offset.to_datetime(from);
        if let Some((began, before)) = self.change {
            let until = before.to_datetime(began);
            if began == from && runs_between(cron, until, wall) {
                return Some(Run::At(from));
            }
            if !cron.every_hour() {
                // What the clock showed before it was set back.
                wall = wall.max(until);
            }
        }
        let run = self.offset.to_timestamp(cron.next_from(wall)?).ok()?;
        match self.end {
            Some(end) if end <= run => Some(Run::NotBefore(end)),
            _ => Some(Run::At(run)),
        }
    }
}

/// What a stretch says of the next run.
enum Run {
    At(Timestamp),
    /// It lies in the stretch that begins then, or later.
    NotBefore(Timestamp),
}

/// Whether a time from `skipped` on, and before `wall`, was to run.
fn runs_between(cron: &Cron, skipped: DateTime, wall: DateTime) -> bool {
    cron.next_from(skipped).is_some_and(|next| next < wall)
}

/// The first run after `after`. None when there is none before the end of time.
pub(super) fn next_after(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut from = after.checked_add(SignedDuration::from_nanos(1)).ok()?;
    loop {
        match Stretch::around(zone, from).first_run(cron, from)? {
            Run::At(run) => return Some(run),
            // The end of a stretch lies after what is in it: this comes to an end with the zone's changes.
            Run::NotBefore(end) => from = end,
        }
    }
}
