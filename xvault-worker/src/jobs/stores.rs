//! Jobs about a bucket itself: finds out what it really does, and removes what nobody wants.

use std::collections::BTreeSet;
use std::time::Duration;

use xvault::Store;
use xvault::connectors::{Control, Error, S3Options, S3Store, snapshot};
use xvault::core::protocol::{StoreReport, SweepReport, SweepStoreTask, TaskResult, TestStoreTask};
use xvault::core::snapshot::{MANIFEST_NAME, REPORTED_NAME, WITHDRAWN_NAME};
use xvault::core::{Phase, SnapshotKey};

use super::Tools;
use super::fault::{Fault, in_time};
use super::place::{Place, beside};

/// How long a test may take: somebody waits for it.
const TEST: Duration = Duration::from_secs(60);
/// How long a server that does not answer is tried in a test.
const RETRY: Duration = Duration::from_secs(5);

/// Tries everything that stores do.
pub(super) async fn test(
    tools: &Tools,
    task: &TestStoreTask,
    control: &Control,
) -> Result<TaskResult, Fault> {
    control.progress().phase(Phase::Connect, None);
    let options = S3Options::default().retry_for(RETRY).stall(RETRY * 2);
    let store = bucket(tools.place_with(&task.store, options)?)?;
    let examined = tokio::time::timeout(TEST, control.run(store.examine(&task.prefix))).await;
    let examined = examined
        .map_err(|_| Fault::transient("store_unreachable", format!("the test took longer than {TEST:?}")))?;
    let observations = examined.map_err(xvault::Error::Store)?;
    Ok(TaskResult::TestStore { report: StoreReport { observations } })
}

/// Removes what attempts left that are over, and what was deleted, and then what has no manifest. What is left when the time is up is
/// for the next sweep.
pub(super) async fn sweep(
    tools: &Tools,
    task: &SweepStoreTask,
    control: &Control,
) -> Result<TaskResult, Fault> {
    let store = bucket(tools.place(&task.store)?)?;
    in_time(tools.sweep_limit, swept(&store, task, control)).await
}

async fn swept(store: &S3Store, task: &SweepStoreTask, control: &Control) -> Result<TaskResult, Fault> {
    let mut report = SweepReport::default();
    for key in &task.attempts {
        match control.run(attempt(store, key)).await {
            Ok(true) => report.removed.push(key.snapshot_id.clone()),
            Ok(false) => report.kept.push(key.snapshot_id.clone()),
            Err(error @ Error::Cancelled) => return Err(xvault::Error::Store(error).into()),
            Err(_) => report.failed += 1,
        }
    }
    for key in &task.deleted {
        match control.run(remove(store, key)).await {
            Ok(()) => report.removed.push(key.snapshot_id.clone()),
            Err(error @ Error::Cancelled) => return Err(xvault::Error::Store(error).into()),
            Err(_) => report.failed += 1,
        }
    }
    let older_than = Duration::from_millis(task.older_than_ms);
    let running = task.running.iter().cloned().collect();
    let swept = control.run(store.sweep_below(&task.prefix, older_than, &running)).await;
    let swept = swept.map_err(xvault::Error::Store)?;
    report.remains = swept.removed;
    report.in_use = swept.in_use;
    report.failed += swept.failed;
    Ok(TaskResult::SweepStore { report })
}

fn bucket(place: Place) -> Result<S3Store, Fault> {
    match place {
        Place::Bucket(store) => Ok(*store),
        Place::Disk(_) => Err(Fault::permanent("unknown_store", "the job is for stores in buckets alone")),
    }
}

/// Removes a snapshot that is not on record, with its uploads. False when it stays: a hub may have been told of it, and nobody has
/// taken that back.
async fn attempt(store: &S3Store, key: &SnapshotKey) -> Result<bool, Error> {
    let is_there = async |name| Ok::<_, Error>(store.size(&beside(key, name)).await?.is_some());
    if is_there(MANIFEST_NAME).await? && is_there(REPORTED_NAME).await? && !is_there(WITHDRAWN_NAME).await? {
        return Ok(false);
    }
    remove(store, key).await?;
    Ok(true)
}

/// Removes a snapshot with its uploads.
async fn remove(store: &S3Store, key: &SnapshotKey) -> Result<(), Error> {
    snapshot::delete(store, key).await?;
    store.sweep_below(&key.prefix(), Duration::ZERO, &BTreeSet::new()).await?;
    Ok(())
}
