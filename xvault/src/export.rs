//! From a store to somebody who has no xVault: a tar, tar.zst or zip, or one file.

use std::io::Write;

use tokio::sync::oneshot;
use xvault_archive::{Error as ArchiveError, Exported, Watch};
use xvault_connectors::Control;
use xvault_core::{EntryPath, ExportFormat, Mtime};

use crate::bridge::{ByteStream, stoppable, stream};
use crate::snapshot::{Fetched, copy};
use crate::{Error, Snapshot, media_type};

/// One file of a snapshot, on its way.
#[derive(Debug)]
pub struct FileStream {
    /// Its name without its directories, made harmless for a terminal.
    pub name: String,
    /// Its length in bytes: so many come, or an error.
    pub size: u64,
    /// Its last change.
    pub mtime: Mtime,
    /// Its media type by its name; `application/octet-stream` when that tells none.
    pub content_type: &'static str,
    /// Its content.
    pub body: ByteStream<Fetched>,
}

impl Snapshot<'_> {
    /// Writes the entries at or below `paths` (none: all) to `out`, on a thread. See [`xvault_archive::export()`] for
    /// what the formats keep, and for the names in a zip.
    ///
    /// # Errors
    /// A path that selects nothing, something damaged, or [`Error::Output`] when `out` fails. What was written then is
    /// recognisably not whole.
    pub async fn export(
        &self,
        format: ExportFormat,
        paths: &[EntryPath],
        mut out: impl Write + Send + 'static,
        control: &Control,
    ) -> Result<Exported, Error> {
        let watch = Watch::new(control.progress().clone());
        let (paths, watched) = (paths.to_vec(), watch.clone());
        let work = self.with_reader(control, move |mut reader, _| {
            xvault_archive::export(&mut reader, format, &paths, &mut out, &watched).map_err(told)
        });
        stoppable(control, &watch, work).await
    }
}

impl Snapshot<'static> {
    /// As [`Snapshot::export`], for a reader that awaits: an HTTP response. At most 1 MiB waits for a slow one, and
    /// dropping the stream stops the work.
    ///
    /// An error is its last item: whoever passes the stream on must break off there, not end.
    pub fn export_stream(
        self,
        format: ExportFormat,
        paths: Vec<EntryPath>,
        control: &Control,
    ) -> ByteStream<Exported> {
        stream(control, move |pipe, control| async move { self.export(format, &paths, pipe, &control).await })
    }

    /// One file, as a stream like [`Snapshot::export_stream`]'s. A second name of a file has its content.
    ///
    /// # Errors
    /// When there is no such file, or the index is damaged. Damage of the content comes with the stream.
    pub async fn file_stream(self, path: EntryPath, control: &Control) -> Result<FileStream, Error> {
        let (tell, told) = oneshot::channel();
        let name = path.name().to_vec();
        let mut body = stream(control, move |mut pipe, control| async move {
            let watched = control.clone();
            self.with_reader(&control, move |mut reader, fetched| {
                let mut body = reader.read(&path)?;
                let entry = &body.entry().entry;
                // Nobody waits any more when the stream was dropped, and then the first write says so.
                let _ = tell.send((body.entry().size(), entry.metadata.mtime));
                copy(&mut body, &mut pipe, &watched)?;
                Ok(fetched.get())
            })
            .await
        });
        let Ok((size, mtime)) = told.await else { return Err(first_error(&mut body).await) };
        let content_type = media_type::of(&name);
        Ok(FileStream { name: xvault_core::entry::display_name(&name), size, mtime, content_type, body })
    }
}

/// Why a stream ended before it began.
async fn first_error<T: Unpin>(body: &mut ByteStream<T>) -> Error {
    match futures::StreamExt::next(body).await {
        Some(Err(error)) => error,
        _ => Error::Abandoned,
    }
}

/// An output that fails is no fault of the archive.
fn told(error: ArchiveError) -> Error {
    match error {
        ArchiveError::Output(source) => Error::Output(source),
        other => Error::Archive(other),
    }
}
