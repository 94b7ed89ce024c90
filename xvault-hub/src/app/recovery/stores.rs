//! Which store of the hub a bucket is.

use sqlx::AnyConnection;
use xvault_core::{S3Settings, StoreId, TenantId};

use super::RecoveryError;
use super::listing::Place;
use crate::db::recovery;

/// A store that the hub knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownStore {
    pub(super) id: StoreId,
    /// Whose it is. None: the platform's.
    pub(super) tenant_id: Option<TenantId>,
}

/// The hub's store at this place. None: it is a directory.
pub(super) async fn store_of(
    conn: &mut AnyConnection,
    place: &Place,
) -> Result<Option<KnownStore>, RecoveryError> {
    let Place::Bucket { bucket, prefix, store_id } = place else { return Ok(None) };
    let is_there = |(id, _, config): &(StoreId, Option<TenantId>, String)| {
        let settings = serde_json::from_str::<S3Settings>(config);
        store_id.as_ref().is_none_or(|wanted| wanted == id)
            && settings.is_ok_and(|settings| settings.bucket == *bucket && settings.prefix == *prefix)
    };
    let mut fitting: Vec<_> = recovery::buckets(conn).await?.into_iter().filter(is_there).collect();
    let (bucket, prefix) = (bucket.clone(), prefix.clone());
    match (fitting.pop(), fitting.len()) {
        (None, _) => Err(RecoveryError::NoStore { bucket, prefix }),
        (Some((id, tenant_id, _)), 0) => Ok(Some(KnownStore { id, tenant_id })),
        (Some(last), _) => {
            let ids = fitting.iter().chain([&last]).map(|(id, ..)| id.to_string()).collect();
            Err(RecoveryError::SeveralStores { bucket, prefix, ids })
        }
    }
}
