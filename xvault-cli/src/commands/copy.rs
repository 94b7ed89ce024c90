//! `xvault copy`: the same snapshots in a second store.

use anyhow::bail;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault::connectors::Store;
use xvault::core::{Dispose, SnapshotKey, error};
use xvault::{Control, CopyReport};

use crate::args::CopyArgs;
use crate::output::Output;
use crate::units::show_bytes;
use crate::{Outcome, WrongUsage, store};

pub(super) async fn run(
    args: &CopyArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let from = store::open(&args.store, false)?;
    let to = store::open_second(&args.to)?;
    if from.describe() == to.describe() {
        return Err(WrongUsage(format!("{} is the store that is copied from", to.describe())).into());
    }
    store::sweep(&*to, output).await;
    let filter = super::filter(&args.filter);
    let keys = super::selected(&*from, (&args.snapshots, args.all), &filter).await?;
    if keys.is_empty() {
        bail!("there is no snapshot in {} to copy", from.describe());
    }
    let failed = copy_all((&*from, &*to), &keys, &control(args, output, cancel), output).await?;
    match failed {
        0 => Ok(Outcome::Done),
        _ => bail!("{failed} of {} snapshots could not be copied", keys.len()),
    }
}

fn control(args: &CopyArgs, output: &Output, cancel: &CancellationToken) -> Control {
    let control = super::control(output, cancel);
    match args.bwlimit {
        Some(limit) => control.with_bandwidth(limit),
        None => control,
    }
}

/// One after the other, oldest first; what can't be copied keeps no other from being copied. Gives how many failed.
async fn copy_all(
    (from, to): (&dyn Store, &dyn Store),
    keys: &[SnapshotKey],
    control: &Control,
    output: &Output,
) -> anyhow::Result<usize> {
    let mut failed = 0;
    for key in keys {
        match xvault::copy(from, to, key, control).await {
            Ok(report) => tell_copied(key, &report, to, output)?,
            Err(fault) => {
                control.check()?;
                failed += 1;
                tell_failed(key, &fault, output)?;
            }
        }
    }
    Ok(failed)
}

fn tell_copied(
    key: &SnapshotKey,
    report: &CopyReport,
    to: &dyn Store,
    output: &Output,
) -> anyhow::Result<()> {
    let (id, CopyReport { was_there, bytes }) = (&key.snapshot_id, report.clone());
    let value = json!({"snapshot_id": id, "ok": true, "was_there": was_there, "bytes": bytes});
    output.result(&value, || {
        if was_there {
            format!("{id}  was in {} already, whole", to.describe())
        } else {
            format!("{id}  copied into {}: {}", to.describe(), show_bytes(bytes))
        }
    })?;
    Ok(())
}

fn tell_failed(key: &SnapshotKey, fault: &xvault::Error, output: &Output) -> anyhow::Result<()> {
    let reason = error::chain(fault);
    output.error(&format!("{}: {reason}", key.snapshot_id), fault.disposition());
    if output.json() {
        output.result(&json!({"snapshot_id": key.snapshot_id, "ok": false, "error": reason}), String::new)?;
    }
    Ok(())
}
