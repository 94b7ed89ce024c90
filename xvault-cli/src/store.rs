//! From `--store` to a store.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use xvault::connectors::{FsStore, Store};

use crate::args::StoreArgs;

/// Opens the store; a backup makes the directory when it is missing, everything else needs it.
pub(crate) fn open(args: &StoreArgs, create: bool) -> anyhow::Result<Arc<dyn Store>> {
    if let Some((scheme, _)) = args.store.split_once("://") {
        bail!("{scheme}:// is no kind of store yet: give a directory");
    }
    let path = Path::new(&args.store);
    if !create && !path.is_dir() {
        bail!("the store {} does not exist", path.display());
    }
    Ok(Arc::new(FsStore::open(path)?))
}
