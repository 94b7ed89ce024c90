//! The rules of a policy, and the proof that they make sense.

mod json;

pub(crate) use json::FIELDS;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use xvault_core::tag;

use crate::error::PolicyError;
use crate::within::Within;

/// How `keep_hourly` … `keep_yearly` and `keep_within` count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Count {
    /// By the calendar, back from now: `keep_daily: 30` is one snapshot a day for today and the 29 days before it.
    #[default]
    Calendar,
    /// By what exists, as restic does: `keep_daily: 30` is one snapshot for each of the last 30 days that have one,
    /// and `keep_within` counts from the newest snapshot. Nothing goes only because time passes.
    Existing,
}

/// The rules of a [`Policy`], one field each. What is left out does not apply; 0 is as good as left out, except where a
/// field says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RetentionPolicy))]
pub struct Rules {
    /// Keep every snapshot (up to `max_age_days`).
    #[serde(skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub keep_all: bool,
    /// Keep the N most recent snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last_n: Option<u64>,
    /// Keep the newest snapshot of each hour, for N hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u64>,
    /// Keep the newest snapshot of each day, for N days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u64>,
    /// Keep the newest snapshot of each ISO week (Monday to Sunday), for N weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u64>,
    /// Keep the newest snapshot of each month, for N months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u64>,
    /// Keep the newest snapshot of each year, for N years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u64>,
    /// Keep every snapshot that is not older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, pattern = "^([0-9]+[ymwdh])+$"))]
    pub keep_within: Option<Within>,
    /// Keep every snapshot that has one of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub keep_tags: Vec<String>,
    /// Delete no snapshot that is younger than N hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_age_hours: Option<u64>,
    /// Delete every snapshot that is older than N days of 24 hours, whatever the `keep_` rules say. Never 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_days: Option<u64>,
    /// Delete no snapshot before a newer one, that holds at least as much, was read back or verified.
    #[serde(skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub require_verified: bool,
    /// Delete even the last good snapshot when it is older than `max_age_days`, or no rule keeps it.
    #[serde(skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub may_delete_last: bool,
    /// How the rules count.
    #[serde(skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub count: Count,
}

/// Rules that make sense: at least one of them keeps something, and none contradicts another.
///
/// Its JSON form is that of [`Rules`]; [`Policy::parse`] also takes the `mode` forms. Reading one from any other
/// format of serde works as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = Rules))]
pub struct Policy(Rules);

impl Policy {
    /// Reads a policy from JSON. Besides the fields of [`Rules`] it takes `mode: "all"`, `mode: "latest_n"` with
    /// `keep_last_n`, and `mode: "within_duration"` with `keep_within_duration`, and turns them into those fields.
    ///
    /// # Errors
    /// Names the field that is wrong, and what to write instead.
    pub fn parse(json: &Value) -> Result<Self, PolicyError> {
        Self::try_from(json::rules(json)?)
    }

    /// The rules: without zeros, and with `keep_all` where only `max_age_days` was given.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0
    }

    /// Until when a good snapshot of the instant `at` stays, whatever other snapshots come: at every instant before that, every plan
    /// by this policy keeps it. `at` itself when nothing is promised, [`Timestamp::MAX`] when it never goes by itself.
    ///
    /// Rules that count, snapshots or hours, days and so on, promise nothing: a newer one may take the place at any time. What
    /// counts is `min_age_hours`, `keep_within` and `keep_all`, and `max_age_days` against the last two.
    #[must_use]
    pub fn keeps_until(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let later = |age: SignedDuration| at.checked_add(age).unwrap_or(Timestamp::MAX);
        let within = self.0.keep_within.map_or(at, |within| within.after(at, zone));
        let ruled = if self.0.keep_all { Timestamp::MAX } else { within };
        let ruled = ruled.min(self.max_age().map_or(Timestamp::MAX, later));
        ruled.max(self.min_age().map_or(at, later))
    }

    pub(crate) fn min_age(&self) -> Option<SignedDuration> {
        self.0.min_age_hours.map(|hours| duration(hours, 3600))
    }

    pub(crate) fn max_age(&self) -> Option<SignedDuration> {
        self.0.max_age_days.map(|days| duration(days, 86_400))
    }
}

impl TryFrom<Rules> for Policy {
    type Error = PolicyError;

    fn try_from(rules: Rules) -> Result<Self, PolicyError> {
        tag::check(&rules.keep_tags)?;
        let mut rules = without_zeros(rules);
        if rules.max_age_days == Some(0) {
            return Err(PolicyError::NoAge);
        }
        if !keeps_something(&rules) {
            // Nothing but an end is a policy as well: what is younger stays.
            rules.keep_all = rules.max_age_days.is_some();
        }
        if !keeps_something(&rules) {
            return Err(PolicyError::KeepsNothing);
        }
        let policy = Self(rules);
        match (policy.min_age(), policy.max_age()) {
            (Some(min), Some(max)) if min >= max => Err(PolicyError::Ages),
            _ => Ok(policy),
        }
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn without_zeros(rules: Rules) -> Rules {
    let some = |number: Option<u64>| number.filter(|n| *n > 0);
    Rules {
        keep_last_n: some(rules.keep_last_n),
        keep_hourly: some(rules.keep_hourly),
        keep_daily: some(rules.keep_daily),
        keep_weekly: some(rules.keep_weekly),
        keep_monthly: some(rules.keep_monthly),
        keep_yearly: some(rules.keep_yearly),
        keep_within: rules.keep_within.filter(|within| !within.is_zero()),
        min_age_hours: some(rules.min_age_hours),
        ..rules
    }
}

fn keeps_something(rules: &Rules) -> bool {
    let calendar =
        [rules.keep_hourly, rules.keep_daily, rules.keep_weekly, rules.keep_monthly, rules.keep_yearly];
    rules.keep_all
        || rules.keep_last_n.is_some()
        || calendar.iter().any(Option::is_some)
        || rules.keep_within.is_some()
        || !rules.keep_tags.is_empty()
}

/// Longer than time goes is as long as time goes.
fn duration(number: u64, unit_seconds: u64) -> SignedDuration {
    let seconds = i64::try_from(number.saturating_mul(unit_seconds)).unwrap_or(i64::MAX);
    SignedDuration::from_secs(seconds)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_default(count: &Count) -> bool {
    *count == Count::default()
}
