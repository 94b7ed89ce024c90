//! Which snapshot is meant.

use xvault_connectors::snapshot::{self, Filter, Listed};
use xvault_connectors::{Error as ConnectorError, Store};
use xvault_core::{Dispose, Disposition, Manifest, SnapshotKey};

use crate::Error;

/// The word for the newest snapshot.
pub const LATEST: &str = "latest";

/// The snapshots in `store`, oldest first; those with a damaged or missing manifest come last.
///
/// # Errors
/// When the store can't be listed. A single damaged manifest is no error.
pub async fn list(store: &dyn Store, filter: &Filter) -> Result<Vec<Listed>, Error> {
    snapshot::list(store, filter).await.map_err(Error::Store)
}

/// The snapshot that `selector` names: an id, a beginning that fits one id only, or [`LATEST`].
///
/// # Errors
/// When none fits, or several do, or the one that fits is damaged. [`LATEST`] is refused while a snapshot that may be
/// newer has a damaged or missing manifest, or one that the store just now could not give: an older one would be
/// taken for the newest. A damaged manifest tells no time, so its id does: ids are made in the order of time.
pub async fn find(store: &dyn Store, selector: &str, filter: &Filter) -> Result<Manifest, Error> {
    let found = match selector {
        LATEST => newest(list(store, filter).await?)?,
        _ => named(store, selector, filter).await?,
    };
    found.ok_or_else(|| none(store, selector))?.manifest.map_err(Error::Store)
}

/// The key of the snapshot that `selector` names, an id or a beginning that fits one id only, be it sound or damaged.
///
/// # Errors
/// When none fits, or several do. [`LATEST`] is no id.
pub async fn locate(store: &dyn Store, selector: &str, filter: &Filter) -> Result<SnapshotKey, Error> {
    let found = named(store, selector, filter).await?;
    found.map(|one| one.key).ok_or_else(|| none(store, selector))
}

async fn named(store: &dyn Store, selector: &str, filter: &Filter) -> Result<Option<Listed>, Error> {
    matching(snapshot::list_named(store, filter, selector).await.map_err(Error::Store)?, selector)
}

fn none(store: &dyn Store, selector: &str) -> Error {
    Error::NoSnapshot { selector: selector.to_owned(), store: store.describe() }
}

/// The newest, if it is certain which one that is.
fn newest(listed: Vec<Listed>) -> Result<Option<Listed>, Error> {
    let (sound, unknown): (Vec<_>, Vec<_>) = listed.into_iter().partition(|one| one.manifest.is_ok());
    let newest = sound.into_iter().next_back();
    let after = |one: &Listed| {
        newest.as_ref().is_none_or(|newest| one.key.snapshot_id.as_str() > newest.key.snapshot_id.as_str())
    };
    for one in unknown {
        let newer = after(&one);
        match one.manifest {
            // It may be sound, and tell any time.
            Err(error) if error.disposition() != Disposition::Permanent => return Err(Error::Store(error)),
            Err(error) if newer => return Err(Error::Store(uncertain(error))),
            _ => {}
        }
    }
    Ok(newest)
}

fn uncertain(error: ConnectorError) -> ConnectorError {
    match error {
        ConnectorError::Damaged { file, reason } => {
            let reason = format!("{reason}; it may be the newest: name the snapshot you mean by its id");
            ConnectorError::Damaged { file, reason }
        }
        other => other,
    }
}

fn matching(mut listed: Vec<Listed>, selector: &str) -> Result<Option<Listed>, Error> {
    if selector.is_empty() {
        return Ok(None);
    }
    // A whole id fits, even where it is the beginning of another.
    if let Some(at) = listed.iter().position(|snapshot| snapshot.key.snapshot_id.as_str() == selector) {
        return Ok(Some(listed.swap_remove(at)));
    }
    listed.retain(|snapshot| snapshot.key.snapshot_id.as_str().starts_with(selector));
    match listed.len() {
        0 | 1 => Ok(listed.pop()),
        count => Err(Error::Ambiguous { selector: selector.to_owned(), count }),
    }
}
