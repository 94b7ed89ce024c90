//! A snapshot in a store, opened to be looked into.

use std::io::Write;
use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use xvault_archive::{ArchiveEntry, ArchiveIndex, ArchiveReader, EntryReader};
use xvault_connectors::{Control, Store};
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault_core::{EntryPath, Identity, Manifest, SnapshotKey, Warning};

use crate::Error;
use crate::bridge::{ByteCount, ObjectReader, exactly, with_objects};
use crate::objects::Stored;

/// A snapshot that exists, and the identities to read it with.
///
/// One that was opened with [`Snapshot::open_shared`] holds its store itself, and so can be streamed from a task.
#[derive(Debug, Clone)]
pub struct Snapshot<'s> {
    store: Held<'s>,
    manifest: Manifest,
    identities: Vec<Identity>,
}

/// A store that somebody else keeps, or that is kept here.
#[derive(Debug, Clone)]
enum Held<'s> {
    Borrowed(&'s dyn Store),
    Shared(Arc<dyn Store>),
}

impl<'s> Deref for Held<'s> {
    type Target = dyn Store + 's;

    fn deref(&self) -> &Self::Target {
        match self {
            Held::Borrowed(store) => *store,
            Held::Shared(store) => &**store,
        }
    }
}

/// How many bytes were fetched from the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Of the artifact.
    pub artifact_bytes: u64,
    /// Of the index.
    pub index_bytes: u64,
}

pub(crate) type Reader = ArchiveReader<ObjectReader, ObjectReader>;

impl<'s> Snapshot<'s> {
    /// Reads the manifest; whether `identities` fit is found out by the first call that needs them.
    ///
    /// # Errors
    /// When there is no such snapshot, or its manifest is damaged.
    pub async fn open(
        store: &'s dyn Store,
        key: &SnapshotKey,
        identities: Vec<Identity>,
    ) -> Result<Self, Error> {
        let manifest = xvault_connectors::snapshot::manifest(store, key).await.map_err(Error::Store)?;
        Ok(Self::of(store, manifest, identities))
    }

    /// The snapshot of a manifest that was just read from `store`.
    #[must_use]
    pub fn of(store: &'s dyn Store, manifest: Manifest, identities: Vec<Identity>) -> Self {
        Self { store: Held::Borrowed(store), manifest, identities }
    }

    /// As [`Snapshot::open`], with a store of its own.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub async fn open_shared(
        store: Arc<dyn Store>,
        key: &SnapshotKey,
        identities: Vec<Identity>,
    ) -> Result<Snapshot<'static>, Error> {
        let manifest = xvault_connectors::snapshot::manifest(&*store, key).await.map_err(Error::Store)?;
        Ok(Snapshot { store: Held::Shared(store), manifest, identities })
    }

    /// What the manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn identities(&self) -> Vec<Identity> {
        self.identities.clone()
    }

    /// Shows every entry to `visit`, in the order of the artifact, until it breaks; `visit` runs on a thread
    /// and may block. Reads the index only. A dump that was stored in parts is one entry.
    ///
    /// # Errors
    /// When the index is damaged, or encrypted to others. What was shown before an error was in order.
    pub async fn entries(
        &self,
        visit: impl FnMut(ArchiveEntry) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(), Error> {
        self.with_index(&Control::default(), move |index| show(index.entries()?, visit)).await
    }

    /// Shows to `visit` what could not be read whole when the snapshot was made, until it breaks. Reads the index only.
    ///
    /// # Errors
    /// As [`Snapshot::entries`].
    pub async fn warnings(
        &self,
        visit: impl FnMut(Warning) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(), Error> {
        self.with_index(&Control::default(), move |index| show(index.warnings()?, visit)).await
    }

    /// Writes the content of one file to `out`, on a thread. Reads the index and the frames that hold the file.
    /// A second name of a file has its content.
    ///
    /// # Errors
    /// When there is no such file, `out` fails, or something is damaged: then a part may have been written.
    pub async fn cat(
        &self,
        path: &EntryPath,
        mut out: impl Write + Send + 'static,
        control: &Control,
    ) -> Result<Fetched, Error> {
        let (path, watched) = (path.clone(), control.clone());
        self.with_reader(control, move |mut reader, fetched| {
            let mut body = reader.read(&path)?;
            copy(&mut body, &mut out, &watched)?;
            Ok(fetched.get())
        })
        .await
    }

    /// The content of one file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Snapshot::cat`], and when the file is larger.
    pub async fn read_to_vec(&self, path: &EntryPath, limit: u64) -> Result<Vec<u8>, Error> {
        let path = path.clone();
        self.with_reader(&Control::default(), move |mut reader, _| {
            let mut body = reader.read(&path)?;
            let size = body.entry().size();
            if size > limit {
                return Err(Error::TooLarge { path, size, limit });
            }
            let mut content = Vec::new();
            copy(&mut body, &mut content, &Control::default())?;
            Ok(content)
        })
        .await
    }

    /// Runs `work` on a thread with the stored index.
    pub(crate) async fn with_index<T: Send + 'static>(
        &self,
        control: &Control,
        work: impl FnOnce(&mut ArchiveIndex<ObjectReader>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let index = self.index(control).await?;
        let (key, identities) = (self.manifest.key(), self.identities.clone());
        with_objects(&[&index], control, move |readers| {
            let [index] = exactly(readers)?;
            let mut index = ArchiveIndex::open(index, &identities)?;
            index.expect_key(&key)?;
            work(&mut index)
        })
        .await
    }

    /// Runs `work` on a thread with an archive reader over the stored files.
    pub(crate) async fn with_reader<T: Send + 'static>(
        &self,
        control: &Control,
        work: impl FnOnce(Reader, Fetching) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (artifact, index) = (self.artifact(control).await?, self.index(control).await?);
        let (key, identities) = (self.manifest.key(), self.identities.clone());
        with_objects(&[&artifact, &index], control, move |readers| {
            let [artifact, index] = exactly(readers)?;
            let fetching = Fetching { artifact: artifact.fetched(), index: index.fetched() };
            let reader = ArchiveReader::open(artifact, index, &identities)?.read_ahead()?;
            reader.expect_key(&key)?;
            work(reader, fetching)
        })
        .await
    }

    async fn artifact(&self, control: &Control) -> Result<Stored<'_>, Error> {
        let (key, digest) = (self.manifest.key(), &self.manifest.artifact);
        Stored::open(&*self.store, &key, ARTIFACT_NAME, digest, control).await
    }

    pub(crate) async fn index(&self, control: &Control) -> Result<Stored<'_>, Error> {
        let (key, digest) = (self.manifest.key(), &self.manifest.index);
        Stored::open(&*self.store, &key, INDEX_NAME, digest, control).await
    }
}

/// Counts while a reader is at work.
pub(crate) struct Fetching {
    artifact: ByteCount,
    index: ByteCount,
}

impl Fetching {
    pub(crate) fn get(&self) -> Fetched {
        Fetched { artifact_bytes: self.artifact.get(), index_bytes: self.index.get() }
    }
}

fn show<T>(
    items: impl Iterator<Item = Result<T, xvault_archive::Error>>,
    mut visit: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), Error> {
    for item in items {
        if visit(item?).is_break() {
            break;
        }
    }
    Ok(())
}

pub(crate) fn copy(
    body: &mut EntryReader<'_, ObjectReader>,
    out: &mut impl Write,
    control: &Control,
) -> Result<(), Error> {
    while let Some(chunk) = body.next_chunk()? {
        control.check().map_err(Error::Source)?;
        out.write_all(&chunk).map_err(Error::Output)?;
        control.progress().bytes(chunk.len() as u64);
    }
    out.flush().map_err(Error::Output)
}
