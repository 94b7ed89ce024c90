//! Which snapshots to keep and which to delete, with every reason.
//!
//! A pure function: policy, snapshots, the time and a time zone go in, a [`Plan`] comes out. It reads no clock, touches
//! no disk and deletes nothing. In reading order:
//!
//! - [`Policy`]: rules that make sense, from JSON ([`Policy::parse`]) or from [`Rules`]; else a [`PolicyError`] that says
//!   what to write instead;
//! - [`Snapshot`]: what is known of a backup;
//! - [`evaluate`]: the decision; [`Plan`], [`Decision`] and [`Reason`]: what it says.
//!
//! ```
//! use jiff::tz::TimeZone;
//! use serde_json::json;
//! use xvault_retention::{Policy, Snapshot, evaluate};
//!
//! let policy = Policy::parse(&json!({
//!     "keep_last_n": 2,
//!     "keep_daily": 7,
//!     "keep_monthly": 6,
//!     "min_age_hours": 12,
//!     "max_age_days": 90,
//! }))?;
//!
//! let snapshot = |id: &str, at: &str| Ok::<_, Box<dyn std::error::Error>>(Snapshot::new(id.parse()?, at.parse()?));
//! let mut snapshots = vec![
//!     snapshot("tuesday-noon", "2026-11-24T12:00:00Z")?,
//!     snapshot("tuesday-morning", "2026-11-24T09:00:00Z")?,
//!     snapshot("tuesday-night", "2026-11-24T00:30:00Z")?,
//!     snapshot("monday", "2026-11-23T09:00:00Z")?,
//!     snapshot("october-31", "2026-10-31T09:00:00Z")?,
//!     snapshot("october-30", "2026-10-30T09:00:00Z")?,
//!     snapshot("july", "2026-07-31T09:00:00Z")?,
//!     snapshot("new-year", "2026-01-01T00:00:00Z")?,
//! ];
//! snapshots[7].hold = Some("audit".to_owned());
//!
//! let plan = evaluate(&policy, &snapshots, "2026-11-24T13:00:00Z".parse()?, &TimeZone::UTC);
//!
//! let lines: Vec<String> = plan
//!     .decisions
//!     .iter()
//!     .map(|decision| {
//!         let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
//!         let action = if decision.keep { "keep" } else { "delete" };
//!         format!("{} {action}: {}", decision.id, reasons.join("; "))
//!     })
//!     .collect();
//! assert_eq!(
//!     lines,
//!     [
//!         "tuesday-noon keep: the last good snapshot; younger than 12 h; 1st of 2 last; \
//!          newest of day 2026-11-24; newest of month 2026-11",
//!         "tuesday-morning keep: younger than 12 h; 2nd of 2 last",
//!         "tuesday-night delete: no rule keeps it",
//!         "monday keep: newest of day 2026-11-23",
//!         "october-31 keep: newest of month 2026-10",
//!         "october-30 delete: no rule keeps it",
//!         "july delete: older than 90 days",
//!         "new-year keep: on hold: audit",
//!     ],
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - **Never everything.** A policy that keeps nothing is refused. The last good snapshot stays, unless
//!   [`Rules::may_delete_last`] says otherwise: the newest whole one, or the newest partial one where none is whole.
//! - **Safeguards come first.** A snapshot that is on hold, dated in the future, the last good one, not yet replaced by a
//!   verified one ([`Rules::require_verified`]) or younger than [`Rules::min_age_hours`] stays. Then
//!   [`Rules::max_age_days`] beats all keep rules. Then a snapshot stays when any keep rule keeps it.
//! - **Partial never displaces whole.** Where a rule counts newer snapshots, whole ones count only whole ones. Failed ones,
//!   and those from the future, count for nothing.
//! - **Explained.** A decision names all of its reasons, and the same question always has the same answer: the order of
//!   the snapshots does not matter, and what a plan keeps, the next plan of that instant keeps as well.
//! - **Wider keeps more.** Raising a number, or adding a rule, never deletes what was kept before.
//!
//! `docs/retention.md` explains each rule, and where they differ from restic's.

mod calendar;
mod error;
mod evaluate;
mod plan;
mod policy;
mod reason;
mod snapshot;
mod within;

pub use calendar::{Bucket, Period};
pub use error::PolicyError;
pub use evaluate::evaluate;
pub use plan::{Decision, Plan, Summary};
pub use policy::{Count, Policy, Rules};
pub use reason::Reason;
pub use snapshot::{Snapshot, Status};
pub use within::{InvalidWithin, Within};

/// Times and time zones of the calls here.
pub use jiff;
