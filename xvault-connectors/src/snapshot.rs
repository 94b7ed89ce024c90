//! Snapshots in a store: open, list and delete them by what makes them exist, their manifest.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use xvault_core::snapshot::{
    DocumentError, MANIFEST_NAME, MAX_JSON_LEN, META_NAME, REPORTED_NAME, UNREPORTED_NAME,
};
use xvault_core::{Manifest, Meta, SnapshotKey, SourceId, TenantId};

use crate::{Error, Store};

/// How many manifests are read side by side: a bucket answers each after a while.
const AT_A_TIME: usize = 16;

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
/// Objects without any manifest, which a deletion that broke off or damage leaves, are listed as damaged: they take
/// space, and hold data that somebody may miss. Not so where the store writes in place
/// ([`Store::lists_staged`]): they may be of a backup that runs, and [`Store::sweep`] removes the dead ones.
///
/// # Errors
/// When the store can't be listed. A single damaged manifest is no error.
pub async fn list(store: &dyn Store, filter: &Filter) -> Result<Vec<Listed>, Error> {
    list_named(store, filter, "").await
}

/// Until when nobody can delete each of these snapshots, in their order, as far as the store tells: all objects of a snapshot are
/// locked alike, and the manifest is asked about. `None` also of one that is gone.
///
/// # Errors
/// When the store can't say.
pub async fn locks(store: &dyn Store, keys: &[SnapshotKey]) -> Result<Vec<Option<Timestamp>>, Error> {
    let end = |key: &SnapshotKey| {
        let manifest = format!("{}/{MANIFEST_NAME}", key.prefix());
        async move {
            match store.locked_until(&manifest).await {
                Err(Error::NotFound(_)) => Ok(None),
                end => end,
            }
        }
    };
    stream::iter(keys.iter().map(end)).buffered(AT_A_TIME).try_collect().await
}

/// As [`list`], only those whose ids begin with `id`: no other manifest is read.
///
/// # Errors
/// As [`list`].
pub async fn list_named(store: &dyn Store, filter: &Filter, id: &str) -> Result<Vec<Listed>, Error> {
    let mut found = stored(store, filter).await?;
    found.retain(|key, _| key.snapshot_id.as_str().starts_with(id));
    let mut read =
        stream::iter(found.into_iter().map(|(key, found)| read(store, key, found))).buffered(AT_A_TIME);
    let mut snapshots = Vec::new();
    while let Some(snapshot) = read.next().await {
        snapshots.extend(snapshot);
    }
    drop(read);
    snapshots.sort_by(|a, b| age(a).cmp(&age(b)));
    Ok(snapshots)
}

/// `None` when it is no snapshot, or none any more.
async fn read(store: &dyn Store, key: SnapshotKey, found: Found) -> Option<Listed> {
    let manifest = match found {
        Found::Manifest => manifest(store, &key).await,
        Found::Other(_) if store.lists_staged() => return None,
        Found::Other(object) => Err(remains(store, &key, &object).await),
    };
    match manifest {
        // Deleted since it was listed: no snapshot any more.
        Err(Error::NotFound(_)) => None,
        manifest => Some(Listed { key, manifest }),
    }
}

/// What a listing shows of a snapshot.
enum Found {
    Manifest,
    /// One of its objects, by its key.
    Other(String),
}

async fn stored(store: &dyn Store, filter: &Filter) -> Result<BTreeMap<SnapshotKey, Found>, Error> {
    let mut snapshots = BTreeMap::new();
    let mut objects = store.list(&filter.prefix()).await?;
    while let Some(object) = objects.try_next().await? {
        match snapshot_of(&object) {
            Some((key, MANIFEST_NAME)) if filter.admits(&key) => {
                snapshots.insert(key, Found::Manifest);
            }
            Some((key, _)) if filter.admits(&key) => {
                snapshots.entry(key).or_insert(Found::Other(object));
            }
            _ => {}
        }
    }
    Ok(snapshots)
}

/// What to say of objects without a manifest, [`Error::NotFound`] when they have gone since they were listed.
async fn remains(store: &dyn Store, key: &SnapshotKey, object: &str) -> Error {
    match store.size(object).await {
        Ok(Some(_)) => Error::Damaged {
            file: format!("{}/{MANIFEST_NAME}", key.prefix()),
            reason: "it is missing: the remains of a deleted or damaged snapshot".to_owned(),
        },
        Ok(None) => Error::NotFound(object.to_owned()),
        Err(error) => error,
    }
}

fn age(listed: &Listed) -> (bool, Option<String>, &SnapshotKey) {
    let started = listed.manifest.as_ref().ok().map(|manifest| manifest.started_at.to_string());
    (listed.manifest.is_err(), started, &listed.key)
}

/// Which snapshot an object of a store is of, and its name in it; anything else in the store is none of ours.
#[must_use]
pub fn snapshot_of(object: &str) -> Option<(SnapshotKey, &str)> {
    let mut parts = object.splitn(7, '/');
    let mut part = || parts.next();
    let (tenants, tenant, sources, source) = (part()?, part()?, part()?, part()?);
    let (snapshots, snapshot, name) = (part()?, part()?, part()?);
    if [tenants, sources, snapshots] != ["tenants", "sources", "snapshots"] {
        return None;
    }
    let key = SnapshotKey {
        tenant_id: tenant.parse().ok()?,
        source_id: source.parse().ok()?,
        snapshot_id: snapshot.parse().ok()?,
    };
    Some((key, name))
}

/// The manifest of one snapshot, checked against its checksum and against where it lies.
///
/// # Errors
/// [`Error::NotFound`] when there is no such snapshot; [`Error::Damaged`] when the manifest is.
pub async fn manifest(store: &dyn Store, key: &SnapshotKey) -> Result<Manifest, Error> {
    Ok(manifest_file(store, key).await?.0)
}

/// As [`manifest`], with the file's bytes.
///
/// # Errors
/// As [`manifest`].
pub async fn manifest_file(store: &dyn Store, key: &SnapshotKey) -> Result<(Manifest, Bytes), Error> {
    let (manifest, bytes) = document(store, key, MANIFEST_NAME, Manifest::from_json).await?;
    same_key(key, MANIFEST_NAME, &manifest.key())?;
    Ok((manifest, bytes))
}

/// The meta file of one snapshot, checked against where it lies.
///
/// # Errors
/// As [`manifest`].
pub async fn meta(store: &dyn Store, key: &SnapshotKey) -> Result<Meta, Error> {
    Ok(meta_file(store, key).await?.0)
}

/// As [`meta`], with the file's bytes.
///
/// # Errors
/// As [`manifest`].
pub async fn meta_file(store: &dyn Store, key: &SnapshotKey) -> Result<(Meta, Bytes), Error> {
    let (meta, bytes) = document(store, key, META_NAME, Meta::from_json).await?;
    same_key(key, META_NAME, &meta.key())?;
    Ok((meta, bytes))
}

async fn document<T>(
    store: &dyn Store,
    key: &SnapshotKey,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, DocumentError>,
) -> Result<(T, Bytes), Error> {
    let file = format!("{}/{name}", key.prefix());
    let bytes = store.read(&file, 0..MAX_JSON_LEN + 1).await?;
    if bytes.len() as u64 > MAX_JSON_LEN {
        return Err(Error::Damaged { file, reason: "it is longer than 1 MiB".into() });
    }
    match parse(&bytes) {
        Ok(document) => Ok((document, bytes)),
        Err(error) => Err(Error::Damaged { file, reason: error.to_string() }),
    }
}

fn same_key(expected: &SnapshotKey, name: &str, found: &SnapshotKey) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let file = format!("{}/{name}", expected.prefix());
    Err(Error::Damaged { file, reason: format!("it belongs to another snapshot, {}", found.prefix()) })
}

/// Whether the snapshot still has the mark of one that nobody was told of: whoever knows of no such snapshot may remove it.
/// One without the mark may be on record somewhere, also where the record itself was lost.
///
/// # Errors
/// When the store can't say.
pub async fn is_unreported(store: &dyn Store, key: &SnapshotKey) -> Result<bool, Error> {
    Ok(store.size(&mark(key)).await?.is_some())
}

/// Takes that mark away, for good. To be done before anybody is told of the snapshot; doing it twice is fine.
///
/// # Errors
/// When the mark may still be there, or be there again after a power failure.
pub async fn unmark(store: &dyn Store, key: &SnapshotKey) -> Result<(), Error> {
    store.delete(&mark(key)).await
}

fn mark(key: &SnapshotKey) -> String {
    format!("{}/{UNREPORTED_NAME}", key.prefix())
}

/// Deletes a snapshot, or the remains of one: its manifest first, so that what is left after a failure is no snapshot, and
/// what says whose it is and whether it may go last. Deleting twice is fine.
///
/// # Errors
/// When something may be left; deleting again removes it.
pub async fn delete(store: &dyn Store, key: &SnapshotKey) -> Result<(), Error> {
    let prefix = key.prefix();
    store.delete(&format!("{prefix}/{MANIFEST_NAME}")).await?;
    if store.lists_staged() {
        delete_content(store, &prefix).await?;
    }
    store.delete_all(&prefix).await
}

/// What a server may say that it has of one snapshot.
const MAX_OBJECTS: usize = 10_000;

/// Deletes all but the small files that say whose it is. For stores that write in place: they delete in place, too, object by
/// object, where others make the whole of it disappear at once.
async fn delete_content(store: &dyn Store, prefix: &str) -> Result<(), Error> {
    let objects: Vec<_> = store.list(prefix).await?.take(MAX_OBJECTS + 1).try_collect().await?;
    if objects.len() > MAX_OBJECTS {
        let detail = format!("it lists more than {MAX_OBJECTS} objects below {prefix}: a snapshot has a few");
        return Err(Error::Protocol { server: store.describe(), detail });
    }
    for object in objects {
        if !matches!(snapshot_of(&object), Some((_, META_NAME | UNREPORTED_NAME | REPORTED_NAME))) {
            store.delete(&object).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_in_their_place_are_of_a_snapshot() {
        let prefix = "tenants/t/sources/s/snapshots/x";
        for name in [MANIFEST_NAME, "backup.tar.zst.enc", "y/manifest.json"] {
            let object = format!("{prefix}/{name}");
            let (key, found) = snapshot_of(&object).unwrap();
            assert_eq!((key.prefix().as_str(), found), (prefix, name));
        }
        let others = [
            "tenants/t/sources/s/snapshots/.x.staging/manifest.json",
            "tenants/t/sources/s/snapshots/manifest.json",
            "t/t/sources/s/snapshots/x/manifest.json",
            "tenants/a b/sources/s/snapshots/x/manifest.json",
        ];
        for other in others {
            assert_eq!(snapshot_of(other), None, "{other}");
        }
    }
}
