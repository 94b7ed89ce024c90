//! What a store locks snapshots with, and for how long.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use xvault_core::{LockMode, ObjectLock};
use xvault_retention::Policy;

/// The longest lock, in days: a hundred years, as in Amazon's service.
pub(crate) const MAX_DAYS: u32 = 36_500;

/// What snapshots are locked with that are written into a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreLock {
    /// Who may take a lock off before its time.
    pub(crate) mode: LockMode,
    /// For how long a snapshot is locked.
    pub(crate) span: LockSpan,
}

/// For how long a snapshot is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum LockSpan {
    /// So many days of 24 hours from when it is written.
    Days {
        #[schema(minimum = 1, maximum = 36500)]
        days: u32,
    },
    /// For as long as the retention policy of its source promises to keep it, whatever other snapshots come: what `keep_within`,
    /// `min_age_hours`, `keep_all` and `max_age_days` alone say of it. Without a policy, nothing goes by itself: that is for ever.
    Policy {
        /// At least so many days of 24 hours from when it is written, also where the policy promises less: rules that count
        /// snapshots or days promise nothing of a single one.
        #[serde(default = "LockSpan::a_day")]
        #[schema(minimum = 1, maximum = 36500, default = 1)]
        at_least_days: u32,
        /// And at most so many, also where it promises more.
        #[serde(default = "LockSpan::a_year")]
        #[schema(minimum = 1, maximum = 36500, default = 365)]
        at_most_days: u32,
    },
}

impl LockSpan {
    fn a_day() -> u32 {
        1
    }

    fn a_year() -> u32 {
        365
    }

    /// The field at fault.
    pub(crate) fn invalid_field(self) -> Option<(&'static str, &'static str)> {
        let possible = |days: u32| (1..=MAX_DAYS).contains(&days);
        match self {
            Self::Days { days } if !possible(days) => Some(("days", "1 to 36500 are possible")),
            Self::Policy { at_least_days, .. } if !possible(at_least_days) => {
                Some(("at_least_days", "1 to 36500 are possible"))
            }
            Self::Policy { at_most_days, .. } if !possible(at_most_days) => {
                Some(("at_most_days", "1 to 36500 are possible"))
            }
            Self::Policy { at_least_days, at_most_days } if at_least_days > at_most_days => {
                Some(("at_most_days", "it must not be less than `at_least_days`"))
            }
            _ => None,
        }
    }

    fn end(self, (at, now): (Timestamp, Timestamp), policy: Option<&Policy>, zone: &TimeZone) -> Timestamp {
        let after = |days: u32| now.saturating_add(SignedDuration::from_hours(i64::from(days) * 24));
        let after = |days: u32| after(days).unwrap_or(Timestamp::MAX);
        match self {
            Self::Days { days } => after(days),
            Self::Policy { at_least_days, at_most_days } => {
                let promised = policy.map_or(Timestamp::MAX, |policy| policy.keeps_until(at, zone));
                promised.clamp(after(at_least_days), after(at_most_days))
            }
        }
    }
}

impl StoreLock {
    /// The lock of a snapshot whose backup began at `at` and that is written `now`, of a source with this policy.
    pub(crate) fn of(
        &self,
        times: (Timestamp, Timestamp),
        policy: Option<&Policy>,
        zone: &TimeZone,
    ) -> ObjectLock {
        let end = self.span.end(times, policy, zone);
        // Up to the next whole second.
        let until = Timestamp::from_second(end.as_second().saturating_add(1)).unwrap_or(end);
        ObjectLock { mode: self.mode, until }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2030-01-10T00:00:00.5Z";

    fn until(span: serde_json::Value, at: &str, policy: Option<serde_json::Value>) -> String {
        let lock = StoreLock { mode: LockMode::Compliance, span: serde_json::from_value(span).unwrap() };
        let policy = policy.map(|json| Policy::parse(&json).unwrap());
        let times = (at.parse().unwrap(), NOW.parse().unwrap());
        lock.of(times, policy.as_ref(), &TimeZone::UTC).until.to_string()
    }

    #[test]
    fn a_lock_is_as_long_as_the_policy_promises_within_its_bounds() {
        let by_policy = json!({ "kind": "policy", "at_least_days": 2, "at_most_days": 20 });
        for (policy, end) in [
            (Some(json!({ "keep_within": "7d", "keep_daily": 30 })), "2030-01-17T00:00:01Z"),
            (Some(json!({ "keep_last_n": 30, "keep_daily": 30 })), "2030-01-12T00:00:01Z"),
            (Some(json!({ "keep_within": "1d" })), "2030-01-12T00:00:01Z"),
            (Some(json!({ "keep_within": "1y" })), "2030-01-30T00:00:01Z"),
            (None, "2030-01-30T00:00:01Z"),
        ] {
            assert_eq!(until(by_policy.clone(), NOW, policy.clone()), end, "{policy:?}");
        }
        let days = json!({ "kind": "days", "days": 3 });
        assert_eq!(until(days, NOW, Some(json!({ "keep_within": "7d" }))), "2030-01-13T00:00:01Z");
    }

    #[test]
    fn what_is_promised_counts_from_the_backup_and_not_from_its_copy() {
        let by_policy = json!({ "kind": "policy" });
        let policy = Some(json!({ "keep_within": "7d" }));
        assert_eq!(until(by_policy.clone(), "2030-01-06T00:00:00Z", policy.clone()), "2030-01-13T00:00:01Z");
        assert_eq!(until(by_policy, "2029-01-01T00:00:00Z", policy), "2030-01-11T00:00:01Z");
    }
}
