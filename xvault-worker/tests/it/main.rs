//! The worker against a scripted hub, real Redis and real SSH servers.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod buckets;
mod copies;
mod download_limits;
mod downloads;
mod endless;
mod fake_hub;
mod jobs;
mod locks;
mod program;
mod queue;
mod redis_server;
mod scratch;
mod support;
mod trouble;
mod verify;
