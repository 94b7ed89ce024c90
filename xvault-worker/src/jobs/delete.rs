//! Removes a snapshot's bytes, and those of its copies.

use xvault::Store;
use xvault::connectors::{Control, Error, snapshot};
use xvault::core::protocol::{CopyAccess, StoreAccess, TaskResult};
use xvault::core::{SnapshotKey, StoreId};

use super::Tools;
use super::fault::Fault;

/// Does it. What is gone already is fine. A copy whose store lets nobody delete is kept, and named.
pub(super) async fn run(
    tools: &Tools,
    key: &SnapshotKey,
    (store, copies): (&StoreAccess, &[CopyAccess]),
    control: &Control,
) -> Result<TaskResult, Fault> {
    let store = tools.open_store(store)?;
    control.run(snapshot::delete(&*store, key)).await.map_err(xvault::Error::Store)?;
    let mut copies_kept = Vec::new();
    for copy in copies {
        copies_kept.extend(delete_copy(&*tools.open_store(&copy.access)?, key, copy, control).await?);
    }
    Ok(TaskResult::DeleteSnapshot { copies_kept })
}

/// Gives the store's id when the copy stays.
async fn delete_copy(
    store: &dyn Store,
    key: &SnapshotKey,
    copy: &CopyAccess,
    control: &Control,
) -> Result<Option<StoreId>, Fault> {
    match control.run(snapshot::delete(store, key)).await {
        Ok(()) => Ok(None),
        Err(Error::Denied { .. }) => {
            let note = format!("the copy in {} stays: its credential may not delete", store.describe());
            control.progress().note(&note);
            Ok(Some(copy.store_id.clone()))
        }
        Err(error) => Err(xvault::Error::SecondStore(error).into()),
    }
}
