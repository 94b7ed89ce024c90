//! Removes from a queue in Redis what can't be delivered: ids whose message or metadata is gone.
//!
//! A consumer of apalis-redis fetches ids, and ends when one of them has no message. The id stays with the dead consumer until another
//! takes it over and ends in turn. What was meant the hub's reconciler knows.

use std::sync::LazyLock;

use apalis_redis::{Config, ConnectionManager};
use redis::{RedisError, Script};

static SWEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("sweep.lua")));

/// Removes them from everything that a consumer fetches from, at once, and gives how many there were. Redis does nothing
/// else for a few milliseconds: the hub keeps a queue below some thousand messages.
pub(super) async fn sweep(connection: &mut ConnectionManager, config: &Config) -> Result<u64, RedisError> {
    let mut sweep = SWEEP.key(config.job_data_hash());
    sweep.key(config.scheduled_jobs_set()).key(config.active_jobs_list()).key(config.workers_set());
    sweep.arg(config.job_meta_hash()).arg(config.inflight_jobs_set());
    sweep.invoke_async(connection).await
}
