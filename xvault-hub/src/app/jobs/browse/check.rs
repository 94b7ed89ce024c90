//! Whether what a worker says it saw is an answer to what was asked.

use serde_json::Value;
use xvault_core::protocol::{Browse, Browsed};

use super::Payload;
use crate::api::error::{Error, Result};
use crate::db;
use crate::db::jobs::JobRow;

/// The longest answer that is kept, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// What is to be kept in the job's row.
pub(in super::super) fn checked(job: &JobRow, found: &Browsed) -> Result<Value> {
    let Payload { query, .. } = payload(job)?;
    let fits = |count: usize| u32::try_from(count).is_ok_and(|count| count <= query.limit);
    let answers = match (&query.what, found) {
        (Browse::List | Browse::Search { .. }, Browsed::Entries { entries, .. }) => fits(entries.len()),
        (Browse::Diff, Browsed::Changes { changes, .. }) => fits(changes.len()),
        (Browse::List, Browsed::Absent | Browsed::NotADirectory) => true,
        _ => false,
    };
    if !answers {
        return Err(Error::invalid_field("outcome.result.found", "it is no answer to what was asked"));
    }
    let kept = serde_json::to_value(found).map_err(|error| Error::internal(&error))?;
    if kept.to_string().len() > MAX_ANSWER {
        return Err(Error::invalid_field("outcome.result.found", "it is too long"));
    }
    Ok(kept)
}

/// What the job is to find out.
pub(in super::super) fn payload(job: &JobRow) -> db::Result<Payload> {
    serde_json::from_value(job.payload.clone()).map_err(|_| db::Error::Corrupt { column: "payload" })
}
