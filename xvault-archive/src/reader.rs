//! Reading a snapshot: entries from the index, content from the frames that hold it.

mod body;

use std::io::{Read, Seek};

use xvault_core::snapshot::SnapshotKey;
use xvault_core::{EntryKind, EntryPath, Identity};

pub use body::EntryReader;

use crate::error::Error;
use crate::frames::{FrameSource, FrameTable};
use crate::index::{IndexHeader, Totals};
use crate::listing::{ArchiveEntry, ArchiveIndex, Entries};

/// Reads a snapshot whose two files can seek. Nothing in them is trusted.
///
/// Memory: one frame (4 MiB by default, 64 MiB at most) plain and one compressed, and 8 bytes for each frame.
pub struct ArchiveReader<A, I> {
    index: ArchiveIndex<I>,
    frames: FrameSource<A>,
    layout: Option<(FrameTable, Totals)>,
}

impl<A: Read + Seek, I: Read + Seek> ArchiveReader<A, I> {
    /// Opens both files: reads the index's first line and the artifact's last chunk, so that a truncated artifact is noticed now.
    ///
    /// # Errors
    /// When no identity fits a file, or one is damaged or truncated.
    pub fn open(artifact: A, index: I, identities: &[Identity]) -> Result<Self, Error> {
        let index = ArchiveIndex::open(index, identities)?;
        let frames = FrameSource::open(artifact, identities)?;
        Ok(Self { index, frames, layout: None })
    }

    /// Decrypts and decompresses on a thread of its own, one frame ahead of the caller where the next one is sure to be wanted.
    ///
    /// Memory: one frame more, unless frames are larger than 16 MiB.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn read_ahead(self) -> Result<Self, Error>
    where
        A: Send + 'static,
    {
        Ok(Self { frames: self.frames.read_ahead()?, ..self })
    }

    /// The index's first line.
    #[must_use]
    pub fn header(&self) -> &IndexHeader {
        self.index.header()
    }

    /// The index alone.
    pub fn index(&mut self) -> &mut ArchiveIndex<I> {
        &mut self.index
    }

    /// Refuses the index of another snapshot.
    ///
    /// # Errors
    /// When the index is not that of `key`.
    pub fn expect_key(&self, key: &SnapshotKey) -> Result<(), Error> {
        self.index.expect_key(key)
    }

    /// All entries, in the order in which they were written.
    ///
    /// # Errors
    /// As [`ArchiveIndex::entries`].
    pub fn entries(&mut self) -> Result<Entries<&mut I>, Error> {
        self.index.entries()
    }

    /// The index's last line.
    ///
    /// # Errors
    /// When the index is damaged, or belongs to an artifact of another length.
    pub fn totals(&mut self) -> Result<Totals, Error> {
        self.layout().map(|(_, totals)| *totals)
    }

    /// The entry of that path.
    ///
    /// # Errors
    /// As [`ArchiveIndex::find`].
    pub fn find(&mut self, path: &EntryPath) -> Result<ArchiveEntry, Error> {
        let (found, layout) = self.index.find_in_layout(path)?;
        self.keep_layout(layout)?;
        Ok(found)
    }

    /// The content of the file of that path; of a hard link, that of the file it names.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NoContent`], or a damaged index.
    pub fn read(&mut self, path: &EntryPath) -> Result<EntryReader<'_, A>, Error> {
        let entry = self.find(path)?;
        let entry = match &entry.entry.kind {
            EntryKind::Hardlink { target } => self.link_target(&entry, target)?,
            _ => entry,
        };
        match entry.entry.kind {
            EntryKind::File { .. } | EntryKind::Stream => self.read_entry(entry),
            EntryKind::Directory => Err(Error::NoContent { path: path.clone(), kind: "a directory" }),
            EntryKind::Symlink { .. } | EntryKind::Hardlink { .. } => {
                Err(Error::NoContent { path: path.clone(), kind: "a symbolic link" })
            }
        }
    }

    /// The content of an entry that this reader listed.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn read_entry(&mut self, entry: ArchiveEntry) -> Result<EntryReader<'_, A>, Error> {
        self.layout()?;
        let Self { frames, layout, .. } = self;
        let (table, _) = layout.as_ref().ok_or(Error::Failed)?;
        Ok(EntryReader::new(frames, table, entry))
    }

    fn link_target(&mut self, link: &ArchiveEntry, target: &EntryPath) -> Result<ArchiveEntry, Error> {
        let hostile = |reason| Error::Hostile { path: link.entry.path.to_string(), reason };
        match self.find(target) {
            Ok(found) if found.offset < link.offset && matches!(found.entry.kind, EntryKind::File { .. }) => {
                Ok(found)
            }
            Ok(_) => Err(hostile("is a hard link to something that is no earlier file")),
            Err(Error::NotFound { .. }) => Err(hostile("is a hard link to an entry that does not exist")),
            Err(error) => Err(error),
        }
    }

    /// Where the frames are, and that the artifact is as long as the index says. Reads the index once.
    fn layout(&mut self) -> Result<&(FrameTable, Totals), Error> {
        if self.layout.is_none() {
            let layout = self.index.scan(|_| {})?;
            self.keep_layout(layout)?;
        }
        self.layout.as_ref().ok_or(Error::Failed)
    }

    fn keep_layout(&mut self, layout: (FrameTable, Totals)) -> Result<(), Error> {
        self.frames.check_len(&layout.1)?;
        self.layout = Some(layout);
        Ok(())
    }

    /// Index, frames and table side by side, for whoever walks through all entries.
    pub(crate) fn split(&mut self) -> Result<(&mut ArchiveIndex<I>, Bodies<'_, A>), Error> {
        self.layout()?;
        let Self { index, frames, layout } = self;
        let (table, totals) = layout.as_ref().ok_or(Error::Failed)?;
        frames.expect_all(false);
        Ok((index, Bodies { frames, table, totals }))
    }
}

/// The artifact's side of a reader.
pub(crate) struct Bodies<'a, A> {
    pub(crate) frames: &'a mut FrameSource<A>,
    pub(crate) table: &'a FrameTable,
    pub(crate) totals: &'a Totals,
}

impl<A: Read + Seek> Bodies<'_, A> {
    pub(crate) fn open(&mut self, entry: ArchiveEntry) -> EntryReader<'_, A> {
        EntryReader::new(self.frames, self.table, entry)
    }
}
