//! The `xvault` command as a user runs it: the built program, real servers, real tools.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod commands;
mod copy;
mod crash;
mod databases;
mod exports;
mod forget;
mod hostile;
mod keys;
mod local;
mod s3;
mod servers;
mod trouble;
mod up;
mod world;
