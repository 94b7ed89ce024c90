//! Finds what nobody wants: stagings of dead runs, and snapshots of attempts that lost their lease.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use xvault::connectors::{Swept, snapshot};
use xvault::core::SnapshotKey;
use xvault::core::error::chain;
use xvault::core::protocol::{MAX_RECONCILE, ReconcileAnswer, StoredSnapshot};
use xvault::{FsStore, Store};

use crate::hub::{self, Hub};

/// How often.
const EVERY: Duration = Duration::from_secs(3600);
/// Sooner when the hub could not be asked.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// On network file systems, where locks tell nothing: a staging that stood still for so long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Why a round broke off.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("list the store")]
    Store(#[source] xvault::connectors::Error),
    #[error("ask the hub about stored snapshots")]
    Hub(#[source] hub::Error),
}

/// What a round did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    asked: u64,
    removed: u64,
    unknown: u64,
}

/// Does it now and then. May be dropped at any time: what is half removed is no snapshot any more.
pub(crate) async fn run(hub: &Hub, store: &FsStore) {
    loop {
        sweep(store).await;
        let pause = match reconcile(hub, store).await {
            Ok(found) => {
                tell(&found);
                EVERY
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "stored snapshots could not be reconciled with the hub"
                );
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn tell(found: &Found) {
    if found.removed > 0 {
        tracing::info!(removed = found.removed, "removed snapshots of attempts that did not count");
    }
    if found.unknown > 0 {
        tracing::warn!(
            unknown = found.unknown,
            "snapshots that the hub knows nothing about lie in the store; they stay"
        );
    }
}

/// Removes what dead runs left staged. What can't be removed now is tried again next time.
async fn sweep(store: &FsStore) {
    match store.sweep(DEAD_AFTER).await {
        Ok(Swept { removed: 0, failed: 0, .. }) => {}
        Ok(Swept { removed, failed, .. }) => {
            tracing::info!(removed, failed, "swept up after backups that were interrupted");
        }
        Err(error) => {
            tracing::warn!(error = chain(&error), "could not sweep up after backups that were interrupted");
        }
    }
}

/// Asks the hub about every snapshot and removes those that are superseded, and no others.
async fn reconcile(hub: &Hub, store: &FsStore) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut objects = store.list("tenants").await.map_err(Error::Store)?;
    let mut batch = BTreeSet::new();
    while let Some(object) = objects.try_next().await.map_err(Error::Store)? {
        // Objects of one snapshot come together, so one batch of keys is all that is held.
        batch.extend(snapshot::snapshot_of(&object).map(|(key, _)| key));
        if batch.len() >= MAX_RECONCILE {
            ask(hub, store, std::mem::take(&mut batch), &mut found).await?;
        }
    }
    ask(hub, store, batch, &mut found).await?;
    Ok(found)
}

async fn ask(
    hub: &Hub,
    store: &FsStore,
    keys: BTreeSet<SnapshotKey>,
    found: &mut Found,
) -> Result<(), Error> {
    let mut snapshots = Vec::new();
    for key in keys {
        // Without a sound meta file nobody can say whose it is: it stays.
        if let Ok(meta) = snapshot::meta(store, &key).await {
            snapshots.push(StoredSnapshot { key, job_id: meta.job_id });
        }
    }
    if snapshots.is_empty() {
        return Ok(());
    }
    let asked = snapshots.clone();
    found.asked += asked.len() as u64;
    let answer = hub.reconcile(snapshots).await.map_err(Error::Hub)?;
    found.unknown += answer.unknown.len() as u64;
    for key in unwanted(&asked, answer) {
        match snapshot::delete(store, &key).await {
            Ok(()) => found.removed += 1,
            Err(error) => {
                tracing::warn!(snapshot_id = %key.snapshot_id, error = chain(&error), "could not remove a snapshot");
            }
        }
    }
    Ok(())
}

/// What may go: superseded, asked about, and not called unknown in the same breath.
fn unwanted(asked: &[StoredSnapshot], answer: ReconcileAnswer) -> Vec<SnapshotKey> {
    let ReconcileAnswer { superseded, unknown } = answer;
    let was_asked = |key: &SnapshotKey| asked.iter().any(|snapshot| snapshot.key == *key);
    superseded.into_iter().filter(|key| was_asked(key) && !unknown.contains(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xvault::core::{JobId, SnapshotId, SourceId, TenantId};

    fn key(number: usize) -> SnapshotKey {
        SnapshotKey {
            tenant_id: TenantId::local(),
            source_id: SourceId::derive("s"),
            snapshot_id: format!("s{number}").parse::<SnapshotId>().unwrap(),
        }
    }

    proptest! {
        #[test]
        fn only_what_was_asked_about_and_is_superseded_goes(
            asked in proptest::collection::vec(0usize..12, 0..12),
            superseded in proptest::collection::vec(0usize..12, 0..12),
            unknown in proptest::collection::vec(0usize..12, 0..12),
        ) {
            let snapshots: Vec<_> =
                asked.iter().map(|n| StoredSnapshot { key: key(*n), job_id: JobId::generate() }).collect();
            let keys = |numbers: &[usize]| numbers.iter().map(|n| key(*n)).collect::<Vec<_>>();
            let answer = ReconcileAnswer { superseded: keys(&superseded), unknown: keys(&unknown) };
            for gone in unwanted(&snapshots, answer) {
                prop_assert!(keys(&asked).contains(&gone));
                prop_assert!(keys(&superseded).contains(&gone));
                prop_assert!(!keys(&unknown).contains(&gone));
            }
        }
    }
}
