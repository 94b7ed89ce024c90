//! The hub over HTTP, on PostgreSQL and on SQLite.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[macro_use]
mod world;

mod api_keys;
mod auth;
mod bodies;
mod browse;
mod chosen_store;
mod connections;
mod content;
mod copies;
mod credentials;
mod deadlocks;
mod deletions;
mod downloads;
mod embed;
mod events;
mod every_route;
mod fake_worker;
mod fleet;
mod http;
mod jobs;
mod kek;
mod leases;
mod limits;
mod lists;
mod locks;
mod loops;
mod metrics;
mod migrations;
mod named_tenant;
mod operators;
mod paging;
mod passwords;
mod probes;
mod recipients;
mod recovery;
mod redis_queue;
mod restore_databases;
mod restores;
mod retention;
mod roles;
mod routes;
mod scene;
mod schedules;
mod scoped;
mod secrets;
mod sessions;
mod settings;
mod sources;
mod stores;
mod tenancy;
mod users;
mod verify;
mod wake;
