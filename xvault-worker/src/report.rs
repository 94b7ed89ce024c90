//! What a running job tells the hub: how far it is, and the lines of its log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use xvault::core::protocol::{JobProgress, LogLevel};
use xvault::core::{EntryPath, JobId, Phase, Progress, Warning, clock};

use crate::hub::{self, Hub};
use crate::lease::Lease;
use crate::log_buffer::LogBuffer;

/// How often progress is told while it changes.
const EVERY: Duration = Duration::from_secs(2);
/// How long the last lines of a log may take.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Between two attempts at them.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(500);
/// Things that could not be read and are named in the log; the index of the snapshot names all of them.
const MAX_NAMED_WARNINGS: u64 = 300;

/// Watches one job. What it sees is sent by [`send`] and [`finish`].
#[derive(Debug)]
pub(crate) struct Report {
    phase: Mutex<(Phase, Option<u64>)>,
    bytes: AtomicU64,
    entries: AtomicU64,
    warnings: AtomicU64,
    /// All bytes of content pulled, whatever came after.
    pulled: AtomicU64,
    log: Mutex<LogBuffer>,
    told: Mutex<JobProgress>,
    wake: Notify,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            phase: Mutex::new((Phase::Connect, None)),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            warnings: AtomicU64::new(0),
            pulled: AtomicU64::new(0),
            log: Mutex::default(),
            told: Mutex::default(),
            wake: Notify::new(),
        }
    }
}

impl Report {
    /// Adds a line to the job's log.
    pub(crate) fn line(&self, level: LogLevel, message: &str) {
        lock(&self.log).push(clock::now(), level, message);
    }

    /// How far the job is.
    pub(crate) fn progress(&self) -> JobProgress {
        let (phase, total_bytes) = *lock(&self.phase);
        JobProgress {
            phase: phase.as_str().to_owned(),
            bytes: self.bytes.load(Ordering::Relaxed),
            total_bytes,
            entries: self.entries.load(Ordering::Relaxed),
            warnings: self.warnings.load(Ordering::Relaxed),
        }
    }

    /// Bytes of content that came from the source.
    pub(crate) fn pulled_bytes(&self) -> u64 {
        self.pulled.load(Ordering::Relaxed)
    }

    /// Says how many warnings the log does not name.
    pub(crate) fn sum_up(&self) {
        let unnamed = self.warnings.load(Ordering::Relaxed).saturating_sub(MAX_NAMED_WARNINGS);
        if unnamed > 0 {
            let message = format!("{unnamed} more things could not be read; the snapshot's index names all");
            self.line(LogLevel::Warn, &message);
        }
    }
}

impl Progress for Report {
    fn phase(&self, phase: Phase, total_bytes: Option<u64>) {
        *lock(&self.phase) = (phase, total_bytes);
        self.bytes.store(0, Ordering::Relaxed);
        // The hub turns the job to finalizing by this, so it is told at once.
        self.wake.notify_one();
    }

    fn entry(&self, _: &EntryPath) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        if lock(&self.phase).0 == Phase::Backup {
            self.pulled.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn warning(&self, warning: &Warning) {
        if self.warnings.fetch_add(1, Ordering::Relaxed) < MAX_NAMED_WARNINGS {
            self.line(LogLevel::Warn, &format!("{}: {}", warning.path, warning.message));
        }
    }

    fn note(&self, message: &str) {
        self.line(LogLevel::Info, message);
    }

    fn caution(&self, message: &str) {
        self.line(LogLevel::Warn, message);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where reports go.
#[derive(Clone, Copy)]
pub(crate) struct Wire<'a> {
    /// To whom.
    pub(crate) hub: &'a Hub,
    /// About which job.
    pub(crate) job_id: &'a JobId,
    /// By what right.
    pub(crate) lease: &'a Lease,
}

/// Sends what `report` has seen every two seconds, and at once when a phase begins, until `closing`.
pub(crate) async fn send(wire: Wire<'_>, report: &Report, closing: &CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = report.wake.notified() => {}
            _ = tick.tick() => {}
        }
        // What does not arrive goes with the next round, or at the end.
        tokio::select! { biased; () = closing.cancelled() => return, _ = flush(wire, report) => {} }
    }
}

/// Sends what is left, for a while. False when the hub was not reached.
pub(crate) async fn finish(wire: Wire<'_>, report: &Report) -> bool {
    let all = async {
        while let Err(hub::Error::Unreachable { .. }) = flush(wire, report).await {
            tokio::time::sleep(LAST_WORDS_PAUSE).await;
        }
    };
    timeout(LAST_WORDS, all).await.is_ok()
}

async fn flush(wire: Wire<'_>, report: &Report) -> Result<(), hub::Error> {
    let progress = report.progress();
    if *lock(&report.told) != progress {
        let asked_at = Instant::now();
        let answer = wire.hub.progress(wire.job_id, wire.lease.token(), &progress).await;
        wire.lease.heed(asked_at, &answer);
        answer?;
        *lock(&report.told) = progress;
    }
    flush_log(wire, report).await
}

async fn flush_log(wire: Wire<'_>, report: &Report) -> Result<(), hub::Error> {
    loop {
        let lines = lock(&report.log).batch(clock::now()).to_vec();
        if lines.is_empty() {
            return Ok(());
        }
        let asked_at = Instant::now();
        let answer = wire.hub.logs(wire.job_id, wire.lease.token(), lines).await;
        wire.lease.heed(asked_at, &answer);
        match answer {
            Ok(_) => lock(&report.log).sent(),
            Err(error @ hub::Error::Refused { .. }) => {
                // They would be refused for ever, and hold up those that come after.
                tracing::warn!(%error, "the hub does not take lines of the job's log");
                lock(&report.log).sent();
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use xvault::core::WarningCode;

    fn warning() -> Warning {
        let path = EntryPath::from_source(b"/srv/x").unwrap().unwrap();
        Warning { path, code: WarningCode::Unreadable, message: "permission denied".into() }
    }

    #[test]
    fn bytes_count_from_each_phase_and_pulled_ones_stay() {
        let report = Report::default();
        assert_eq!(report.progress().phase, "connect");
        report.phase(Phase::Backup, Some(100));
        report.bytes(60);
        report.phase(Phase::ReadBack, Some(60));
        report.bytes(7);
        let progress = report.progress();
        assert_eq!(
            (progress.phase.as_str(), progress.bytes, progress.total_bytes),
            ("read_back", 7, Some(60))
        );
        assert_eq!(report.pulled_bytes(), 60);
    }

    #[test]
    fn a_million_warnings_are_a_few_hundred_lines_and_a_number() {
        let report = Report::default();
        for _ in 0..MAX_NAMED_WARNINGS + 12 {
            report.warning(&warning());
        }
        report.sum_up();
        let lines = lock(&report.log).batch(Timestamp::UNIX_EPOCH).to_vec();
        assert_eq!(lines.len() as u64, MAX_NAMED_WARNINGS + 1);
        assert_eq!(lines[0].message, "srv/x: permission denied");
        assert!(lines.last().unwrap().message.starts_with("12 more things"), "{:?}", lines.last());
        assert_eq!(report.progress().warnings, MAX_NAMED_WARNINGS + 12);
    }
}
