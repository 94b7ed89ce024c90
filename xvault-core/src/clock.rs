//! The one place that asks the machine for the time.
//!
//! Everything else takes time as an argument, so that schedules, retention and
//! manifests are testable without waiting.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// Now, by the machine's clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the edge the ban points to")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The text of a new `UUIDv7`, for rows that need no typed id.
#[must_use]
pub fn new_id() -> String {
    new_uuid().hyphenated().to_string()
}

/// When [`new_id`] made this text, to the millisecond; its hyphens may have been taken out. None: it is no such text.
#[must_use]
pub fn made_at(id: &str) -> Option<Timestamp> {
    let uuid = Uuid::try_parse(id).ok()?;
    if id != uuid.hyphenated().to_string() && id != uuid.simple().to_string() {
        return None;
    }
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    Timestamp::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).ok()
}

#[expect(clippy::disallowed_methods, reason = "this is the edge the ban points to")]
pub(crate) fn new_uuid() -> Uuid {
    Uuid::now_v7()
}
