//! Progress for programs: JSON Lines on standard error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xvault::core::{EntryPath, Phase, Progress, Warning};

/// At most one progress line in this time.
const INTERVAL: Duration = Duration::from_millis(500);

/// Writes `{"event": "phase" | "progress" | "warning" | "note", …}`.
#[derive(Debug, Default)]
pub(super) struct Events {
    entries: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    last: Mutex<Option<Instant>>,
}

fn write(event: &Value) {
    super::write_stderr(&event.to_string());
}

impl Events {
    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Progress for Events {
    fn phase(&self, phase: Phase, total_bytes: Option<u64>) {
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.total_bytes.store(total_bytes.unwrap_or(0), Ordering::Relaxed);
        write(&json!({"event": "phase", "phase": phase.as_str(), "total_bytes": total_bytes}));
    }

    fn entry(&self, _: &EntryPath) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self, count: u64) {
        let bytes = self.bytes.fetch_add(count, Ordering::Relaxed) + count;
        if self.is_due() {
            let total = Some(self.total_bytes.load(Ordering::Relaxed)).filter(|total| *total > 0);
            let entries = self.entries.load(Ordering::Relaxed);
            write(&json!({"event": "progress", "entries": entries, "bytes": bytes, "total_bytes": total}));
        }
    }

    fn warning(&self, warning: &Warning) {
        let Warning { path, code, message } = warning;
        write(
            &json!({"event": "warning", "path": path.to_string(), "code": code.as_str(), "message": message}),
        );
    }

    fn note(&self, message: &str) {
        write(&json!({"event": "note", "message": message}));
    }
}
