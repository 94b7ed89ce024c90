//! Removes a snapshot's bytes, and those of its copies.

use xvault::Store;
use xvault::connectors::{Control, Error, snapshot};
use xvault::core::protocol::{CopyAccess, StoreAccess, TaskResult};
use xvault::core::{SnapshotKey, StoreId};

use super::Tools;
use super::fault::{Fault, in_time};
use super::place::may_be_locked;

/// Does it. What is gone already is fine. A copy whose store lets nobody delete is kept, and named, with those of which the hub knows
/// that they are to be `kept`.
pub(super) async fn run(
    tools: &Tools,
    key: &SnapshotKey,
    (store, copies, kept): (&StoreAccess, &[CopyAccess], &[StoreId]),
    control: &Control,
) -> Result<TaskResult, Fault> {
    let opened = tools.open_store(store)?;
    let deleted = async {
        control.run(snapshot::delete(&*opened, key)).await.map_err(|error| match error {
            error @ Error::Denied { .. } if may_be_locked(store) => locked(&error),
            error => xvault::Error::Store(error).into(),
        })
    };
    in_time(tools.deletion_limit, deleted).await?;
    let mut copies_kept = kept.to_vec();
    for store in kept {
        control.progress().note(&format!("the copy in store {store} stays: its credential may not delete"));
    }
    for copy in copies {
        let store = tools.open_store(&copy.access)?;
        let deleted = delete_copy(&*store, key, copy, control);
        copies_kept.extend(in_time(tools.deletion_limit, deleted).await?);
    }
    Ok(TaskResult::DeleteSnapshot { copies_kept })
}

/// The hub thinks that the lock is over; the store's clock may be behind its.
fn locked(error: &Error) -> Fault {
    let words = xvault::core::error::chain(error);
    Fault::transient(
        "store_locked",
        format!("it is locked still, or the credential may delete no versions: {words}"),
    )
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
        Err(error @ Error::Denied { .. }) if may_be_locked(&copy.access) => Err(locked(&error)),
        Err(Error::Denied { .. }) => {
            let note = format!("the copy in {} stays: its credential may not delete", store.describe());
            control.progress().note(&note);
            Ok(Some(copy.store_id.clone()))
        }
        Err(error) => Err(xvault::Error::SecondStore(error).into()),
    }
}
