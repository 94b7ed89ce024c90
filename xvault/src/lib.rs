//! TBD
mod backup;
pub mod bridge;
mod error;
mod objects;
mod read_back;
mod restore;
mod select;
mod snapshot;
mod verify;

pub use xvault_archive as archive;
pub use xvault_connectors as connectors;
pub use xvault_core as core;

pub use backup::{BackupOptions, backup};
pub use error::Error;
pub use restore::RestoreOptions;
pub use select::{LATEST, find, list};
pub use snapshot::{Fetched, Snapshot};
pub use verify::{Depth, VerifyOptions, VerifyReport, verify};
pub use xvault_archive::{ArchiveEntry, ExtractStats, Overwrite};
pub use xvault_connectors::snapshot::{Filter, Listed};
pub use xvault_connectors::{
    Control, FsStore, LocalSource, MemoryStore, SftpSource, Source, SshSource, Store,
};
pub use xvault_core::ReadBack;
