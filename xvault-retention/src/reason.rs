//! Why a snapshot is kept or deleted.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::calendar::Bucket;
use crate::within::Within;

/// One reason of a [`Decision`](crate::Decision). Its text is for people, and is what JSON holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Kept: somebody put it on hold, and said this.
    OnHold(Box<str>),
    /// Kept: its store lets nobody delete it until then.
    LockedUntil(Timestamp),
    /// Kept: its store was seen to let nobody delete.
    Undeletable,
    /// Kept: its time has not come yet. A clock was wrong, or is.
    InTheFuture,
    /// Kept: it is the newest whole snapshot, or the newest partial one where none is whole.
    LastGood {
        /// Whether it is the only good one.
        only: bool,
    },
    /// Kept: no newer one, that holds at least as much, was read back or verified.
    NoNewerVerified,
    /// Kept: younger than so many hours.
    YoungerThan(u64),
    /// Kept: the policy keeps all.
    All,
    /// Kept: the `nth` of the last `of`.
    Last {
        /// 1 is the newest.
        nth: u64,
        /// How many are kept.
        of: u64,
    },
    /// Kept: the newest of its hour, day, week, month or year; the newest *whole* one where a newer one is partial.
    NewestOf {
        /// Which hour, day, week, month or year.
        bucket: Bucket,
        /// Whether a newer one there is partial.
        whole: bool,
    },
    /// Kept: not older than this.
    Within(Within),
    /// Kept: it has this tag.
    Tag(Box<str>),
    /// Deleted: older than so many days.
    OlderThan(u64),
    /// Deleted: a failed snapshot counts for no rule.
    Failed,
    /// Deleted: no rule keeps it.
    NoRule,
}

impl Reason {
    /// Whether it is a reason to keep.
    #[must_use]
    pub fn keeps(&self) -> bool {
        !matches!(self, Self::OlderThan(_) | Self::Failed | Self::NoRule)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnHold(why) if why.is_empty() => f.write_str("on hold"),
            Self::OnHold(why) => write!(f, "on hold: {why}"),
            Self::LockedUntil(until) => write!(f, "locked until {until}"),
            Self::Undeletable => f.write_str("its store lets nobody delete"),
            Self::InTheFuture => f.write_str("dated in the future"),
            Self::LastGood { only: true } => f.write_str("the only good snapshot"),
            Self::LastGood { only: false } => f.write_str("the last good snapshot"),
            Self::NoNewerVerified => f.write_str("no newer one is verified"),
            Self::YoungerThan(hours) => write!(f, "younger than {hours} h"),
            Self::All => f.write_str("all are kept"),
            Self::Last { nth, of } => write!(f, "{nth}{} of {of} last", ordinal(*nth)),
            Self::NewestOf { bucket, whole: false } => write!(f, "newest of {bucket}"),
            Self::NewestOf { bucket, whole: true } => write!(f, "newest whole one of {bucket}"),
            Self::Within(within) => write!(f, "within {within}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::OlderThan(days) => write!(f, "older than {days} days"),
            Self::Failed => f.write_str("failed: counts for no rule"),
            Self::NoRule => f.write_str("no rule keeps it"),
        }
    }
}

fn ordinal(number: u64) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
