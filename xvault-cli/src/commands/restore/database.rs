//! `xvault restore --to postgres://…` or `mysql://…`: a dump into a database.

use serde_json::json;
use xvault::connectors::Control;
use xvault::core::{DatabaseTarget, EntryPath, Phase};
use xvault::{Overwrite, Snapshot};

use crate::args::RestoreArgs;
use crate::database::{self, Into};
use crate::output::Output;
use crate::units::show_bytes;

/// The database that `--to` names, if it is one.
pub(super) fn target(args: &RestoreArgs) -> anyhow::Result<Option<DatabaseTarget>> {
    let Some(url) = args.to.as_deref().and_then(std::path::Path::to_str) else { return Ok(None) };
    let overwrite = Overwrite::from(args.overwrite) != Overwrite::Never;
    let into = Into { create: args.create, overwrite, keep_owner: args.keep_owner };
    database::target(url, &args.database, &args.login, into)
}

pub(super) async fn run(
    snapshot: &Snapshot<'_>,
    target: &DatabaseTarget,
    paths: &[EntryPath],
    args: &RestoreArgs,
    control: &Control,
    output: &Output,
) -> anyhow::Result<()> {
    let path = match paths {
        [path] => path.clone(),
        [] => only_dump(snapshot).await?,
        _ => anyhow::bail!("one dump goes into one database: name one path"),
    };
    let load = database::load(target, &args.database, &args.login)?;
    control.progress().phase(Phase::Restore, None);
    let loaded = snapshot.load(&path, &load, control).await?;
    let value = json!({
        "snapshot_id": snapshot.manifest().snapshot_id,
        "target": target.address(),
        "path": path.to_string(),
        "created": loaded.created,
        "bytes": loaded.bytes,
    });
    output.result(&value, || {
        let made = if loaded.created { ", which was made" } else { "" };
        format!("loaded {path} ({}) into {}{made}", show_bytes(loaded.bytes), target.address())
    })?;
    Ok(())
}

/// The dump of a snapshot that has just one.
async fn only_dump(snapshot: &Snapshot<'_>) -> anyhow::Result<EntryPath> {
    let mut dumps = snapshot.dumps(2).await?.into_iter();
    match (dumps.next(), dumps.next()) {
        (Some(dump), None) => Ok(dump),
        (None, _) => {
            anyhow::bail!("this snapshot holds no dump of a database: `xvault ls` shows what it holds")
        }
        (Some(_), Some(_)) => {
            anyhow::bail!("this snapshot holds several dumps: name the path of one, as `xvault ls` shows it")
        }
    }
}
