//! Use cases: what a request means, in terms of tables, keys and the queue.

pub(crate) mod access_token;
pub(crate) mod again;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod auth;
#[cfg(test)]
pub(crate) mod bench;
pub(crate) mod credentials;
pub(crate) mod email;
pub(crate) mod fleet;
pub(crate) mod holds;
pub(crate) mod jobs;
pub(crate) mod kek;
pub(crate) mod login_failures;
pub(crate) mod login_limits;
pub(crate) mod observe;
pub(crate) mod operators;
pub(crate) mod overdue;
pub(crate) mod passwords;
pub(crate) mod registration;
pub(crate) mod rekey;
pub(crate) mod retention;
pub(crate) mod scheduler;
pub(crate) mod schedules;
pub(crate) mod sessions;
pub(crate) mod snapshots;
pub(crate) mod sources;
pub(crate) mod streams;
pub(crate) mod tenant_settings;
pub(crate) mod tenants;
pub(crate) mod tokens;
pub(crate) mod users;
pub(crate) mod verify;
pub(crate) mod wake;
pub(crate) mod worker_tokens;
pub(crate) mod workers;
