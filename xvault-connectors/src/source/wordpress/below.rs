//! A sink that puts all entries below a directory.

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, SinkError, Warning};

use super::astray::Watch;

/// Passes on what it is given, with other paths, and shows the links.
pub(super) struct Below<'a> {
    folder: &'static str,
    watch: &'a mut Watch,
    sink: &'a mut dyn EntrySink,
}

impl<'a> Below<'a> {
    pub(super) fn new(folder: &'static str, watch: &'a mut Watch, sink: &'a mut dyn EntrySink) -> Self {
        Self { folder, watch, sink }
    }

    /// The names that links lead to are theirs, and stay; second names lead to entries, and move with them.
    fn moved(&self, path: &EntryPath) -> Result<EntryPath, SinkError> {
        moved(self.folder, path)
    }
}

/// The path below `folder`.
pub(super) fn moved(folder: &str, path: &EntryPath) -> Result<EntryPath, SinkError> {
    EntryPath::new([folder.as_bytes(), b"/", path.as_bytes()].concat())
        .map_err(|error| SinkError::misuse(error.to_string()))
}

#[async_trait]
impl EntrySink for Below<'_> {
    async fn begin(&mut self, mut entry: Entry) -> Result<(), SinkError> {
        if let EntryKind::Symlink { target } = &entry.kind {
            self.watch.see(&entry.path, target);
        }
        entry.path = self.moved(&entry.path)?;
        if let EntryKind::Hardlink { target } = &mut entry.kind {
            *target = self.moved(target)?;
        }
        self.sink.begin(entry).await
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        self.sink.data(chunk).await
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.sink.end().await
    }

    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        let path = self.moved(&warning.path)?;
        self.sink.warning(Warning { path, ..warning }).await
    }
}
