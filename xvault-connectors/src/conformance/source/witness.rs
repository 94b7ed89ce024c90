//! A sink that checks the grammar of what it gets, and has moods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio_util::sync::CancellationToken;
use xvault_core::snapshot::ContentSummary;
use xvault_core::{Dispose, Disposition, Entry, EntryKind, EntryPath, EntrySink, SinkError, Warning};

use crate::PullSummary;

/// How the sink behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temper {
    /// Takes everything at once.
    Calm,
    /// Takes its time with each entry.
    Slow,
    /// Has the job cancelled with the first entry.
    Cancels,
    /// Holds the first entry up, and has the job cancelled meanwhile.
    CancelsLater,
    /// Fails with the first entry.
    BreaksFor(Disposition),
    /// Takes the first entry, and never comes back.
    Stuck,
}

/// What was got.
pub(super) struct Seen {
    /// Every entry, with its body if it has one.
    pub(super) entries: Vec<(Entry, Option<Body>)>,
    pub(super) content: ContentSummary,
    warnings: Vec<Warning>,
}

impl Seen {
    /// The paths of the warnings.
    pub(super) fn warned(&self) -> Vec<String> {
        self.warnings.iter().map(|warning| warning.path.to_string()).collect()
    }
}

/// A body that has passed.
#[derive(Clone)]
pub(super) struct Body {
    length: u64,
    hash: Context,
}

impl Body {
    /// SHA-256 of its bytes.
    pub(super) fn hash(&self) -> Vec<u8> {
        self.hash.clone().finish().as_ref().to_vec()
    }
}

/// Checks everything that it gets.
pub(super) struct Witness {
    temper: Temper,
    cancel: CancellationToken,
    seen: Seen,
    is_open: bool,
    /// Where each entry came, to know directories from files.
    places: BTreeMap<EntryPath, usize>,
    /// Directories that something lay in before they came.
    needed: BTreeSet<EntryPath>,
}

impl Default for Witness {
    fn default() -> Self {
        Self::new(Temper::Calm)
    }
}

/// The failure that a sink is told to have.
#[derive(Debug, thiserror::Error)]
#[error("the sink is told to fail")]
struct Told(Disposition);

impl Dispose for Told {
    fn disposition(&self) -> Disposition {
        self.0
    }
}

impl Witness {
    pub(super) fn new(temper: Temper) -> Self {
        Self::cancelling(temper, CancellationToken::new())
    }

    /// One that cancels by this.
    pub(super) fn cancelling(temper: Temper, cancel: CancellationToken) -> Self {
        let seen = Seen { entries: Vec::new(), content: ContentSummary::default(), warnings: Vec::new() };
        Self { temper, cancel, seen, is_open: false, places: BTreeMap::new(), needed: BTreeSet::new() }
    }

    /// What was got, whole. What has no content is for the source alone to count.
    pub(super) fn finish(mut self, summary: &PullSummary) -> Seen {
        assert!(!self.is_open, "the last body was not ended");
        self.seen.content.skipped = summary.content.skipped;
        self.seen
    }

    async fn react(&self) -> Result<(), SinkError> {
        match self.temper {
            Temper::Calm => {}
            Temper::Slow => tokio::time::sleep(Duration::from_millis(2)).await,
            Temper::Cancels => self.cancel.cancel(),
            Temper::CancelsLater => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.cancel.cancel();
            }
            Temper::BreaksFor(disposition) => return Err(SinkError::new("write", Told(disposition))),
            Temper::Stuck => std::future::pending().await,
        }
        Ok(())
    }

    fn check(&mut self, entry: &Entry) {
        let path = &entry.path;
        assert!(!self.is_open, "{path} begins within another's body");
        assert!(!self.places.contains_key(path), "{path} comes twice");
        assert!(!self.needed.contains(path), "{path} comes after what lies in it");
        if let Some(parent) = path.parent() {
            match self.places.get(&parent).and_then(|at| self.seen.entries.get(*at)) {
                Some((above, _)) => {
                    assert_eq!(above.kind, EntryKind::Directory, "{path} lies in what is no directory");
                }
                // Where a configured path begins, what is above it never comes.
                None => self.need(parent),
            }
        }
        if let EntryKind::Hardlink { target } = &entry.kind {
            let first = self.places.get(target).and_then(|at| self.seen.entries.get(*at));
            let is_file = first.is_some_and(|(entry, _)| matches!(entry.kind, EntryKind::File { .. }));
            assert!(is_file, "{path} is another name of {target}, which is no file that came before");
        }
        assert!(entry.metadata.mode <= 0o7777, "{path} has mode {:o}", entry.metadata.mode);
        assert!(entry.metadata.mtime.nanos < 1_000_000_000, "{path} has odd nanoseconds");
    }

    fn need(&mut self, mut directory: EntryPath) {
        while self.needed.insert(directory.clone()) {
            match directory.parent() {
                Some(parent) if !self.places.contains_key(&parent) => directory = parent,
                _ => break,
            }
        }
    }

    fn count(&mut self, kind: &EntryKind) {
        let content = &mut self.seen.content;
        match kind {
            EntryKind::Directory => content.directories += 1,
            EntryKind::File { .. } | EntryKind::Stream => content.files += 1,
            EntryKind::Symlink { .. } => content.symlinks += 1,
            EntryKind::Hardlink { .. } => content.hardlinks += 1,
        }
    }
}

#[async_trait]
impl EntrySink for Witness {
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.check(&entry);
        self.count(&entry.kind);
        self.is_open = entry.has_body();
        self.places.insert(entry.path.clone(), self.seen.entries.len());
        let body = entry.has_body().then(|| Body { length: 0, hash: Context::new(&SHA256) });
        self.seen.entries.push((entry, body));
        self.react().await
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        assert!(self.is_open, "data outside of a body");
        self.seen.content.bytes += chunk.len() as u64;
        if let Some((_, Some(body))) = self.seen.entries.last_mut() {
            body.length += chunk.len() as u64;
            body.hash.update(&chunk);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        assert!(std::mem::take(&mut self.is_open), "an end without a body");
        if let Some((entry, Some(body))) = self.seen.entries.last()
            && let EntryKind::File { size } = entry.kind
        {
            assert_eq!(body.length, size, "{} is as long as it was promised", entry.path);
        }
        Ok(())
    }

    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        assert!(!warning.message.is_empty(), "a warning says what is wrong");
        self.seen.content.warnings += 1;
        self.seen.warnings.push(warning);
        Ok(())
    }
}
