//! Which store of the hub a bucket is.

use sqlx::AnyConnection;
use xvault_core::{StoreId, TenantId};

use super::RecoveryError;
use super::listing::Place;
use crate::db::{Scope, recovery, stores};

/// A store that the hub knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownStore {
    pub(super) id: StoreId,
    /// Whose it is. None: the platform's.
    pub(super) tenant_id: Option<TenantId>,
    /// The bucket of the place: one of several, where each tenant has its own.
    pub(super) bucket: String,
    /// Whether its credential may delete, as far as is known.
    pub(super) may_delete: Option<bool>,
}

/// The hub's store at this place. None: it is a directory.
pub(super) async fn store_of(
    conn: &mut AnyConnection,
    place: &Place,
) -> Result<Option<KnownStore>, RecoveryError> {
    let Place::Bucket { bucket, prefix, store_id } = place else { return Ok(None) };
    let mut fitting = Vec::new();
    for id in recovery::bucket_stores(conn).await? {
        let store = stores::get(conn, &Scope::All, &id).await?;
        if store_id.as_ref().is_none_or(|wanted| *wanted == id) && store.is_at(bucket, prefix) {
            let (tenant_id, may_delete) = (store.tenant_id, store.may_delete);
            fitting.push(KnownStore { id, tenant_id, bucket: bucket.clone(), may_delete });
        }
    }
    let (bucket, prefix) = (bucket.clone(), prefix.clone());
    match (fitting.pop(), fitting.len()) {
        (None, _) => Err(RecoveryError::NoStore { bucket, prefix }),
        (Some(store), 0) => Ok(Some(store)),
        (Some(last), _) => {
            let ids = fitting.iter().chain([&last]).map(|store| store.id.to_string()).collect();
            Err(RecoveryError::SeveralStores { bucket, prefix, ids })
        }
    }
}
