//! Gives a snapshot back.

mod database;
mod server;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use xvault::archive::ArchiveEntry;
use xvault::connectors::Control;
use xvault::core::protocol::{LogLevel, Name, RestoreReport, RestoreTarget, RestoreTask, TaskResult};
use xvault::core::{Disposition, EntryKind, EntryPath, Phase};
use xvault::{ByteStream, Snapshot};

use super::Tools;
use super::fault::Fault;
use crate::downloads::Outflow;
use crate::report::Report;

/// Does what needs no client.
pub(super) async fn run(
    tools: &Tools,
    task: &RestoreTask,
    (control, report): (Control, &Arc<Report>),
) -> Result<TaskResult, Fault> {
    match &task.target {
        RestoreTarget::Server { server, credential, directory, overwrite } => {
            let target = server::target(tools, (server, credential.as_ref()), directory, *overwrite)?;
            server::push(tools, task, target, (&control, report)).await
        }
        RestoreTarget::Database { database, credential } => {
            let load = database::target(tools, database, credential.as_ref())?;
            database::load(tools, task, &load, (&control, report)).await
        }
        RestoreTarget::Check => check(tools, task, &control, report).await,
        _ => Err(Fault::permanent("client_gone", "whoever opened the download link is gone: open it again")),
    }
}

/// The snapshot, and what of it is wanted.
async fn open(tools: &Tools, task: &RestoreTask) -> Result<(Snapshot<'static>, Vec<EntryPath>), Fault> {
    let paths = paths(task)?;
    let identities = tools.doors.identities(&task.identities)?;
    let store = tools.open_store(&task.store)?;
    Ok((Snapshot::open_shared(store, &task.snapshot, identities).await?, paths))
}

/// Those of the task.
fn paths(task: &RestoreTask) -> Result<Vec<EntryPath>, Fault> {
    let invalid = |text: String| Fault::permanent("path_invalid", text);
    let text = task.paths.iter().map(|path| Name::Text { path: path.clone() });
    let bytes = task.path_base64.iter().map(|path| Name::Bytes { path_base64: path.clone() });
    let path = |name: Name| {
        let bytes = name.to_bytes().ok_or_else(|| invalid("the path is no base64".to_owned()))?;
        EntryPath::new(bytes).map_err(|error| invalid(error.to_string()))
    };
    text.chain(bytes).map(path).collect()
}

/// Looks all paths up, and counts what a restore would give.
async fn check(
    tools: &Tools,
    task: &RestoreTask,
    control: &Control,
    report: &Report,
) -> Result<TaskResult, Fault> {
    let (snapshot, paths) = open(tools, task).await?;
    control.progress().phase(Phase::Restore, None);
    let counting = Arc::new(Mutex::new(Counting::of(&paths)));
    let (counted, watched) = (counting.clone(), control.clone());
    let visit = move |entry: ArchiveEntry| {
        counted.lock().unwrap_or_else(PoisonError::into_inner).take(&entry);
        if watched.check().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    snapshot.entries(visit).await?;
    control.check().map_err(xvault::Error::Source)?;
    let counting = counting.lock().unwrap_or_else(PoisonError::into_inner);
    counting.check()?;
    let RestoreReport { entries, files, bytes, .. } = counting.report;
    report.line(
        LogLevel::Info,
        &format!("{entries} entries, {files} files with {bytes} bytes, can be downloaded"),
    );
    Ok(TaskResult::Restore { report: counting.report })
}

/// What lies at or below some paths.
struct Counting {
    /// None: everything counts.
    wanted: HashSet<EntryPath>,
    missing: HashSet<EntryPath>,
    report: RestoreReport,
}

impl Counting {
    fn of(paths: &[EntryPath]) -> Self {
        let wanted: HashSet<_> = paths.iter().cloned().collect();
        Self { missing: wanted.clone(), wanted, report: RestoreReport::default() }
    }

    fn take(&mut self, entry: &ArchiveEntry) {
        if !self.admits(&entry.entry.path) {
            return;
        }
        self.report.entries += 1;
        self.report.files += u64::from(matches!(entry.entry.kind, EntryKind::File { .. }));
        self.report.bytes += entry.size();
    }

    /// Whether the path or a directory above it is wanted. All of these are found, then.
    fn admits(&mut self, path: &EntryPath) -> bool {
        let mut admitted = self.wanted.is_empty();
        let mut next = Some(path.clone()).filter(|_| !admitted);
        while let Some(path) = next {
            if self.wanted.contains(&path) {
                admitted = true;
                self.missing.remove(&path);
            }
            next = path.parent();
        }
        admitted
    }

    fn check(&self) -> Result<(), Fault> {
        match self.missing.iter().min() {
            None => Ok(()),
            Some(path) => Err(missing(path)),
        }
    }
}

fn missing(path: &EntryPath) -> Fault {
    Fault::permanent("path_missing", format!("the snapshot has no `{path}`"))
}

/// Sends what is wanted to whoever opened the link. It is not tried again: the client would not be there any more.
pub(super) async fn download(
    tools: &Tools,
    task: &RestoreTask,
    (control, report): (Control, &Arc<Report>),
    out: &mut Outflow,
) -> Result<TaskResult, Fault> {
    let sent = match send(tools, task, &control, report, out).await {
        Ok(sent) => out.finish().await.map(|()| TaskResult::Restore { report: sent }),
        Err(fault) => Err(fault),
    };
    if let Err(fault) = &sent {
        out.fail(fault).await;
    }
    sent.map_err(|fault| match fault.disposition {
        // Handed back, it would be given to a worker without the client.
        Disposition::Cancelled => {
            Fault::permanent("worker_stopping", "the worker was stopped before all was sent")
        }
        _ => Fault { disposition: Disposition::Permanent, ..fault },
    })
}

async fn send(
    tools: &Tools,
    task: &RestoreTask,
    control: &Control,
    report: &Report,
    out: &mut Outflow,
) -> Result<RestoreReport, Fault> {
    let (snapshot, paths) = open(tools, task).await?;
    report.line(LogLevel::Info, "a download begins");
    let entries = match (&task.target, paths.first().cloned()) {
        (RestoreTarget::Archive { format }, _) => {
            pump(snapshot.export_stream(*format, paths, control), out).await?.entries
        }
        (RestoreTarget::File, Some(path)) => {
            control.progress().phase(Phase::Restore, None);
            let file = snapshot.file_stream(path, control).await.map_err(fault)?;
            out.file(file.size, file.content_type).await?;
            pump(file.body, out).await?;
            1
        }
        _ => return Err(Fault::permanent("unknown_target", "this worker is too old for the restore")),
    };
    let bytes = report.progress().bytes;
    tools.metrics.sent(bytes);
    report.line(LogLevel::Info, &format!("{entries} entries with {bytes} bytes of content were sent"));
    Ok(RestoreReport { entries, files: 0, bytes, skipped: 0 })
}

/// Sends all of it, as fast as the client reads.
async fn pump<T: Unpin + Copy>(mut stream: ByteStream<T>, out: &mut Outflow) -> Result<T, Fault> {
    while let Some(chunk) = stream.next().await {
        out.chunk(chunk.map_err(fault)?).await?;
    }
    stream.outcome().copied().ok_or_else(|| fault(xvault::Error::Abandoned))
}

fn fault(error: xvault::Error) -> Fault {
    match error {
        xvault::Error::Archive(xvault::archive::Error::NotFound { path }) => missing(&path),
        xvault::Error::Archive(error @ xvault::archive::Error::NoContent { .. }) => {
            Fault::permanent("not_a_file", error.to_string())
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use xvault::core::{Entry, Metadata};

    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn entry(text: &str, size: u64) -> ArchiveEntry {
        let entry = Entry { path: path(text), kind: EntryKind::File { size }, metadata: Metadata::default() };
        ArchiveEntry { entry, blake3: None, offset: 0, end: 0, parts: 0 }
    }

    #[test]
    fn what_is_wanted_is_counted_once_and_what_is_missing_is_named() {
        let paths = ["a", "a/b", "c/d", "gone"].map(path);
        let mut counting = Counting::of(&paths);
        for (name, size) in [("a/b/x", 3), ("a/y", 5), ("c/d", 7), ("c/de", 100), ("b", 100)] {
            counting.take(&entry(name, size));
        }
        assert_eq!((counting.report.files, counting.report.bytes), (3, 15));
        let fault = counting.check().unwrap_err();
        assert_eq!(fault.code, "path_missing");
        assert!(fault.message.contains("`gone`"), "{}", fault.message);
        let mut all = Counting::of(&[]);
        all.take(&entry("x", 9));
        assert_eq!(all.report.bytes, 9);
        all.check().unwrap();
    }
}
