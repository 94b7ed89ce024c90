//! From `--store` to a store, swept where something was left.

mod s3;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use xvault::connectors::{Error, FsStore, Store, Swept};
use xvault::core::error::chain;

use crate::args::{SecondStoreArgs, StoreArgs};
use crate::output::Output;

/// Stagings of a crashed run on a store that can't tell whether they live.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Opens the store; a backup makes the directory when it is missing, everything else needs it. A bucket is there or not.
pub(crate) fn open(args: &StoreArgs, create: bool) -> anyhow::Result<Arc<dyn Store>> {
    open_with(args, create, &s3::variable)
}

/// The store that copies go into; a directory is made when it is missing.
pub(crate) fn open_second(args: &SecondStoreArgs) -> anyhow::Result<Arc<dyn Store>> {
    open_with(&args.into(), true, &|name| s3::second_variable(name, &s3::variable))
}

fn open_with(args: &StoreArgs, create: bool, variables: s3::Variables<'_>) -> anyhow::Result<Arc<dyn Store>> {
    match args.store.split_once("://") {
        Some(("s3", place)) => return s3::open(args, place, variables),
        Some((scheme, _)) => {
            bail!("{scheme}:// is no kind of store: give a directory, or s3://BUCKET/PREFIX")
        }
        None => s3::refuse_settings(args)?,
    }
    let path = Path::new(&args.store);
    if !create && !path.is_dir() {
        bail!("the store {} does not exist", path.display());
    }
    Ok(Arc::new(FsStore::open(path)?))
}

/// Removes what dead runs left. What can't be removed now is no reason to make no backup.
pub(crate) async fn sweep(store: &dyn Store, output: &Output) {
    match store.sweep(ABANDONED).await {
        Ok(Swept { removed, failed, .. }) => {
            if removed > 0 {
                output.say(&format!("removed what {removed} interrupted run(s) left behind"));
            }
            if failed > 0 {
                output.say(&format!("could not remove what {failed} interrupted run(s) left behind"));
            }
        }
        // Who may only write can't sweep: somebody else does.
        Err(Error::Denied { .. }) => {}
        Err(error) => output.say(&format!("could not sweep up after interrupted runs: {}", chain(&error))),
    }
}
