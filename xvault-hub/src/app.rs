//! Use cases: what a request means, in terms of tables, keys and the queue.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod credentials;
pub(crate) mod sources;
pub(crate) mod tenants;
