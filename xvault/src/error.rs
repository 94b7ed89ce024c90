//! What can go wrong in a pipeline.

use xvault_core::entry::InvalidPath;
use xvault_core::snapshot::DocumentError;
use xvault_core::{Dispose, Disposition, EntryPath, seal, tag};

/// An error of a backup, a restore or a check.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source could not be read.
    #[error("source: {0}")]
    Source(#[source] xvault_connectors::Error),

    /// The store could not be written or read.
    #[error("store: {0}")]
    Store(#[source] xvault_connectors::Error),

    /// What a snapshot is restored to could not be reached or written.
    #[error("target: {0}")]
    Target(#[source] xvault_connectors::Error),

    /// The store that a copy was to go into could not be written or read.
    #[error("the copy's store: {0}")]
    SecondStore(#[source] xvault_connectors::Error),

    /// The artifact could not be written or read.
    #[error(transparent)]
    Archive(#[from] xvault_archive::Error),

    /// A manifest is damaged or too new.
    #[error(transparent)]
    Document(#[from] DocumentError),

    /// A key can't be used.
    #[error(transparent)]
    Key(#[from] seal::Error),

    /// A path can't stand in a snapshot.
    #[error(transparent)]
    Path(#[from] InvalidPath),

    /// Words that can't stand on a snapshot.
    #[error(transparent)]
    Tags(#[from] tag::InvalidTags),

    /// The stored bytes are not those that were written: there is no snapshot.
    #[error("the stored snapshot does not read back as it was written, and was not kept")]
    ReadBack(#[source] Box<Error>),

    /// What the source says it gave and what the archive counted differ: there is no snapshot.
    #[error("the archive counted {counted}, the source says {told}; the snapshot was not kept")]
    Evidence {
        /// The archive's numbers.
        counted: String,
        /// The source's numbers.
        told: String,
    },

    /// No snapshot fits.
    #[error("no snapshot `{selector}` in {store}")]
    NoSnapshot {
        /// What was asked for.
        selector: String,
        /// Where.
        store: String,
    },

    /// More than one snapshot fits.
    #[error("`{selector}` fits {count} snapshots: write more of the id")]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// How many.
        count: usize,
    },

    /// A file is larger than the caller wants to hold.
    #[error("`{path}` has {size} bytes, more than {limit}")]
    TooLarge {
        /// Which.
        path: EntryPath,
        /// Its length in bytes.
        size: u64,
        /// What was allowed.
        limit: u64,
    },

    /// What a file of a snapshot, or an export, was written to failed.
    #[error("write what was read from the snapshot")]
    Output(#[source] std::io::Error),

    /// The archive's output has no reader any more: the store failed, and says why itself.
    #[error("write to the store")]
    Outlet(#[source] std::io::Error),

    /// The operating system gave no thread, or a thread ended in disorder.
    #[error("run a thread of the pipeline")]
    Thread(#[source] std::io::Error),

    /// The work was given up before its end.
    #[error("the archive was abandoned")]
    Abandoned,
}

impl Dispose for Error {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Source(error) | Self::Store(error) | Self::Target(error) | Self::SecondStore(error) => {
                error.disposition()
            }
            Self::Archive(error) => error.disposition(),
            Self::Output(error) | Self::Outlet(error) | Self::Thread(error) => error.disposition(),
            Self::Document(_)
            | Self::Key(_)
            | Self::Path(_)
            | Self::Tags(_)
            | Self::Evidence { .. }
            | Self::TooLarge { .. }
            | Self::NoSnapshot { .. }
            | Self::Ambiguous { .. } => Disposition::Permanent,
            // The next copy may land on a sound sector.
            Self::ReadBack(_) => Disposition::Transient,
            Self::Abandoned => Disposition::Cancelled,
        }
    }
}
