//! A dump out of a snapshot into a database.

use std::io::ErrorKind;

use xvault_connectors::database::{DumpReader, DumpWriter, Loaded, Trial, dump_channel};
use xvault_connectors::{Control, DatabaseLoad};
use xvault_core::EntryPath;

use crate::{Error, Snapshot};

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

    /// Loads the dump at `path` into a new database beside that of `load`, counts what is in it, and drops it again: the
    /// proof that a dump can be restored.
    ///
    /// # Errors
    /// As [`Snapshot::load`].
    pub async fn try_load(
        &self,
        path: &EntryPath,
        load: &DatabaseLoad,
        control: &Control,
    ) -> Result<Trial, Error> {
        self.pour(path, control, |dump| async { load.trial(dump, control).await }).await
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
