//! Copies a snapshot, as it is, into a second store.

use xvault::connectors::Control;
use xvault::core::SnapshotKey;
use xvault::core::protocol::{StoreAccess, TaskResult};

use super::Tools;
use super::fault::Fault;
use super::place::locked_until;

/// Does it. A copy that is there is done.
pub(super) async fn run(
    tools: &Tools,
    key: &SnapshotKey,
    (from, to): (&StoreAccess, &StoreAccess),
    control: &Control,
) -> Result<TaskResult, Fault> {
    let mut locked_until = locked_until(to);
    let (from, to) = (tools.open_store(from)?, tools.place(to)?);
    let report = xvault::copy(&*from, to.store(), key, control).await?;
    if report.was_there {
        // It has the lock of the run that made it, or none: that one may have been long ago, or have locked it for longer.
        locked_until = control.run(to.lock(key, locked_until)).await.map_err(xvault::Error::SecondStore)?;
    }
    // Told before it is told of, as each snapshot in a bucket is: nobody removes what a hub may count on.
    control.run(to.announce(key)).await.map_err(xvault::Error::SecondStore)?;
    let locator = to.store().locator(&tools.worker_id, &key.prefix());
    Ok(TaskResult::Replicate { locator, bytes: report.bytes, locked_until })
}
