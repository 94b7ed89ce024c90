//! `xvault restore --to sftp://…`: back to a server.

use xvault::core::{EntryPath, SshSettings};
use xvault::{Control, SftpTarget, SftpTargetOptions, Snapshot, Target};

use super::directory::report;
use crate::args::RestoreArgs;
use crate::output::Output;
use crate::{login, source_url};

/// The server that `--to` names, if it is one.
pub(super) fn settings(args: &RestoreArgs) -> anyhow::Result<Option<SshSettings>> {
    match args.to.as_deref().and_then(std::path::Path::to_str) {
        Some(url) => source_url::target(url, &args.login),
        None => Ok(None),
    }
}

pub(super) async fn run(
    snapshot: &Snapshot<'_>,
    server: &SshSettings,
    paths: &[EntryPath],
    args: &RestoreArgs,
    control: &Control,
    output: &Output,
) -> anyhow::Result<()> {
    let options = SftpTargetOptions {
        directory: server.paths.first().cloned().unwrap_or_default(),
        overwrite: args.overwrite.into(),
        // Nobody else may give files away.
        owner: server.username == "root",
    };
    let mut target = SftpTarget::new(login::options(&args.login, server)?, options);
    let stats = snapshot.restore_to(&mut target, paths, control).await?;
    report(snapshot, &stats, &target.describe(), output)
}
