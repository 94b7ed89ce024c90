//! Finds out whether a stored snapshot is still what was written.
//!
//! Damage is what a verification is for, so finding it is a job done. Only where the store could not be asked, or the identities
//! are not those that the snapshot is encrypted to, nothing is known: then the job fails, and says nothing of the snapshot.

mod dumps;

use std::error::Error as StdError;
use std::io;

use futures::TryStreamExt as _;
use xvault::connectors::{Control, Error as ConnectorError};
use xvault::core::error::chain;
use xvault::core::protocol::{Finding, MAX_LOG_MESSAGE, StoreAccess, TaskResult, VerifyDepth, VerifyTask};
use xvault::core::{Identity, SnapshotKey};
use xvault::{Snapshot, Store, VerifyOptions};

use super::Tools;
use super::fault::Fault;
use crate::log_buffer::shorten;
use dumps::{Stop, load_all};

/// What Linux says of a sector that can't be read.
const EIO: i32 = 5;

/// Does it.
pub(super) async fn run(tools: &Tools, task: &VerifyTask, control: &Control) -> Result<TaskResult, Fault> {
    let store = tools.open_store(&task.store)?;
    let mut identities = Vec::new();
    for sealed in &task.identities {
        identities.extend(tools.doors.identities(sealed)?);
    }
    let on_own_disk = task.store == StoreAccess::LocalFs;
    let finding = match check(tools, &*store, task, identities, control).await {
        Ok(finding) => finding,
        Err(Stop::Damaged(damage)) => damaged(&damage),
        Err(Stop::Server(fault)) => return Err(fault),
        Err(Stop::Snapshot(error)) if is_damage(&error, on_own_disk) => {
            no_empty_store(&*store, &error, control).await?;
            damaged(&chain(&error))
        }
        Err(Stop::Snapshot(error)) => return Err(fault(error)),
    };
    Ok(TaskResult::Verify { depth: task.depth, finding })
}

fn damaged(damage: &str) -> Finding {
    Finding::Damaged { damage: shorten(damage, MAX_LOG_MESSAGE) }
}

async fn check(
    tools: &Tools,
    store: &dyn Store,
    task: &VerifyTask,
    identities: Vec<Identity>,
    control: &Control,
) -> Result<Finding, Stop> {
    let key = &task.snapshot;
    let options = VerifyOptions::default().control(control.clone());
    let mut databases = None;
    let report = match task.depth {
        VerifyDepth::Quick => xvault::verify(store, key, &options).await?,
        VerifyDepth::Deep => {
            inside(store, key, control, xvault::verify(store, key, &options.identities(identities))).await?
        }
        VerifyDepth::RestoreTest => {
            let test = xvault::restore_test(store, key, identities.clone(), control);
            let report = inside(store, key, control, test).await?;
            let snapshot = Snapshot::open(store, key, identities).await?;
            databases = load_all(tools, &snapshot, control).await?;
            report
        }
    };
    Ok(Finding::Ok { entries: report.entries, bytes: report.bytes, databases })
}

/// A look inside with identities that do not fit: a damaged head of a file looks like that, too, and its hash tells which it is.
async fn inside<T>(
    store: &dyn Store,
    key: &SnapshotKey,
    control: &Control,
    looking: impl Future<Output = Result<T, xvault::Error>>,
) -> Result<T, xvault::Error> {
    let looked = looking.await;
    if let Err(xvault::Error::Archive(xvault::archive::Error::WrongIdentity { .. })) = &looked {
        xvault::verify(store, key, &VerifyOptions::default().control(control.clone())).await?;
    }
    looked
}

/// Whether an error says that the snapshot is not what was written, rather than that this could not be found out.
fn is_damage(error: &xvault::Error, on_own_disk: bool) -> bool {
    use xvault::Error;
    use xvault::archive::Error as Archive;
    match error {
        Error::Store(ConnectorError::Damaged { .. } | ConnectorError::NotFound(_)) | Error::Document(_) => {
            true
        }
        Error::Archive(
            Archive::Damaged { .. }
            | Archive::Truncated { .. }
            | Archive::Mismatch { .. }
            | Archive::Hostile { .. }
            | Archive::Duplicate { .. },
        ) => true,
        // A sector of the own disk that can't be read is lost; a bucket that fails to read may work tomorrow.
        error => on_own_disk && is_unreadable(error),
    }
}

fn is_unreadable(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(EIO) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Where nothing at all lies, a disk is not mounted, or a prefix is misspelt: that says nothing of the snapshot.
async fn no_empty_store(store: &dyn Store, found: &xvault::Error, control: &Control) -> Result<(), Fault> {
    if !matches!(found, xvault::Error::Store(ConnectorError::NotFound(_))) {
        return Ok(());
    }
    let first = async { store.list("tenants").await?.try_next().await };
    match control.run(first).await.map_err(xvault::Error::Store)? {
        Some(_) => Ok(()),
        None => Err(Fault::transient(
            "store_empty",
            format!("nothing at all lies in {}: is its disk mounted?", store.describe()),
        )),
    }
}

fn fault(error: xvault::Error) -> Fault {
    match error {
        xvault::Error::Archive(xvault::archive::Error::WrongIdentity { .. }) => {
            Fault::permanent("wrong_identity", chain(&error))
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_sector_is_damage_and_a_bucket_that_fails_is_none() {
        let broken = |code: i32| {
            xvault::Error::Store(ConnectorError::io("read x")(io::Error::from_raw_os_error(code)))
        };
        assert!(is_damage(&broken(EIO), true));
        assert!(!is_damage(&broken(EIO), false));
        assert!(!is_damage(&broken(110), true), "a time-out");
        assert!(!is_damage(&xvault::Error::Store(ConnectorError::Cancelled), true));
        assert!(!is_damage(&xvault::Error::Abandoned, true));
    }
}
