//! One file per command.

mod backup;
mod cat;
mod completions;
mod copy;
mod forget;
mod keygen;
mod ls;
mod probe;
mod restore;
mod snapshots;
mod up;
mod verify;

use tokio_util::sync::CancellationToken;
use xvault::connectors::{Control, Source, Store};
use xvault::core::{Identity, SnapshotKey, SourceSettings};
use xvault::{Filter, Snapshot};

use crate::Outcome;
use crate::args::{Command, FilterArgs, SnapshotArgs, SourceArgs, StoreArgs};
use crate::login::Flags;
use crate::output::Output;
use crate::source_url;

/// Runs one command to its end.
pub(crate) async fn run(
    command: Command,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    match command {
        Command::Backup(args) => backup::run(&args, output, cancel).await,
        Command::Snapshots(args) => snapshots::run(&args, output).await,
        Command::Ls(args) => ls::run(&args, output).await,
        Command::Cat(args) => cat::run(&args, output, cancel).await,
        Command::Restore(args) => restore::run(&args, output, cancel).await,
        Command::Verify(args) => verify::run(&args, output, cancel).await,
        Command::Copy(args) => copy::run(&args, output, cancel).await,
        Command::Forget(args) => forget::run(&args, output, cancel).await,
        Command::Probe(args) => probe::run(&args, output, cancel).await,
        Command::Keygen(args) => keygen::run(&args, output),
        Command::Up(args) => up::run(&args, output, cancel).await,
        Command::Completions(args) => completions::run(&args),
    }
}

/// Steers a job of this command.
fn control(output: &Output, cancel: &CancellationToken) -> Control {
    Control::default().with_progress(output.progress()).with_cancel(cancel.clone())
}

/// The source that the flags describe, ready to connect; it leaves out `store`, which may lie inside a local one.
async fn source(
    args: &SourceArgs,
    store: Option<&StoreArgs>,
    output: &Output,
) -> anyhow::Result<(SourceSettings, Box<dyn Source>)> {
    let settings = source_url::settings(args, &std::env::current_dir()?)?;
    let source = xvault::open_source(&settings, &Flags { args, store, output }).await?;
    Ok((settings, source))
}

fn filter(args: &FilterArgs) -> Filter {
    Filter { tenant_id: args.tenant_id.clone(), source_id: args.source_id.clone() }
}

/// The snapshots that the selectors name, or all of them.
async fn selected(
    store: &dyn Store,
    (selectors, all): (&[String], bool),
    filter: &Filter,
) -> anyhow::Result<Vec<SnapshotKey>> {
    if all {
        let listed = xvault::list(store, filter).await?;
        return Ok(listed.into_iter().map(|snapshot| snapshot.key).collect());
    }
    let mut keys = Vec::with_capacity(selectors.len());
    for selector in selectors {
        keys.push(xvault::find(store, selector, filter).await?.key());
    }
    Ok(keys)
}

/// The snapshot that the flags name, opened with `identities`.
async fn open<'s>(
    store: &'s dyn Store,
    args: &SnapshotArgs,
    identities: Vec<Identity>,
) -> anyhow::Result<Snapshot<'s>> {
    let manifest = xvault::find(store, &args.snapshot, &filter(&args.filter)).await?;
    Ok(Snapshot::of(store, manifest, identities))
}
