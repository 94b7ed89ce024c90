//! `xvault cat`: one file of a snapshot.

use std::io;
use std::os::unix::ffi::OsStrExt;

use anyhow::bail;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault::core::EntryPath;

use crate::Outcome;
use crate::args::CatArgs;
use crate::output::{Output, write_stderr};
use crate::{keys, store};

pub(super) async fn run(
    args: &CatArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let Some(path) = EntryPath::from_source(args.path.as_os_str().as_bytes())? else {
        bail!("`/` is a directory")
    };
    let identities = keys::identities(args.snapshot.identity.identity.as_deref())?;
    let store = store::open(&args.snapshot.store, false)?;
    let snapshot = super::open(&*store, &args.snapshot, identities).await?;
    let control = super::control(output, cancel);
    let fetched = snapshot.cat(&path, io::stdout(), &control).await?;
    if output.json() {
        let (artifact, index) = (fetched.artifact_bytes, fetched.index_bytes);
        write_stderr(&json!({"event": "read", "artifact_bytes": artifact, "index_bytes": index}).to_string());
    }
    Ok(Outcome::Done)
}
