//! Frames: where they lie, and reading one of them out of the artifact.

mod ahead;
mod loader;
mod table;

use std::io::{Read, Seek};

use bytes::Bytes;
use xvault_core::Identity;

use crate::error::{ArchiveFile, Error};
use crate::index::Totals;
use ahead::Ahead;
use loader::Loader;

pub(crate) use table::FrameTable;

/// Decrypts and decompresses single frames of an artifact; the last one is kept.
pub(crate) struct FrameSource<A> {
    loading: Loading<A>,
    /// Length of the zstd stream, authenticated when the artifact was opened.
    len: u64,
    kept: Option<(u64, Bytes)>,
    /// Whether all frames will be wanted, one after the other.
    all: bool,
}

/// Where frames are loaded: by the caller, or on a thread while the caller works on the one before.
enum Loading<A> {
    Here(Loader<A>),
    Ahead(Ahead),
}

impl<A: Read + Seek> FrameSource<A> {
    /// Opens the artifact and reads its last chunk: a truncated one is noticed here.
    pub(crate) fn open(artifact: A, identities: &[Identity]) -> Result<Self, Error> {
        let loader = Loader::open(artifact, identities)?;
        Ok(Self { len: loader.len(), loading: Loading::Here(loader), kept: None, all: false })
    }

    /// Loads what is sure to be wanted next on a thread of its own.
    pub(crate) fn read_ahead(self) -> Result<Self, Error>
    where
        A: Send + 'static,
    {
        let loading = match self.loading {
            Loading::Here(loader) => Ahead::start(loader)?,
            Loading::Ahead(ahead) => ahead,
        };
        Ok(Self { loading: Loading::Ahead(loading), ..self })
    }

    /// Says whether from here on every frame will be wanted after the one before it.
    pub(crate) fn expect_all(&mut self, all: bool) {
        self.all = all;
    }

    /// Whether the artifact is as long as its index says.
    pub(crate) fn check_len(&self, totals: &Totals) -> Result<(), Error> {
        if self.len == totals.zstd_size {
            return Ok(());
        }
        Err(Error::Mismatch {
            file: ArchiveFile::Artifact,
            what: "the length of its zstd stream",
            expected: format!("{} bytes as in {}", totals.zstd_size, ArchiveFile::Index),
            found: format!("{} bytes", self.len),
        })
    }

    /// The tar bytes of frame `number`, which `table` must have. The tar stream will be read on up to `until`.
    pub(crate) fn load(&mut self, table: &FrameTable, number: u64, until: u64) -> Result<Bytes, Error> {
        if let Some((kept, bytes)) = &self.kept
            && *kept == number
        {
            return Ok(bytes.clone());
        }
        let frame = table.get(number).ok_or_else(|| frame_fault(number, "it is not in the index"))?;
        let buffer = self.recycled();
        let bytes = match &mut self.loading {
            Loading::Here(loader) => loader.load(number, &frame, buffer)?,
            Loading::Ahead(ahead) => {
                let bytes = ahead.load(number, &frame, buffer)?;
                let next = number.checked_add(1).and_then(|next| Some((next, table.get(next)?)));
                if let Some((next, frame)) = next.filter(|(_, frame)| self.all || frame.offset < until) {
                    ahead.prepare(next, &frame)?;
                }
                bytes
            }
        };
        let bytes = Bytes::from(bytes);
        self.kept = Some((number, bytes.clone()));
        Ok(bytes)
    }

    /// The memory of the kept frame, when nobody looks at it any more.
    fn recycled(&mut self) -> Vec<u8> {
        match self.kept.take() {
            Some((_, bytes)) if bytes.is_unique() => Vec::from(bytes),
            _ => Vec::new(),
        }
    }
}

fn frame_fault(number: u64, reason: &str) -> Error {
    Error::damaged(ArchiveFile::Artifact, format!("frame {number}: {reason}"))
}
