//! Connectors against real systems.
#![expect(clippy::unwrap_used, reason = "tests")]

mod stores;
