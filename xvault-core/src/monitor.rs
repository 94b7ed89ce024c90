//! Progress: what long work tells whoever watches.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::entry::{EntryPath, Warning};

/// The stretches of a job, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Connecting and looking at the configured paths.
    Connect,
    /// Pulling, encrypting and storing.
    Backup,
    /// Reading the stored snapshot back and comparing.
    ReadBack,
    /// Writing files to the target.
    Restore,
    /// Reading a snapshot to check it.
    Verify,
    /// Copying a snapshot, as it is, into another store.
    Copy,
}

impl Phase {
    /// Its word in the protocol and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Backup => "backup",
            Self::ReadBack => "read_back",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Copy => "copy",
        }
    }
}

/// Watches a job. Called from several threads, often, and must not block.
pub trait Progress: Send + Sync {
    /// A new stretch begins. `total_bytes` is the expected sum of [`Progress::bytes`], where it is known.
    fn phase(&self, phase: Phase, total_bytes: Option<u64>);
    /// Work on this entry begins.
    fn entry(&self, path: &EntryPath);
    /// So many bytes of content were handled since the last call.
    fn bytes(&self, count: u64);
    /// Something could not be read whole.
    fn warning(&self, warning: &Warning);
    /// Something a person should know that is no fault: a reconnect, a fallback.
    fn note(&self, message: &str);
    /// Something that went wrong, and costs no backup; a note where nobody tells them apart.
    fn caution(&self, message: &str) {
        self.note(message);
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: Phase, _: Option<u64>) {}
    fn entry(&self, _: &EntryPath) {}
    fn bytes(&self, _: u64) {}
    fn warning(&self, _: &Warning) {}
    fn note(&self, _: &str) {}
}

/// Remembers everything, for tests.
#[derive(Debug, Default)]
pub struct Recorder {
    phases: Mutex<Vec<Phase>>,
    entries: AtomicU64,
    bytes: AtomicU64,
    warnings: Mutex<Vec<Warning>>,
    notes: Mutex<Vec<String>>,
}

fn snapshot<T: Clone>(list: &Mutex<Vec<T>>) -> Vec<T> {
    list.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    list.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(item);
}

impl Recorder {
    /// The phases seen, in order.
    pub fn phases(&self) -> Vec<Phase> {
        snapshot(&self.phases)
    }
    /// How many entries were begun.
    pub fn entry_count(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }
    /// The sum of all reported bytes.
    pub fn byte_count(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
    /// The warnings seen, in order.
    pub fn warnings(&self) -> Vec<Warning> {
        snapshot(&self.warnings)
    }
    /// The notes seen, in order.
    pub fn notes(&self) -> Vec<String> {
        snapshot(&self.notes)
    }
}

impl Progress for Recorder {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        push(&self.phases, phase);
    }
    fn entry(&self, _: &EntryPath) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }
    fn bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }
    fn warning(&self, warning: &Warning) {
        push(&self.warnings, warning.clone());
    }
    fn note(&self, message: &str) {
        push(&self.notes, message.to_owned());
    }
}
