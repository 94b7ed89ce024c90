//! Pushes a snapshot back to a server.

use xvault::connectors::Control;
use xvault::core::protocol::{LogLevel, RestoreReport, RestoreTask, Sealed, TaskResult};
use xvault::core::{Overwrite, Phase, SshSettings};
use xvault::{SftpTarget, SftpTargetOptions, Target as _};

use super::super::Tools;
use super::super::fault::{Fault, source_code};
use super::{fault, open};
use crate::report::Report;

/// The directory of the server, ready to connect.
pub(super) fn target(
    tools: &Tools,
    (server, credential): (&SshSettings, Option<&Sealed>),
    directory: &str,
    overwrite: Overwrite,
) -> Result<SftpTarget, Fault> {
    let options = SftpTargetOptions {
        directory: directory.to_owned(),
        overwrite,
        // Nobody else may give files away.
        owner: server.username == "root",
    };
    Ok(SftpTarget::new(tools.doors.ssh(server, credential)?, options))
}

/// Does it. An attempt that broke off is gone on with by the next: files that are there whole are recognised.
pub(super) async fn push(
    tools: &Tools,
    task: &RestoreTask,
    mut target: SftpTarget,
    (control, report): (&Control, &Report),
) -> Result<TaskResult, Fault> {
    let (snapshot, paths) = open(tools, task).await?;
    report.line(LogLevel::Info, &format!("restoring to {}", target.describe()));
    control.progress().phase(Phase::Restore, None);
    let stats = match snapshot.restore_to(&mut target, &paths, control).await {
        Err(xvault::Error::Target(error)) => {
            let code = source_code(&error);
            return Err(Fault { code, ..xvault::Error::Target(error).into() });
        }
        restored => restored.map_err(fault)?,
    };
    let entries = stats.files + stats.directories + stats.symlinks + stats.hardlinks;
    let done = RestoreReport { entries, files: stats.files, bytes: stats.bytes, skipped: stats.kept };
    let RestoreReport { files, bytes, skipped, .. } = done;
    report.line(
        LogLevel::Info,
        &format!("{files} files with {bytes} bytes were restored, {skipped} were there already and stay"),
    );
    Ok(TaskResult::Restore { report: done })
}
