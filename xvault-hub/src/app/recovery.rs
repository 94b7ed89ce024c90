//! What is done when the hub's database is lost: tenants' identities come back from an export, sources and snapshots from the
//! manifests in the stores; and what is compared before anybody believes either. For whoever has the database: the operator at the
//! command line.

mod forget;
pub(crate) mod listing;
mod orphans;
mod placeholder;
mod rebuild;
mod stores;
pub(crate) mod tenant_keys;

pub use forget::{Forgotten, forget_copy, forget_record, move_damaged};
pub use listing::{Found, Listing, ListingError, Place};
pub use orphans::{Orphans, orphans};
pub(crate) use placeholder::settings_are_lost;
pub use rebuild::{Rebuilt, rebuild};
pub use tenant_keys::{ImportedKeys, export_keys, import_keys};

use xvault_core::SnapshotId;

use crate::{DbError, KeyError, StartError};

/// Why it could not be done. What was done until then stays done, and doing it again goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// A key is missing, or the database is of another one.
    #[error("open the hub's keys")]
    Start(#[from] StartError),
    /// A stored secret can't be opened.
    #[error("open the identity of a tenant")]
    Key(#[from] KeyError),
    /// The database refuses.
    #[error("database")]
    Db(#[from] DbError),
    /// What was read is no export of identities.
    #[error("this is no export of tenants' identities: {0}")]
    Export(String),
    /// Snapshots in a bucket belong to a store that the hub must know.
    #[error(
        "no store of the hub is the bucket {bucket} with the prefix `{prefix}`: save it first (POST /api/v1/stores)"
    )]
    NoStore {
        /// The bucket.
        bucket: String,
        /// What its keys begin with.
        prefix: String,
    },
    /// Which of several stores it is can't be told from the bucket.
    #[error("several stores of the hub are the bucket {bucket} with the prefix `{prefix}`: say which with --hub-store: {}", ids.join(", "))]
    SeveralStores {
        /// The bucket.
        bucket: String,
        /// What its keys begin with.
        prefix: String,
        /// The ids of those stores.
        ids: Vec<String>,
    },
    /// A record can't go.
    #[error("the record of snapshot {id} stays: {reason}")]
    Kept {
        /// Which one.
        id: SnapshotId,
        /// Why.
        reason: String,
    },
}
