//! Removes a snapshot's bytes.

use xvault::Store;
use xvault::connectors::{Control, snapshot};
use xvault::core::SnapshotKey;
use xvault::core::protocol::TaskResult;

use super::fault::Fault;

/// Does it. What is gone already is fine.
pub(super) async fn run(
    store: &dyn Store,
    key: &SnapshotKey,
    control: &Control,
) -> Result<TaskResult, Fault> {
    control.run(snapshot::delete(store, key)).await.map_err(xvault::Error::Store)?;
    Ok(TaskResult::DeleteSnapshot)
}
