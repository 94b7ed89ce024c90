//! Removes a snapshot's bytes.

use xvault::connectors::{Control, snapshot};
use xvault::core::SnapshotKey;
use xvault::core::protocol::TaskResult;

use super::Tools;
use super::fault::Fault;

/// Does it. What is gone already is fine.
pub(super) async fn run(tools: &Tools, key: &SnapshotKey, control: &Control) -> Result<TaskResult, Fault> {
    control.run(snapshot::delete(&tools.store, key)).await.map_err(xvault::Error::Store)?;
    Ok(TaskResult::DeleteSnapshot)
}
