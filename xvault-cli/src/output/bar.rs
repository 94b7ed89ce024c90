//! Progress for people: a bar with rate and time left, and warnings as they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use xvault::core::{EntryPath, Phase, Progress, Warning};

/// More warnings than this are counted, not printed: the index keeps them all.
const MAX_WARNINGS: u64 = 100;

const WITH_TOTAL: &str =
    "{prefix} [{bar:30}] {bytes} of about {total_bytes}, {bytes_per_sec}, {eta} left, {msg}";
const WITHOUT_TOTAL: &str = "{prefix} {spinner} {bytes}, {bytes_per_sec}, {elapsed}, {msg}";

/// Draws on standard error when that is a terminal; prints warnings and notes in any case.
#[derive(Clone)]
pub(super) struct Bar {
    bar: ProgressBar,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    entries: AtomicU64,
    warnings: AtomicU64,
    style: Mutex<Option<bool>>,
}

impl Bar {
    pub(super) fn new(terminal: bool) -> Self {
        let target =
            if terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Self { bar: ProgressBar::with_draw_target(None, target), state: Arc::default() }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn print(&self, line: &str) {
        self.bar.suspend(|| super::write_stderr(line));
    }

    fn style(&self, has_total: bool) {
        let mut current = self.state.style.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == Some(has_total) {
            return;
        }
        let template = if has_total { WITH_TOTAL } else { WITHOUT_TOTAL };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        *current = Some(has_total);
    }
}

fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Connect => "connecting",
        Phase::Backup => "backing up",
        Phase::ReadBack => "reading back",
        Phase::Restore => "restoring",
        Phase::Verify => "verifying",
        Phase::Copy => "copying",
    }
}

impl Progress for Bar {
    fn phase(&self, phase: Phase, total_bytes: Option<u64>) {
        self.style(total_bytes.is_some());
        self.bar.reset();
        self.state.entries.store(0, Ordering::Relaxed);
        if let Some(total) = total_bytes {
            self.bar.set_length(total);
        }
        self.bar.set_prefix(verb(phase));
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn entry(&self, _: &EntryPath) {
        let count = self.state.entries.fetch_add(1, Ordering::Relaxed) + 1;
        // A message takes a lock and an allocation: not for each of a million files.
        if count.is_multiple_of(64) || count < 64 {
            self.bar.set_message(format!("{count} entries"));
        }
    }

    fn bytes(&self, count: u64) {
        self.bar.inc(count);
        // An estimate that proved too small is no estimate any more.
        if self.bar.length().is_some_and(|total| self.bar.position() > total) {
            self.bar.unset_length();
            self.style(false);
        }
    }

    fn warning(&self, warning: &Warning) {
        let count = self.state.warnings.fetch_add(1, Ordering::Relaxed) + 1;
        if count <= MAX_WARNINGS {
            self.print(&format!("warning: {}: {}", warning.path, warning.message));
        } else if count == MAX_WARNINGS + 1 {
            self.print("warning: more follow; all of them are in the snapshot's index");
        }
    }

    fn note(&self, message: &str) {
        self.print(message);
    }
}
