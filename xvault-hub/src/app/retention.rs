//! Which snapshots go by themselves.
//!
//! A source's policy makes a plan of its snapshots ([`judge`]); what the plan says that has not happened yet is put into effect,
//! under the lock of the source ([`settle`]): a deletion is queued for each snapshot that is to go, and one that is queued and
//! not begun is called off when its snapshot is to stay after all. That happens after each backup, and now and then for all
//! sources ([`pass`]).
//!
//! Nothing of a source without a policy goes by itself, nor of one that is disabled or deleted, or whose schedule or tenant is
//! disabled: where no snapshots come, time alone shall take none away.

mod judge;
mod pass;
mod policy;
mod settle;

pub(crate) use judge::plan;
pub(crate) use pass::{Report, SourceResult, run, run_all, run_one};
pub(crate) use policy::{get, parse, replace, set};
pub(crate) use settle::{Settled, after_backup, spare};
