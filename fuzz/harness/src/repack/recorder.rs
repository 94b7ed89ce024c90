//! Runs the re-packer into a sink that remembers and checks the grammar of calls.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::{Entry, EntryPath, EntrySink, SinkError, Warning};

use super::case::Case;

/// An entry that was handed on.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    /// The number of the stream that it came with.
    pub(super) stream: usize,
    pub(super) entry: Entry,
    pub(super) body: Vec<u8>,
    /// Whether its body, if it has one, was ended.
    pub(super) is_whole: bool,
}

/// What a pull came to.
#[derive(Debug, PartialEq)]
pub(super) struct Story {
    pub(super) kept: Vec<Kept>,
    pub(super) warned: HashSet<EntryPath>,
    pub(super) end: Result<u64, String>,
}

/// Re-packs `streams`, each in the pieces that `cut` makes of it.
#[expect(clippy::expect_used, reason = "without a runtime nothing can be tested")]
pub(super) fn run(case: &Case, streams: &[&[u8]], cut: fn(&[u8]) -> Vec<Bytes>) -> Story {
    let stream = Arc::new(AtomicUsize::new(0));
    let mut recorder = Recorder { stream: Arc::clone(&stream), kept: Vec::new(), warned: HashSet::new() };
    let due = streams.iter().enumerate().map(|(number, bytes)| {
        stream.store(number, Ordering::Relaxed);
        cut(bytes)
    });
    let repacked = xvault_connectors::source::repack(&case.roots, &case.globs, due, &mut recorder);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let end = runtime.block_on(repacked).map_err(|error| error.to_string());
    Story { kept: recorder.kept, warned: recorder.warned, end }
}

struct Recorder {
    stream: Arc<AtomicUsize>,
    kept: Vec<Kept>,
    warned: HashSet<EntryPath>,
}

impl Recorder {
    #[expect(clippy::expect_used, reason = "a body without an entry is what this looks for")]
    fn open(&mut self) -> &mut Kept {
        self.kept.last_mut().filter(|kept| !kept.is_whole).expect("a body belongs to an entry")
    }
}

#[async_trait]
impl EntrySink for Recorder {
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError> {
        assert!(self.kept.last().is_none_or(|kept| kept.is_whole), "{:?} begins inside a body", entry.path);
        let stream = self.stream.load(Ordering::Relaxed);
        self.kept.push(Kept { stream, is_whole: !entry.has_body(), entry, body: Vec::new() });
        Ok(())
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        self.open().body.extend_from_slice(&chunk);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.open().is_whole = true;
        Ok(())
    }

    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        self.warned.insert(warning.path);
        Ok(())
    }
}
