//! Verifications: whether stored snapshots are still what was written, because somebody asks or time is up, and what is known of
//! them afterwards.

mod request;
mod schedule;
mod settle;

pub(crate) use request::{Wish, check_again, depth, verify};
pub(crate) use schedule::run_due;
pub(crate) use settle::{checked, settle, tell};

#[cfg(test)]
mod tests;
