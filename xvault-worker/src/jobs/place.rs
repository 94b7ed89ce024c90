//! Where a job's snapshot lies, and what is written beside it so that nobody removes what a hub may count on.
//!
//! On the worker's disk a snapshot comes with a mark, which goes before the hub is told of it. Whoever may only put objects
//! into a bucket can't take anything away there: so there it is the other way round, and the mark comes.

use std::sync::Arc;

use jiff::Timestamp;
use xvault::connectors::{Error, Network, S3Options, S3Store, snapshot};
use xvault::core::SnapshotKey;
use xvault::core::protocol::StoreAccess;
use xvault::core::snapshot::{
    ARTIFACT_NAME, INDEX_NAME, MANIFEST_NAME, META_NAME, REPORTED_NAME, WITHDRAWN_NAME,
};
use xvault::{FsStore, Store};

use super::Tools;
use super::fault::Fault;

/// What stands in the marks, for people.
const REPORTED: &str = "A hub may have been told of this snapshot.\n";
const WITHDRAWN: &str = "The hub has said that it does not want this snapshot.\n";

/// A store that a job reads or writes.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// The worker's own disk.
    Disk(FsStore),
    /// A bucket.
    Bucket(Box<S3Store>),
}

impl Tools {
    /// The place that a task names.
    pub(crate) fn place(&self, access: &StoreAccess) -> Result<Place, Fault> {
        self.place_with(access, S3Options::default().scratch_dir(&self.upload_dir))
    }

    /// As [`Tools::place`], with its own patience.
    pub(super) fn place_with(&self, access: &StoreAccess, options: S3Options) -> Result<Place, Fault> {
        match access {
            StoreAccess::LocalFs => Ok(Place::Disk(self.store.clone())),
            StoreAccess::S3 { settings, credential, read_credential, lock, all_versions, anywhere } => {
                let key = self.doors.bucket_key(credential)?;
                let network = if *anywhere { Network::default() } else { self.doors.network.clone() };
                let options = options.network(network);
                let mut store = S3Store::new(settings, &key, options).map_err(unopened)?;
                if let Some(sealed) = read_credential {
                    store = store.reading_with(&self.doors.bucket_key(sealed)?).map_err(unopened)?;
                }
                if let Some(lock) = lock {
                    store = store.locking(*lock);
                }
                if *all_versions {
                    store = store.deleting_all_versions();
                }
                Ok(Place::Bucket(Box::new(store)))
            }
            _ => Err(Fault::permanent("unknown_store", "this worker is too old for the store")),
        }
    }

    /// The store that a task names.
    pub(crate) fn open_store(&self, access: &StoreAccess) -> Result<Arc<dyn Store>, Fault> {
        Ok(match self.place(access)? {
            Place::Disk(store) => Arc::new(store),
            Place::Bucket(store) => Arc::new(*store),
        })
    }
}

fn unopened(error: Error) -> Fault {
    xvault::Error::Store(error).into()
}

impl Place {
    pub(crate) fn is_disk(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    pub(crate) fn store(&self) -> &dyn Store {
        match self {
            Self::Disk(store) => store,
            Self::Bucket(store) => &**store,
        }
    }

    /// The hub is about to be told of the snapshot: from now on nobody removes it for being unknown. Doing it twice is fine.
    pub(crate) async fn announce(&self, key: &SnapshotKey) -> Result<(), Error> {
        match self {
            Self::Disk(store) => snapshot::unmark(store, key).await,
            Self::Bucket(store) => store.put(&beside(key, REPORTED_NAME), REPORTED.into()).await,
        }
    }

    /// Locks a snapshot that is there as one that was just written; gives until when all of it is locked. A lock that ends later stays:
    /// nobody can shorten it.
    pub(super) async fn lock(
        &self,
        key: &SnapshotKey,
        until: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, Error> {
        let (Self::Bucket(store), Some(until)) = (self, until) else { return Ok(until) };
        let mut longest = until;
        for name in [ARTIFACT_NAME, INDEX_NAME, META_NAME, MANIFEST_NAME] {
            longest = longest.max(lock_one(store, &beside(key, name), until).await?);
        }
        Ok(Some(longest))
    }

    /// Nobody wants the snapshot: it goes. Where this worker may not delete, it is marked for the hub's sweep.
    pub(crate) async fn discard(&self, key: &SnapshotKey) -> Result<(), Error> {
        let deleted = snapshot::delete(self.store(), key).await;
        match (self, deleted) {
            (Self::Bucket(store), Err(_)) => store.put(&beside(key, WITHDRAWN_NAME), WITHDRAWN.into()).await,
            (_, deleted) => deleted,
        }
    }
}

/// Until when the object is locked.
async fn lock_one(store: &S3Store, object: &str, until: Timestamp) -> Result<Timestamp, Error> {
    let refused = match store.lock(object).await {
        Ok(()) => return Ok(until),
        Err(refused) => refused,
    };
    // Only a longer lock is a good reason, and none that more people can take off.
    match store.held_until(object).await {
        Ok(Some(end)) if end >= until => Ok(end),
        _ => Err(refused),
    }
}

/// Until when what a task writes there is locked.
pub(super) fn locked_until(access: &StoreAccess) -> Option<Timestamp> {
    match access {
        StoreAccess::S3 { lock, .. } => lock.map(|lock| lock.until),
        _ => None,
    }
}

/// Whether what is deleted there is refused while it is locked.
pub(super) fn may_be_locked(access: &StoreAccess) -> bool {
    matches!(access, StoreAccess::S3 { all_versions: true, .. })
}

/// The key of a file that stands beside a snapshot's.
pub(crate) fn beside(key: &SnapshotKey, name: &str) -> String {
    format!("{}/{name}", key.prefix())
}
