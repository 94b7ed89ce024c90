//! What is wrong with a policy.

use xvault_core::tag::InvalidTags;
use xvault_core::{Dispose, Disposition};

use crate::policy::FIELDS;

/// Why a policy is refused, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no JSON object.
    #[error("a retention policy is an object such as {{\"keep_last_n\": 7}}, not {found}")]
    NoObject {
        /// What was there.
        found: String,
    },
    /// A field that does not exist.
    #[error("`{field}` is no field of a retention policy; there are {}", FIELDS.join(", "))]
    UnknownField {
        /// Its name.
        field: String,
    },
    /// A value of the wrong kind, or out of its range.
    #[error("`{field}` is {found}: write {expected}")]
    InvalidValue {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Two names of one rule disagree.
    #[error("`{field}` and `{other}` are the same rule: write only one of them")]
    Twice {
        /// One name.
        field: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A `mode` and a rule of another.
    #[error("`{field}` does not go with mode \"{mode}\": leave `mode` out to combine rules")]
    NotOfMode {
        /// The rule.
        field: &'static str,
        /// The mode.
        mode: &'static str,
    },
    /// A `mode` without its number.
    #[error("mode \"{mode}\" needs `{field}`, greater than 0")]
    ModeNeeds {
        /// What is missing.
        field: &'static str,
        /// The mode.
        mode: &'static str,
    },
    /// No rule, or rules that keep nothing.
    #[error(
        "no rule of this policy keeps anything: set at least one of keep_last_n, keep_hourly, keep_daily, \
         keep_weekly, keep_monthly, keep_yearly or keep_within to more than 0, name keep_tags, or write \
         \"keep_all\": true to delete nothing"
    )]
    KeepsNothing,
    /// `max_age_days: 0`.
    #[error(
        "`max_age_days` is 0, which would delete everything at once: write how many days a snapshot may stay, or leave it out"
    )]
    NoAge,
    /// `min_age_hours` and `max_age_days` contradict each other.
    #[error(
        "`min_age_hours` is not shorter than `max_age_days`: no snapshot may be both too young and too old to decide"
    )]
    Ages,
    /// A tag that is none, or too many.
    #[error("`keep_tags`: {0}")]
    Tags(#[from] InvalidTags),
}

impl PolicyError {
    /// The field to change, where it is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NoObject { .. } | Self::KeepsNothing => None,
            Self::UnknownField { field } => Some(field),
            Self::InvalidValue { field, .. }
            | Self::Twice { field, .. }
            | Self::NotOfMode { field, .. }
            | Self::ModeNeeds { field, .. } => Some(field),
            Self::NoAge => Some("max_age_days"),
            Self::Ages => Some("min_age_hours"),
            Self::Tags(_) => Some("keep_tags"),
        }
    }
}

impl Dispose for PolicyError {
    fn disposition(&self) -> Disposition {
        Disposition::Permanent
    }
}
