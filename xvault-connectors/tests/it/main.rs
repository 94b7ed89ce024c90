//! Connectors against real systems.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod conforming;
mod db_load;
mod db_mysql;
mod db_postgres;
mod db_support;
mod db_trouble;
mod egress;
mod ftp_faults;
mod ftp_hostile;
mod ftp_pull;
mod ftp_support;
mod ftp_tls;
mod hooks;
mod job;
mod local;
mod s3;
mod s3_hostile;
mod s3_locks;
mod s3_memory;
mod s3_support;
mod s3_trouble;
mod snapshots;
mod ssh_exec;
mod ssh_faults;
mod ssh_hostile;
mod ssh_hostile_push;
mod ssh_login;
mod ssh_pull;
mod ssh_support;
mod stores;
mod unpack;
mod wordpress;
mod wp_config;
