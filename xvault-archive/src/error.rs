//! What can go wrong with an archive, and what a caller may do about it.

use std::fmt;
use std::io;

use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME};
use xvault_core::{Dispose, Disposition, EntryPath, SinkError};

/// One of the two encrypted files of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveFile {
    /// `backup.tar.zst.enc`
    Artifact,
    /// `index.zst.enc`
    Index,
}

impl fmt::Display for ArchiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Artifact => ARTIFACT_NAME,
            Self::Index => INDEX_NAME,
        })
    }
}

/// Everything that writing, reading, extracting and verifying can answer. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store or disk that one of the two files lies on failed. May heal: see the disposition.
    #[error("{op} {file}")]
    Io {
        /// `read`, `write`…
        op: &'static str,
        /// Which file.
        file: ArchiveFile,
        /// What the operating system or the store says.
        source: io::Error,
    },
    /// None of the given identities can open the file.
    #[error("{file} is encrypted to other keys than the identities given")]
    WrongIdentity {
        /// Which file.
        file: ArchiveFile,
    },
    /// The file is not what a writer wrote.
    #[error("{file} is damaged: {reason}")]
    Damaged {
        /// Which file.
        file: ArchiveFile,
        /// What was found, and where.
        reason: String,
    },
    /// The file stops too early.
    #[error("{file} is truncated: {reason}")]
    Truncated {
        /// Which file.
        file: ArchiveFile,
        /// What is missing.
        reason: String,
    },
    /// The file is whole in itself, but another one than its manifest or its companion speaks of.
    #[error("{file} does not match: {what} is {found}, expected {expected}")]
    Mismatch {
        /// Which file.
        file: ArchiveFile,
        /// Which of its properties.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The archive holds something no honest writer puts there.
    #[error("the archive is refused: entry `{path}` {reason}")]
    Hostile {
        /// The entry, escaped.
        path: String,
        /// What it tries.
        reason: &'static str,
    },
    /// There is no such entry.
    #[error("the snapshot has no entry `{path}`")]
    NotFound {
        /// What was asked for.
        path: EntryPath,
    },
    /// The entry has no content: it is a directory or a symbolic link.
    #[error("`{path}` is {kind}: it has no content to read")]
    NoContent {
        /// What was asked for.
        path: EntryPath,
        /// What it is.
        kind: &'static str,
    },
    /// The target of an extraction failed.
    #[error("{op} `{path}` in the target directory")]
    Target {
        /// A verb: `create`, `rename`…
        op: &'static str,
        /// Relative to the target directory, escaped.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Something else stands in the target where an entry belongs; it was left alone.
    #[error("`{path}` in the target directory is in the way: {reason}")]
    Obstructed {
        /// Relative to the target directory, escaped.
        path: String,
        /// What it is, and should be.
        reason: &'static str,
    },
    /// What an export is written to takes no more.
    #[error("write the export")]
    Output(#[source] io::Error),
    /// The same path was pushed twice, so that one of the two could never be restored.
    #[error("entry `{path}` appears twice")]
    Duplicate {
        /// Which.
        path: EntryPath,
    },
    /// The caller broke the grammar of the writer.
    #[error("wrong use of the archive writer: {0}")]
    Misuse(&'static str),
    /// A setting that can't be.
    #[error("option `{option}`: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// One sentence.
        reason: &'static str,
    },
    /// A key can't be used.
    #[error("prepare the encryption")]
    Key(#[from] xvault_core::seal::Error),
    /// An earlier call failed and said why.
    #[error("the archive failed before")]
    Failed,
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn damaged(file: ArchiveFile, reason: impl Into<String>) -> Self {
        Self::Damaged { file, reason: reason.into() }
    }

    pub(crate) fn write(file: ArchiveFile) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { op: "write", file, source }
    }
}

impl Dispose for Error {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Io { source, .. } | Self::Target { source, .. } | Self::Output(source) => {
                source.disposition()
            }
            Self::Cancelled => Disposition::Cancelled,
            _ => Disposition::Permanent,
        }
    }
}

impl From<Error> for SinkError {
    fn from(error: Error) -> Self {
        Self::new("write the archive", error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } | Error::Target { source, .. } | Error::Output(source) => source.kind(),
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
