//! `xvault restore`: a snapshot, or some of it, out of the store.

mod database;
mod directory;
mod export;
mod server;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use xvault::core::{DatabaseTarget, EntryPath, SshSettings};

use crate::args::RestoreArgs;
use crate::flags::refuse_foreign;
use crate::output::Output;
use crate::{Outcome, WrongUsage, keys, store};

pub(super) async fn run(
    args: &RestoreArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let destination = export::destination(args)?;
    let database = database::target(args)?;
    let server = if database.is_some() { None } else { server::settings(args)? };
    refuse_foreign(kind(database.as_ref(), server.as_ref()), args.database.via.as_deref(), args.flags())?;
    let paths = paths(&args.paths)?;
    let identities = keys::identities(args.snapshot.identity.identity.as_deref())?;
    let store = store::open(&args.snapshot.store, false)?;
    let snapshot = super::open(&*store, &args.snapshot, identities).await?;
    output.say_if_partial(snapshot.manifest());
    let control = super::control(output, cancel);
    if let Some(target) = &database {
        database::run(&snapshot, target, &paths, args, &control, output).await?;
        return Ok(Outcome::Done);
    }
    match (&destination, &server, &args.to) {
        (Some(destination), ..) => {
            export::run(&snapshot, destination, &paths, args, &control, output).await?;
        }
        (None, Some(server), _) => server::run(&snapshot, server, &paths, args, &control, output).await?,
        (None, None, Some(target)) => {
            directory::run(&snapshot, target, paths, args, control, output).await?;
        }
        (None, None, None) => return Err(WrongUsage("say where to: --to DIR or -o FILE".into()).into()),
    }
    Ok(Outcome::Done)
}

/// The type of the target, with the words of sources.
fn kind(database: Option<&DatabaseTarget>, server: Option<&SshSettings>) -> &'static str {
    let files = if server.is_some() { "sftp" } else { "local" };
    database.map_or(files, DatabaseTarget::kind)
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
