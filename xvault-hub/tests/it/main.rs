//! The hub over HTTP, on PostgreSQL and on SQLite.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[macro_use]
mod world;

mod auth;
