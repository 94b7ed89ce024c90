//! The service as its users run it: hubs and workers as processes of their own, on real PostgreSQL, Redis and SSH servers.
//!
//! - `seed_flow`: from nothing to a snapshot that age, zstd and tar open, with curl;
//! - `redis_trouble`, `worker_trouble`, `hub_trouble`, `postgres_trouble`: what goes wrong in a fleet, and how it heals unaided;
//! - `seed_retention`: schedules and retention, with curl;
//! - `egress`: a worker that nobody told anything connects to nothing on its own machine for a tenant;
//! - `browse`: what lies in snapshots, and what changed, without restoring;
//! - `seed_restore`: restores and downloads, with curl;
//! - `ftp`: files of an FTP server backed up, and restored by hand and by xvault;
//! - `databases`: PostgreSQL and MySQL backed up directly and through SSH, and restored with their own tools, and by jobs;
//! - `wordpress`: a site backed up, and restored by hand and by xvault, until its front page answers;
//! - `cut`: lines that break in mid-dump, on every way to a database, a site or files;
//! - `database_trouble`: databases whose backups are called off;
//! - `database_put_back`: an older copy of the database costs no snapshot that was on record since;
//! - `retention_story`: a year of backups, and what is left of it;
//! - `proof`: a byte rots on a disk; it is found, told, and nothing relies on it;
//! - `restores`: from a bucket without the worker that made the snapshot, and back to a server although a worker dies;
//! - `links`: links that give nothing, and what whoever opens them is told;
//! - `store_trouble`: a bucket that is down, refuses or loses things while a backup goes into it;
//! - `disaster`: the hub's database is lost, with the commands that docs/disaster.md prints;
//! - `copies`: second stores, and what they are for: hub and worker lost at once;
//! - `second_place`: a copy looked into, downloaded and restored, by choice or because its snapshot's worker is gone;
//! - `secrets`: nothing secret is found anywhere after a full run.
//!
//! A job is held *in mid-backup* by a proxy before its source that delivers no more until it is told to, so nothing
//! here depends on how fast the machine is.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests: a panic is a failed test, and says why"
)]

mod api;
mod browse;
mod copies;
mod curl;
mod cut;
mod database;
mod database_put_back;
mod database_trouble;
mod databases;
mod disaster;
mod documented;
mod egress;
mod fleet;
mod ftp;
mod hub_trouble;
mod links;
mod locks;
mod postgres_trouble;
mod process;
mod proof;
mod redis_trouble;
mod restores;
mod retention_story;
mod second_place;
mod secrets;
mod seed_flow;
mod seed_restore;
mod seed_retention;
mod site;
mod store_trouble;
mod tls;
mod up;
mod wait;
mod wordpress;
mod worker_trouble;
