//! The one way from a connector to the sink: counts, throttles, reports, and keeps promised sizes.

use bytes::Bytes;
use xvault_core::snapshot::{ContentSummary, Evidence};
use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, Warning, WarningCode};

use super::PullSummary;
use crate::{Control, Error};

/// Zeros for padding, shared by every chunk.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// More than this is never padded: a server that promised it and gave nothing is lying.
const MAX_PADDING: u64 = 1 << 40;

/// What every connector pushes its entries through.
///
/// It holds a file's body to the size that its entry promised (too much is cut, too little is
/// padded with zeros, both with a warning), counts, reports progress, keeps the bandwidth limit
/// and notices cancellation. Connectors thus behave alike.
pub struct Emitter<'a> {
    sink: &'a mut dyn EntrySink,
    control: &'a Control,
    content: ContentSummary,
    body: Option<Body>,
}

struct Body {
    path: EntryPath,
    promised: Option<u64>,
    delivered: u64,
    grew: bool,
}

impl<'a> Emitter<'a> {
    /// Pushes into `sink` under `control`.
    pub fn new(sink: &'a mut dyn EntrySink, control: &'a Control) -> Self {
        Self { sink, control, content: ContentSummary::default(), body: None }
    }

    /// The job's control.
    #[must_use]
    pub fn control(&self) -> &'a Control {
        self.control
    }

    /// Begins an entry; a `File` or `Stream` takes [`Emitter::data`] until [`Emitter::end`].
    ///
    /// # Errors
    /// When the sink fails or the job is cancelled.
    pub async fn begin(&mut self, entry: Entry) -> Result<(), Error> {
        self.control.check()?;
        self.control.progress().entry(&entry.path);
        match &entry.kind {
            EntryKind::Directory => self.content.directories += 1,
            EntryKind::File { .. } | EntryKind::Stream => self.content.files += 1,
            EntryKind::Symlink { .. } => self.content.symlinks += 1,
            EntryKind::Hardlink { .. } => self.content.hardlinks += 1,
        }
        let promised = match entry.kind {
            EntryKind::File { size } => Some(size),
            _ => None,
        };
        if entry.has_body() {
            self.body = Some(Body { path: entry.path.clone(), promised, delivered: 0, grew: false });
        }
        self.sink.begin(entry).await.map_err(Error::from)
    }

    /// A directory, a link, or an empty file: complete with one call.
    ///
    /// # Errors
    /// As [`Emitter::begin`].
    pub async fn whole(&mut self, entry: Entry) -> Result<(), Error> {
        let has_body = entry.has_body();
        self.begin(entry).await?;
        if has_body { self.end().await } else { Ok(()) }
    }

    /// The next part of the current body. What exceeds the promised size is dropped, and [`Emitter::end`] will warn.
    ///
    /// # Errors
    /// When the sink fails or the job is cancelled.
    pub async fn data(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        let Some(body) = &mut self.body else { return Ok(()) };
        if let Some(promised) = body.promised {
            let room = usize::try_from(promised - body.delivered).unwrap_or(usize::MAX);
            if chunk.len() > room {
                body.grew = true;
                chunk.truncate(room);
            }
        }
        if chunk.is_empty() {
            return Ok(());
        }
        let count = chunk.len() as u64;
        body.delivered += count;
        self.control.throttle(count).await?;
        self.content.bytes += count;
        self.sink.data(chunk).await?;
        self.control.progress().bytes(count);
        Ok(())
    }

    /// How many bytes of the current body the sink has.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.delivered)
    }

    /// Ends the current body, padded to its promised size.
    ///
    /// # Errors
    /// When the sink fails, the job is cancelled, or more than 1 TiB would have to be padded.
    pub async fn end(&mut self) -> Result<(), Error> {
        let Some(body) = self.body.take() else { return Ok(()) };
        let missing = body.promised.map_or(0, |promised| promised - body.delivered);
        if missing > MAX_PADDING {
            let promised = body.delivered.saturating_add(missing);
            return Err(Error::Incomplete(format!(
                "`{}` was promised with {promised} bytes and ended after {}",
                body.path, body.delivered
            )));
        }
        self.pad(missing).await?;
        self.sink.end().await?;
        if missing > 0 {
            let message =
                format!("became {missing} bytes shorter while it was read; the end is padded with zeros");
            self.warn(body.path, WarningCode::Shrunk, message).await
        } else if body.grew {
            let message = "became longer while it was read; only the size it had at first is kept";
            self.warn(body.path, WarningCode::Grew, message).await
        } else {
            Ok(())
        }
    }

    async fn pad(&mut self, mut missing: u64) -> Result<(), Error> {
        while missing > 0 {
            self.control.check()?;
            let count = usize::try_from(missing).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.sink.data(Bytes::from_static(ZEROS.get(..count).unwrap_or(&ZEROS))).await?;
            self.content.bytes += count as u64;
            self.control.progress().bytes(count as u64);
            missing -= count as u64;
        }
        Ok(())
    }

    /// Records what could not be read; the snapshot is partial from now on.
    ///
    /// # Errors
    /// When the sink fails.
    pub async fn warn(
        &mut self,
        path: EntryPath,
        code: WarningCode,
        message: impl Into<String>,
    ) -> Result<(), Error> {
        let warning = Warning { path, code, message: message.into() };
        self.content.warnings += 1;
        self.control.progress().warning(&warning);
        self.sink.warning(warning).await.map_err(Error::from)
    }

    /// Counts a socket, pipe or device node, which no archive keeps.
    pub fn skip_special(&mut self) {
        self.content.skipped += 1;
    }

    /// The numbers so far.
    #[must_use]
    pub fn content(&self) -> &ContentSummary {
        &self.content
    }

    /// Closes the pull with its proof.
    #[must_use]
    pub fn finish(self, evidence: Evidence) -> PullSummary {
        PullSummary { content: self.content, evidence }
    }
}
