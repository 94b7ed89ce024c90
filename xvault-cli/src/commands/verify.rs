//! `xvault verify`: are snapshots undamaged?

use anyhow::bail;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault::connectors::Store;
use xvault::core::{SnapshotKey, error};
use xvault::{Depth, VerifyOptions, VerifyReport};

use crate::Outcome;
use crate::args::VerifyArgs;
use crate::output::{Output, write_stderr};
use crate::units::{show_bytes, show_count};
use crate::{keys, store};

pub(super) async fn run(
    args: &VerifyArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let store = store::open(&args.store, false)?;
    let control = super::control(output, cancel);
    let mut options = VerifyOptions::default().control(control.clone());
    if let Some(path) = &args.identity {
        options = options.identities(keys::identities(Some(path))?);
    }
    let keys = selected(args, &*store).await?;
    let mut damaged = 0;
    for key in &keys {
        match xvault::verify(&*store, key, &options).await {
            Ok(report) => tell_sound(key, &report, output)?,
            Err(error) => {
                control.check()?;
                damaged += 1;
                tell_damaged(key, &error, output)?;
            }
        }
    }
    match damaged {
        0 => Ok(Outcome::Done),
        // One snapshot that was named has told its fault already.
        _ => bail!("{damaged} of {} snapshots failed the check", keys.len()),
    }
}

async fn selected(args: &VerifyArgs, store: &dyn Store) -> anyhow::Result<Vec<SnapshotKey>> {
    let filter = super::filter(&args.filter);
    if args.all {
        let listed = xvault::list(store, &filter).await?;
        return Ok(listed.into_iter().map(|snapshot| snapshot.key).collect());
    }
    let mut keys = Vec::with_capacity(args.snapshots.len());
    for selector in &args.snapshots {
        keys.push(xvault::find(store, selector, &filter).await?.key());
    }
    Ok(keys)
}

fn tell_sound(key: &SnapshotKey, report: &VerifyReport, output: &Output) -> anyhow::Result<()> {
    let VerifyReport { depth, entries, bytes } = *report;
    let id = &key.snapshot_id;
    let value = json!({"snapshot_id": id, "ok": true, "depth": depth, "entries": entries, "bytes": bytes});
    output.result(&value, || match depth {
        Depth::Quick => format!("{id}  sound: sizes and hashes of {} agree", show_bytes(bytes)),
        Depth::Deep => {
            format!(
                "{id}  sound: {} entries, {} decrypted and compared",
                show_count(entries),
                show_bytes(bytes)
            )
        }
    })?;
    Ok(())
}

fn tell_damaged(key: &SnapshotKey, fault: &xvault::Error, output: &Output) -> anyhow::Result<()> {
    let reason = error::chain(fault);
    output.clear();
    if output.json() {
        output.result(&json!({"snapshot_id": key.snapshot_id, "ok": false, "error": reason}), String::new)?;
    }
    write_stderr(&format!("xvault: {}: {reason}", key.snapshot_id));
    Ok(())
}
