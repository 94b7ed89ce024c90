//! `xvault verify`: are snapshots undamaged?

use anyhow::bail;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault::connectors::Store;
use xvault::core::{Dispose, SnapshotKey, error};
use xvault::{Depth, Filter, VerifyOptions, VerifyReport};

use crate::Outcome;
use crate::args::VerifyArgs;
use crate::output::Output;
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
    let filter = super::filter(&args.filter);
    let keys = super::selected(&*store, (&args.snapshots, args.all), &filter).await?;
    if keys.is_empty() {
        bail!("there is no snapshot in {} to check", store.describe());
    }
    let mut damaged = 0;
    for key in &keys {
        match xvault::verify(&*store, key, &options).await {
            Ok(report) => tell_sound(&*store, key, &report, output).await?,
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

async fn tell_sound(
    store: &dyn Store,
    key: &SnapshotKey,
    report: &VerifyReport,
    output: &Output,
) -> anyhow::Result<()> {
    let VerifyReport { depth, entries, bytes } = *report;
    let id = &key.snapshot_id;
    let manifest = xvault::find(store, id.as_str(), &key_filter(key)).await?;
    output.say_if_partial(&manifest);
    let value = json!({
        "snapshot_id": id, "ok": true, "depth": depth, "entries": entries, "bytes": bytes,
        "completeness": manifest.completeness,
    });
    output.result(&value, || match depth {
        Depth::Quick => format!("{id}  sound: sizes and hashes of {} agree", show_bytes(bytes)),
        Depth::Deep | Depth::RestoreTest => {
            format!(
                "{id}  sound: {} entries, {} decrypted and compared",
                show_count(entries),
                show_bytes(bytes)
            )
        }
    })?;
    Ok(())
}

fn key_filter(key: &SnapshotKey) -> Filter {
    Filter { tenant_id: Some(key.tenant_id.clone()), source_id: Some(key.source_id.clone()) }
}

fn tell_damaged(key: &SnapshotKey, fault: &xvault::Error, output: &Output) -> anyhow::Result<()> {
    let reason = error::chain(fault);
    output.error(&format!("{}: {reason}", key.snapshot_id), fault.disposition());
    if output.json() {
        output.result(&json!({"snapshot_id": key.snapshot_id, "ok": false, "error": reason}), String::new)?;
    }
    Ok(())
}
