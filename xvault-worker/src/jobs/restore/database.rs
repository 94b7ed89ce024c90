//! Loads a dump of a snapshot into a database.

use xvault::connectors::{Control, DatabaseLoad};
use xvault::core::protocol::{LogLevel, RestoreReport, RestoreTask, Sealed, TaskResult};
use xvault::core::{DatabaseTarget, Phase};

use super::super::Tools;
use super::super::fault::{Fault, source_code};
use super::{fault, open};
use crate::report::Report;

/// The database, ready to be loaded into.
pub(super) fn target(
    tools: &Tools,
    database: &DatabaseTarget,
    credential: Option<&Sealed>,
) -> Result<DatabaseLoad, Fault> {
    let login = tools.doors.database(&database.server(), credential)?;
    DatabaseLoad::new(database, login).map_err(refused)
}

/// Does it.
pub(super) async fn load(
    tools: &Tools,
    task: &RestoreTask,
    load: &DatabaseLoad,
    (control, report): (&Control, &Report),
) -> Result<TaskResult, Fault> {
    let (snapshot, paths) = open(tools, task).await?;
    let [path] = paths.as_slice() else {
        return Err(Fault::permanent("path_invalid", "one dump goes into one database: one path is needed"));
    };
    control.progress().phase(Phase::Restore, None);
    let loaded = match snapshot.load(path, load, control).await {
        Err(xvault::Error::Target(error)) => return Err(refused(error)),
        loaded => loaded.map_err(fault)?,
    };
    let made = if loaded.created { ", which was made" } else { "" };
    let text =
        format!("loaded {path} ({} bytes) into the database `{}`{made}", loaded.bytes, loaded.database);
    report.line(LogLevel::Info, &text);
    Ok(TaskResult::Restore {
        report: RestoreReport { entries: 1, files: 1, bytes: loaded.bytes, skipped: 0 },
    })
}

/// The database does not take it.
fn refused(error: xvault::connectors::Error) -> Fault {
    Fault { code: source_code(&error), ..xvault::Error::Target(error).into() }
}
