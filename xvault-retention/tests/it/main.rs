//! Each rule by hand, all of them against a naive reading of the documentation, and against the real restic.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod calendar;
mod guards;
mod oracle;
mod policy;
mod properties;
mod restic;
mod rules;
mod support;
