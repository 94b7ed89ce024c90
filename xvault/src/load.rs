//! A dump out of a snapshot into a database.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::mpsc;

use xvault_connectors::database::{DumpReader, DumpWriter, Loaded, Trial, dump_channel};
use xvault_connectors::{Control, DatabaseLoad, Scratch};
use xvault_core::{EntryKind, EntryPath};

use crate::{Error, Snapshot};

/// The directory that sources which are databases put their dumps in.
const DUMPS: &[u8] = b"database";

impl Snapshot<'_> {
    /// Loads the dump at `path` into a database. The end of the dump is held back until its content is proven, so that damage
    /// is never taken for a whole dump.
    ///
    /// # Errors
    /// When there is no such dump, it is damaged, or the database does not take it: see [`DatabaseLoad::load`].
    pub async fn load(
        &self,
        path: &EntryPath,
        load: &DatabaseLoad,
        control: &Control,
    ) -> Result<Loaded, Error> {
        self.pour(path, control, |dump| async { load.load(dump, control).await }).await
    }

    /// Loads the dump at `path` into a new database of `scratch`, counts what is in it, and drops it again: the proof that a
    /// dump can be restored.
    ///
    /// # Errors
    /// When there is no such dump or it is damaged; and see [`Scratch::trial`].
    pub async fn try_load(
        &self,
        path: &EntryPath,
        scratch: &Scratch,
        control: &Control,
    ) -> Result<Trial, Error> {
        self.pour(path, control, |dump| async { scratch.trial(dump, control).await }).await
    }

    /// The dumps of databases that it holds, `most` of them at most, in the order of the artifact. Reads the index only.
    ///
    /// # Errors
    /// As [`Snapshot::entries`].
    pub async fn dumps(&self, most: usize) -> Result<Vec<EntryPath>, Error> {
        let (sender, dumps) = mpsc::sync_channel(most);
        self.entries(move |entry| {
            let is_file = matches!(entry.entry.kind, EntryKind::File { .. } | EntryKind::Stream);
            let is_dump = is_file && entry.entry.path.parent().is_some_and(|dir| dir.as_bytes() == DUMPS);
            match is_dump && sender.try_send(entry.entry.path).is_err() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .await?;
        Ok(dumps.into_iter().collect())
    }

    /// Whether there is an entry of that path. Reads the index only.
    ///
    /// # Errors
    /// As [`Snapshot::entries`].
    pub async fn holds(&self, path: &EntryPath) -> Result<bool, Error> {
        let (path, (sender, found)) = (path.clone(), mpsc::sync_channel(1));
        self.entries(move |entry| match entry.entry.path == path && sender.try_send(()).is_ok() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
        .await?;
        Ok(found.try_recv().is_ok())
    }

    async fn pour<T, F>(
        &self,
        path: &EntryPath,
        control: &Control,
        load: impl FnOnce(DumpReader) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, xvault_connectors::Error>>,
    {
        let (writer, reader) = dump_channel();
        let (read, loaded) = tokio::join!(self.read_out(path, writer, control), load(reader));
        match read {
            // Whoever loads has gone, and says why.
            Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            read => read?,
        }
        loaded.map_err(Error::Target)
    }

    async fn read_out(&self, path: &EntryPath, writer: DumpWriter, control: &Control) -> Result<(), Error> {
        // What is loaded is reported once: by the loader.
        let silent = Control::default().with_cancel(control.cancel_token().clone());
        self.cat(path, writer.clone(), &silent).await?;
        writer.finished().await;
        Ok(())
    }
}
