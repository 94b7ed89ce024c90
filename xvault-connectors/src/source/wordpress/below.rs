//! A sink that puts all entries below a directory.

use async_trait::async_trait;
use bytes::Bytes;
use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, SinkError, Warning};

use super::astray::Watch;
use crate::Control;
use crate::source::link::Link;

/// Passes on what it is given, with other paths, and shows the links.
pub(super) struct Below<'a> {
    pub(super) folder: &'static str,
    pub(super) watch: &'a mut Watch,
    /// By which the server is asked about them.
    pub(super) link: &'a mut Link,
    pub(super) sink: &'a mut dyn EntrySink,
    pub(super) control: &'a Control,
}

impl Below<'_> {
    /// The names that links lead to are theirs, and stay; second names lead to entries, and move with them.
    fn moved(&self, path: &EntryPath) -> Result<EntryPath, SinkError> {
        moved(self.folder, path)
    }

    async fn see(&mut self, path: &EntryPath, target: Option<&[u8]>) {
        self.watch.see(path, target);
        if self.watch.is_full() {
            let look = async {
                self.watch.look(self.link).await;
                Ok(())
            };
            // Whoever has cancelled the job is told so by what comes next.
            let _ = self.control.run(look).await;
        }
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
        match &entry.kind {
            EntryKind::Symlink { target } => self.see(&entry.path, Some(target)).await,
            EntryKind::Hardlink { .. } => self.see(&entry.path, None).await,
            _ => {}
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
