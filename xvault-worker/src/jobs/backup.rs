//! Pulls a source into a new snapshot.

use std::path::Path;
use std::sync::Arc;

use xvault::BackupOptions;
use xvault::connectors::Control;
use xvault::core::protocol::{BackupTask, LogLevel, TaskResult};
use xvault::core::snapshot::Completeness;
use xvault::core::{JobId, Manifest, Phase, TenantId};

use super::Tools;
use super::fault::Fault;
use super::place::locked_until;
use crate::report::Report;
use crate::vitals;

/// Does it. The snapshot exists exactly when this gives a result.
pub(super) async fn run(
    tools: &Tools,
    (job_id, tenant_id): (&JobId, &TenantId),
    task: &BackupTask,
    (control, report): (Control, &Arc<Report>),
) -> Result<TaskResult, Fault> {
    let place = tools.place(&task.store)?;
    if place.is_disk() {
        check_room(&tools.doors.storage_base, tools.min_free, task.expected_bytes)?;
    }
    let mut source = tools.doors.open(&task.source, task.credential.as_ref()).await?;
    report.line(LogLevel::Info, &format!("backup of a source of type {} begins", task.source.kind()));
    control.progress().phase(Phase::Connect, None);
    let options = BackupOptions::to(task.recipients.clone(), task.source_id.clone())?
        .index_recipients(task.index_recipients.clone())
        .tenant(tenant_id.clone())
        .snapshot(task.snapshot_id.clone())
        .work(job_id.clone(), tools.worker_id.clone())
        .read_back(task.read_back)
        .expected_bytes(task.expected_bytes)
        .control(control);
    let options = if place.is_disk() { options.unreported() } else { options };
    let manifest = xvault::backup(&mut *source, place.store(), &options).await?;
    report.sum_up();
    report.line(level(&manifest), &describe(&manifest));
    let locator = place.store().locator(&tools.worker_id, &manifest.key().prefix());
    let locked_until = locked_until(&task.store);
    Ok(TaskResult::Backup { manifest: Box::new(manifest), locator, locked_until })
}

/// A backup that would fill the disk is not begun: what others still write would fail with it.
fn check_room(storage_base: &Path, min_free: u64, expected_bytes: Option<u64>) -> Result<(), Fault> {
    let measured = vitals::room(storage_base);
    let room =
        measured.map_err(|error| Fault::transient("store", format!("measure the free room: {error}")))?;
    let needed = min_free.saturating_add(expected_bytes.unwrap_or(0));
    if room.free >= needed {
        return Ok(());
    }
    let message = format!(
        "the worker's disk is short: {} MiB are free, {} MiB are wanted (WORKER_MIN_FREE and what the last snapshot held)",
        room.free >> 20,
        needed.div_ceil(1 << 20)
    );
    Err(Fault::transient("disk_short", message))
}

fn level(manifest: &Manifest) -> LogLevel {
    match manifest.completeness {
        Completeness::Whole => LogLevel::Info,
        Completeness::Partial => LogLevel::Warn,
    }
}

fn describe(manifest: &Manifest) -> String {
    let content = &manifest.content_summary;
    format!(
        "snapshot {} holds {} files with {} bytes, stored in {} bytes, in {} ms; {} warnings",
        manifest.snapshot_id,
        content.files,
        content.bytes,
        manifest.size_bytes,
        manifest.duration_ms,
        content.warnings
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::core::Disposition;

    #[test]
    fn work_that_does_not_fit_is_put_off() {
        let here = Path::new("/");
        assert!(check_room(here, 0, None).is_ok());
        for (min_free, expected) in [(u64::MAX, None), (0, Some(u64::MAX)), (u64::MAX, Some(u64::MAX))] {
            let fault = check_room(here, min_free, expected).unwrap_err();
            assert_eq!((fault.code, fault.disposition), ("disk_short", Disposition::Transient));
        }
    }
}
