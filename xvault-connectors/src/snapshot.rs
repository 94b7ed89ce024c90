//! Snapshots in a store: open, list and delete them by what makes them exist, their manifest.

use futures::TryStreamExt;
use xvault_core::snapshot::{DocumentError, MANIFEST_NAME, MAX_JSON_LEN, META_NAME};
use xvault_core::{Manifest, Meta, SnapshotKey, SourceId, TenantId};

use crate::{Error, Store};

/// A snapshot as listed.
#[derive(Debug)]
pub struct Listed {
    /// Which one, by where it lies.
    pub key: SnapshotKey,
    /// Its manifest, or what is wrong with it: damage is shown, and hides no other snapshot.
    pub manifest: Result<Manifest, Error>,
}

/// Narrows a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this tenant's.
    pub tenant_id: Option<TenantId>,
    /// Only this source's.
    pub source_id: Option<SourceId>,
}

impl Filter {
    fn admits(&self, key: &SnapshotKey) -> bool {
        self.tenant_id.as_ref().is_none_or(|id| *id == key.tenant_id)
            && self.source_id.as_ref().is_none_or(|id| *id == key.source_id)
    }

    /// The narrowest prefix that holds all that is admitted.
    fn prefix(&self) -> String {
        match (&self.tenant_id, &self.source_id) {
            (Some(tenant), Some(source)) => format!("tenants/{tenant}/sources/{source}"),
            (Some(tenant), None) => format!("tenants/{tenant}"),
            _ => "tenants".to_owned(),
        }
    }
}

/// The snapshots in `store`, oldest first; those with a damaged manifest come last.
///
/// # Errors
/// When the store can't be listed. A single damaged manifest is no error.
pub async fn list(store: &dyn Store, filter: &Filter) -> Result<Vec<Listed>, Error> {
    let mut snapshots = Vec::new();
    let mut keys = store.list(&filter.prefix()).await?;
    while let Some(key) = keys.try_next().await? {
        if let Some(key) = manifest_of(&key).filter(|key| filter.admits(key)) {
            match manifest(store, &key).await {
                // Deleted since it was listed: no snapshot any more.
                Err(Error::NotFound(_)) => {}
                manifest => snapshots.push(Listed { key, manifest }),
            }
        }
    }
    snapshots.sort_by(|a, b| age(a).cmp(&age(b)));
    Ok(snapshots)
}

fn age(listed: &Listed) -> (bool, Option<String>, &SnapshotKey) {
    let started = listed.manifest.as_ref().ok().map(|manifest| manifest.started_at.to_string());
    (listed.manifest.is_err(), started, &listed.key)
}

/// Which snapshot a key is the manifest of; anything else in the store is none of ours.
fn manifest_of(key: &str) -> Option<SnapshotKey> {
    let mut parts = key.split('/');
    let mut part = || parts.next();
    let (tenants, tenant, sources, source) = (part()?, part()?, part()?, part()?);
    let (snapshots, snapshot, file, rest) = (part()?, part()?, part()?, part());
    let fixed = [tenants, sources, snapshots, file] == ["tenants", "sources", "snapshots", MANIFEST_NAME];
    if !fixed || rest.is_some() {
        return None;
    }
    Some(SnapshotKey {
        tenant_id: tenant.parse().ok()?,
        source_id: source.parse().ok()?,
        snapshot_id: snapshot.parse().ok()?,
    })
}

/// The manifest of one snapshot, checked against its checksum and against where it lies.
///
/// # Errors
/// [`Error::NotFound`] when there is no such snapshot; [`Error::Damaged`] when the manifest is.
pub async fn manifest(store: &dyn Store, key: &SnapshotKey) -> Result<Manifest, Error> {
    let manifest = document(store, key, MANIFEST_NAME, Manifest::from_json).await?;
    same_key(key, MANIFEST_NAME, &manifest.key())?;
    Ok(manifest)
}

/// The meta file of one snapshot, checked against where it lies.
///
/// # Errors
/// As [`manifest`].
pub async fn meta(store: &dyn Store, key: &SnapshotKey) -> Result<Meta, Error> {
    let meta = document(store, key, META_NAME, Meta::from_json).await?;
    same_key(key, META_NAME, &meta.key())?;
    Ok(meta)
}

async fn document<T>(
    store: &dyn Store,
    key: &SnapshotKey,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, DocumentError>,
) -> Result<T, Error> {
    let file = format!("{}/{name}", key.prefix());
    let bytes = store.read(&file, 0..MAX_JSON_LEN + 1).await?;
    if bytes.len() as u64 > MAX_JSON_LEN {
        return Err(Error::Damaged { file, reason: "it is longer than 1 MiB".into() });
    }
    parse(&bytes).map_err(|error| Error::Damaged { file, reason: error.to_string() })
}

fn same_key(expected: &SnapshotKey, name: &str, found: &SnapshotKey) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let file = format!("{}/{name}", expected.prefix());
    Err(Error::Damaged { file, reason: format!("it belongs to another snapshot, {}", found.prefix()) })
}

/// Deletes a snapshot: its manifest first, so that what is left after a failure is no snapshot. Deleting twice is fine.
///
/// # Errors
/// When something may be left; deleting again removes it.
pub async fn delete(store: &dyn Store, key: &SnapshotKey) -> Result<(), Error> {
    let prefix = key.prefix();
    store.delete(&format!("{prefix}/{MANIFEST_NAME}")).await?;
    store.delete_all(&prefix).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_manifests_in_their_place_are_snapshots() {
        let key = manifest_of("tenants/t/sources/s/snapshots/x/manifest.json").unwrap();
        assert_eq!(key.prefix(), "tenants/t/sources/s/snapshots/x");
        let others = [
            "tenants/t/sources/s/snapshots/x/backup.tar.zst.enc",
            "tenants/t/sources/s/snapshots/.x.staging/manifest.json",
            "tenants/t/sources/s/snapshots/x/y/manifest.json",
            "tenants/t/sources/s/snapshots/manifest.json",
            "t/t/sources/s/snapshots/x/manifest.json",
            "tenants/a b/sources/s/snapshots/x/manifest.json",
        ];
        for other in others {
            assert_eq!(manifest_of(other), None, "{other}");
        }
    }
}
