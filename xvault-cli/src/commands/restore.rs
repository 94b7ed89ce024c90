//! `xvault restore`: a snapshot, or some of it, into a directory.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault::core::EntryPath;
use xvault::{ExtractStats, RestoreOptions, Snapshot};

use crate::Outcome;
use crate::args::RestoreArgs;
use crate::output::Output;
use crate::units::{show_bytes, show_count};
use crate::{keys, store};

pub(super) async fn run(
    args: &RestoreArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let identities = keys::identities(args.snapshot.identity.identity.as_deref())?;
    let store = store::open(&args.snapshot.store, false)?;
    let snapshot = super::open(&*store, &args.snapshot, identities).await?;
    output.say_if_partial(snapshot.manifest());
    let options = RestoreOptions::default()
        .paths(paths(&args.paths)?)
        .overwrite(args.overwrite.into())
        .control(super::control(output, cancel));
    let stats = snapshot.restore(&args.to, options).await?;
    report(&snapshot, &stats, args, output)?;
    Ok(Outcome::Done)
}

/// No paths stand for everything, and so does `/`.
fn paths(typed: &[PathBuf]) -> anyhow::Result<Vec<EntryPath>> {
    let mut paths = Vec::with_capacity(typed.len());
    for path in typed {
        match EntryPath::from_source(path.as_os_str().as_bytes())? {
            Some(path) => paths.push(path),
            None => return Ok(Vec::new()),
        }
    }
    Ok(paths)
}

fn report(
    snapshot: &Snapshot<'_>,
    stats: &ExtractStats,
    args: &RestoreArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let ExtractStats { files, directories, symlinks, hardlinks, bytes, kept } = *stats;
    let manifest = snapshot.manifest();
    let value = json!({
        "snapshot_id": manifest.snapshot_id,
        "completeness": manifest.completeness,
        "target": args.to.to_string_lossy(),
        "files": files,
        "directories": directories,
        "symlinks": symlinks,
        "hardlinks": hardlinks,
        "bytes": bytes,
        "kept": kept,
    });
    output.result(&value, || {
        let mut text = format!(
            "restored {} files, {} directories, {} links, {} into {}\n  from snapshot {} of source {}, {}",
            show_count(files),
            show_count(directories),
            show_count(symlinks + hardlinks),
            show_bytes(bytes),
            args.to.display(),
            manifest.snapshot_id,
            manifest.source_id,
            manifest.started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        );
        if kept > 0 {
            text.push_str(&format!(
                "\n  {} that were there already were left alone (--overwrite)",
                show_count(kept)
            ));
        }
        text
    })?;
    Ok(())
}
