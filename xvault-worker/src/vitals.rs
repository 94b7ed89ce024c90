//! How the worker and its machine fare.

use std::io;
use std::path::Path;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use xvault::core::protocol::WorkerMetrics;

/// Room of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// For this process.
    pub(crate) free: u64,
    /// All of it.
    pub(crate) total: u64,
}

/// The room where `path` lies.
pub(crate) fn room(path: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Room { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}

/// Measures; load is that since the last time.
#[derive(Debug)]
pub(crate) struct Vitals {
    /// Absent where the operating system tells nothing.
    system: Option<System>,
    process: Option<Pid>,
}

impl Vitals {
    /// Begins to measure.
    pub(crate) fn new() -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self { system, process: sysinfo::get_current_pid().ok() }
    }

    /// How things are now. What can't be measured is 0.
    pub(crate) fn measure(&mut self, storage_base: &Path, active_jobs: u32) -> WorkerMetrics {
        let room = room(storage_base).unwrap_or(Room { free: 0, total: 0 });
        let mut metrics = WorkerMetrics {
            disk_free_bytes: room.free,
            disk_total_bytes: room.total,
            active_jobs,
            ..WorkerMetrics::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            metrics.cpu_percent = f64::from(system.global_cpu_usage().clamp(0.0, 100.0));
            metrics.memory_total_bytes = system.total_memory();
            metrics.memory_bytes = self.process.map_or(0, |process| resident(system, process));
        }
        metrics
    }
}

fn resident(system: &mut System, process: Pid) -> u64 {
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[process]), false, memory);
    system.process(process).map_or(0, sysinfo::Process::memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_plausible() {
        let metrics = Vitals::new().measure(Path::new("/"), 3);
        assert!((0.0..=100.0).contains(&metrics.cpu_percent));
        assert!(
            metrics.memory_bytes > 1 << 20 && metrics.memory_bytes < metrics.memory_total_bytes,
            "{metrics:?}"
        );
        assert!(metrics.disk_total_bytes > 0 && metrics.disk_free_bytes <= metrics.disk_total_bytes);
        assert_eq!(metrics.active_jobs, 3);
    }

    #[test]
    fn a_missing_path_has_no_room() {
        assert!(room(Path::new("/nowhere/at/all")).is_err());
    }
}
