//! `xvault restore --to DIR`: into a directory of this machine.

use std::path::Path;

use serde_json::json;
use xvault::core::EntryPath;
use xvault::{Control, ExtractStats, RestoreOptions, Snapshot};

use crate::args::RestoreArgs;
use crate::output::Output;
use crate::units::{show_bytes, show_count};

pub(super) async fn run(
    snapshot: &Snapshot<'_>,
    target: &Path,
    paths: Vec<EntryPath>,
    args: &RestoreArgs,
    control: Control,
    output: &Output,
) -> anyhow::Result<()> {
    let options = RestoreOptions::default().paths(paths).overwrite(args.overwrite.into()).control(control);
    let stats = snapshot.restore(target, options).await?;
    report(snapshot, &stats, &target.to_string_lossy(), output)
}

pub(super) fn report(
    snapshot: &Snapshot<'_>,
    stats: &ExtractStats,
    target: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let ExtractStats { files, directories, symlinks, hardlinks, bytes, kept } = *stats;
    let manifest = snapshot.manifest();
    let value = json!({
        "snapshot_id": manifest.snapshot_id,
        "completeness": manifest.completeness,
        "target": target,
        "files": files,
        "directories": directories,
        "symlinks": symlinks,
        "hardlinks": hardlinks,
        "bytes": bytes,
        "kept": kept,
    });
    output.result(&value, || {
        let mut text = format!(
            "restored {} files, {} directories, {} links, {} into {target}\n  from snapshot {} of source {}, {}",
            show_count(files),
            show_count(directories),
            show_count(symlinks + hardlinks),
            show_bytes(bytes),
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
