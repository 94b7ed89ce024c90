//! Which snapshot is meant.

use xvault_connectors::Store;
use xvault_connectors::snapshot::{self, Filter, Listed};
use xvault_core::{Dispose, Disposition, Manifest};

use crate::Error;

/// The word for the newest snapshot.
pub const LATEST: &str = "latest";

/// The snapshots in `store`, oldest first; those with a damaged manifest come last.
///
/// # Errors
/// When the store can't be listed. A single damaged manifest is no error.
pub async fn list(store: &dyn Store, filter: &Filter) -> Result<Vec<Listed>, Error> {
    snapshot::list(store, filter).await.map_err(Error::Store)
}

/// The snapshot that `selector` names: an id, a beginning that fits one id only, or [`LATEST`].
///
/// # Errors
/// When none fits, or several do, or the one that fits is damaged. [`LATEST`] passes damaged snapshots over, but
/// not those whose manifest the store just now could not give: one of them may be the newest.
pub async fn find(store: &dyn Store, selector: &str, filter: &Filter) -> Result<Manifest, Error> {
    let listed = list(store, filter).await?;
    let none = || Error::NoSnapshot { selector: selector.to_owned(), store: store.describe() };
    let found = if selector == LATEST { newest(listed) } else { matching(listed, selector)? };
    found.ok_or_else(none)?.manifest.map_err(Error::Store)
}

/// The newest, or one that can't be read now and whose error is then the answer.
fn newest(listed: Vec<Listed>) -> Option<Listed> {
    let mut newest = None;
    for snapshot in listed {
        match &snapshot.manifest {
            Ok(_) => newest = Some(snapshot),
            // A damaged manifest tells no time: the newest of the others is what was asked for.
            Err(error) if error.disposition() == Disposition::Permanent => {}
            Err(_) => return Some(snapshot),
        }
    }
    newest
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
