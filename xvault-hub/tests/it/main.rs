//! The hub over HTTP, on PostgreSQL and on SQLite.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[macro_use]
mod world;

mod api_keys;
mod auth;
mod bodies;
mod kek;
mod limits;
mod operators;
mod passwords;
mod roles;
mod secrets;
mod sessions;
mod settings;
mod tenancy;
mod users;
