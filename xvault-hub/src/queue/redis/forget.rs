//! What finished messages and ended consumers leave in Redis, and how it is removed.
//!
//! apalis-redis's own `vacuum` and `vacuum_before` are never to be called: they take a message whose handler failed for
//! finished, although it waits in `{queue}:scheduled` to be handled again. They remove its bytes and leave its id, and every
//! consumer that fetches an id without bytes ends. Finished for good is only what stands in `{queue}:done` or `{queue}:dead`.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Script, ScriptInvocation};
use xvault_core::protocol::QueueName;

use super::RedisQueue;
use crate::queue::QueueError;

/// Finished messages that are younger are left to who looks at them.
const FINISHED: Duration = Duration::from_secs(600);
/// A consumer that was not heard of for so long has ended. Others take over what it held after five minutes.
const SILENT: Duration = Duration::from_secs(24 * 3600);
/// So many names are handled in one call: Redis does nothing else meanwhile.
const BATCH: usize = 500;

static FORGET_MESSAGES: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget_messages.lua")));
static FORGET_CONSUMERS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("forget_consumers.lua")));

impl RedisQueue {
    /// Forgets the messages of `queue` that are finished for good.
    pub(super) async fn forget_messages(&self, queue: &QueueName) -> Result<(), QueueError> {
        for set in ["done", "dead"].map(|end| format!("{queue}:{end}")) {
            let mut cursor = Some(0);
            while let Some(from) = cursor {
                let mut scan = redis::cmd("SSCAN");
                scan.arg(&set).arg(from).arg("COUNT").arg(BATCH);
                let ids = self.scanned(queue, &scan, &mut cursor).await?;
                let mut forget = FORGET_MESSAGES.key(&set);
                forget.key(format!("{queue}:data")).key(format!("{queue}:scheduled"));
                forget.arg(format!("{queue}:meta")).arg(FINISHED.as_secs()).arg(ids);
                self.run(queue, &forget).await?;
            }
        }
        Ok(())
    }

    /// Forgets the consumers of `queue` that ended: each start of a worker makes new ones.
    pub(super) async fn forget_consumers(&self, queue: &QueueName) -> Result<(), QueueError> {
        let prefix = format!("{queue}:workers:metadata:");
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let mut scan = redis::cmd("SCAN");
            scan.arg(from).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(BATCH);
            let keys = self.scanned(queue, &scan, &mut cursor).await?;
            let names: Vec<_> = keys.iter().filter_map(|key| key.strip_prefix(&prefix)).collect();
            let mut forget = FORGET_CONSUMERS.key(format!("{queue}:workers"));
            forget.arg(&prefix).arg(format!("{queue}:inflight:")).arg(SILENT.as_secs()).arg(names);
            self.run(queue, &forget).await?;
        }
        Ok(())
    }

    /// What one step of a scan finds, and where the next one begins: nowhere when all was seen.
    async fn scanned(
        &self,
        queue: &QueueName,
        scan: &Cmd,
        cursor: &mut Option<u64>,
    ) -> Result<Vec<String>, QueueError> {
        let (next, found) = self.ask::<(u64, _)>(queue, scan).await?;
        *cursor = (next != 0).then_some(next);
        Ok(found)
    }

    async fn ask<T: FromRedisValue + Send>(&self, queue: &QueueName, cmd: &Cmd) -> Result<T, QueueError> {
        let ask = || {
            let (mut connection, cmd) = (self.connection.clone(), cmd.clone());
            async move { cmd.query_async(&mut connection).await }
        };
        self.call(queue, ask).await
    }

    async fn run(&self, queue: &QueueName, script: &ScriptInvocation<'_>) -> Result<u64, QueueError> {
        let run = || {
            let mut connection = self.connection.clone();
            async move { script.invoke_async(&mut connection).await }
        };
        self.call(queue, run).await
    }
}
