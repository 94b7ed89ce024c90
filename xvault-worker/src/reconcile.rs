//! Finds what nobody wants: stagings of dead runs, and snapshots of attempts that lost their lease.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use xvault::connectors::{Swept, snapshot};
use xvault::core::error::chain;
use xvault::core::protocol::{MAX_RECONCILE, ReconcileAnswer, StoredSnapshot};
use xvault::core::{SnapshotId, SnapshotKey};
use xvault::{FsStore, Store};

use crate::hub::{self, Hub};

/// How often.
const EVERY: Duration = Duration::from_secs(3600);
/// Sooner when the hub could not be asked.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// How many ids stand in a warning.
const NAMED: usize = 5;
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
    removed: u64,
    unknown: u64,
    /// The first of the unknown ones.
    named: Vec<SnapshotId>,
}

impl Found {
    /// The hub does not have it on record, and it stays.
    fn stays(&mut self, key: SnapshotKey) {
        self.unknown += 1;
        if self.named.len() < NAMED {
            self.named.push(key.snapshot_id);
        }
    }
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
        let ids: Vec<_> = found.named.iter().map(SnapshotId::as_str).collect();
        tracing::warn!(
            unknown = found.unknown,
            snapshot_ids = ids.join(" "),
            "snapshots that the hub does not have on record lie in the store; they stay"
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

/// Asks the hub about every snapshot. Removes those that the hub calls superseded and was never told of, and no others: its
/// database may have been put back to what it was before it took one.
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
        match snapshot::meta(store, &key).await {
            Ok(meta) => snapshots.push(StoredSnapshot { key, job_id: meta.job_id }),
            // Nobody can say whose it is.
            Err(_) => found.stays(key),
        }
    }
    if snapshots.is_empty() {
        return Ok(());
    }
    let asked = snapshots.clone();
    let answer = hub.reconcile(snapshots).await.map_err(Error::Hub)?;
    answer.unknown.iter().for_each(|key| found.stays(key.clone()));
    for key in unwanted(&asked, answer) {
        match remove(store, &key).await {
            Ok(true) => found.removed += 1,
            Ok(false) => found.stays(key),
            Err(error) => {
                tracing::warn!(snapshot_id = %key.snapshot_id, error = chain(&error), "could not remove a snapshot");
            }
        }
    }
    Ok(())
}

/// Removes a superseded snapshot, unless the hub was told of it.
async fn remove(store: &dyn Store, key: &SnapshotKey) -> Result<bool, xvault::connectors::Error> {
    let unreported = snapshot::is_unreported(store, key).await?;
    if unreported {
        snapshot::delete(store, key).await?;
    }
    Ok(unreported)
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
    use xvault::core::{JobId, SourceId, TenantId};

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
