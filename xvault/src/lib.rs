//! Agentless backups: from a source, as a stream, into one encrypted and seekable artifact, and back.
//!
//! In reading order:
//!
//! - [`open_source`]: the [`Source`] that saved settings of any type describe; each type's own, such as [`SshSource`], takes its settings and how to log in;
//! - [`backup()`]: pulls a [`Source`] into a [`Store`], for the recipients in [`BackupOptions`], and reads back what was stored;
//! - [`list`] and [`find`]: which snapshots there are, and the one that is meant (an id, its beginning, or [`LATEST`]);
//! - [`Snapshot::open`]: then [`Snapshot::entries`], [`Snapshot::list`], [`Snapshot::search`], [`Snapshot::diff`], [`Snapshot::cat`], [`Snapshot::read_to_vec`] and [`Snapshot::restore`], or [`Snapshot::restore_to`] a [`Target`] elsewhere;
//! - [`Snapshot::dumps`]: those of databases; [`Snapshot::load`] one into a database ([`DatabaseLoad`]), or [`Snapshot::try_load`] it into one that is dropped again ([`Scratch`]);
//! - [`Snapshot::export`]: a tar, tar.zst or zip of it; [`Snapshot::export_stream`] and [`Snapshot::file_stream`]: for an HTTP response;
//! - [`verify()`]: sizes and hashes without a key, every byte and every content hash with one; [`restore_test()`]: all of it restored, to nowhere;
//! - [`copy()`]: the same snapshot in a second store, without a key;
//! - [`forget`]: what a retention policy ([`retention`]) keeps of them, and the removal of the others;
//! - [`Control`]: cancellation, progress and bandwidth of all of these; [`Error`]: what went wrong, and what to do about it.
//!
//! ```
//! use xvault::core::{EntryPath, Identity, LocalSettings, SourceId};
//! use xvault::{BackupOptions, Depth, Filter, FsStore, LocalSource, RestoreOptions, Snapshot, VerifyOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let (documents, backups, restored) =
//! #     (scratch.path().join("documents"), scratch.path().join("backups"), scratch.path().join("restored"));
//! # std::fs::create_dir(&documents)?;
//! # std::fs::write(documents.join("letter.txt"), "Dear reader")?;
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // The machine that backs up needs the recipient only. The identity belongs into a safe place.
//! let identity = Identity::generate();
//! let store = FsStore::open(&backups)?;
//!
//! // Back up. The snapshot exists exactly when this gives its manifest.
//! let paths = vec![documents.display().to_string()];
//! let mut source = LocalSource::new(&LocalSettings { paths, excludes: vec!["*.tmp".into()] })?;
//! let options = BackupOptions::to(vec![identity.recipient()], SourceId::derive("my documents"))?;
//! let manifest = xvault::backup(&mut source, &store, &options).await?;
//! assert_eq!(manifest.content_summary.files, 1);
//! assert!(backups.join(manifest.key().to_string()).join("manifest.json").is_file());
//!
//! // Find it again, read one file out of it, and get everything back.
//! let latest = xvault::find(&store, xvault::LATEST, &Filter::default()).await?;
//! let snapshot = Snapshot::open(&store, &latest.key(), vec![identity.clone()]).await?;
//! let letter = documents.join("letter.txt").display().to_string();
//! let path = EntryPath::from_source(letter.as_bytes())?.ok_or("the root is no file")?;
//! assert_eq!(snapshot.read_to_vec(&path, 1 << 20).await?, b"Dear reader");
//! snapshot.restore(&restored, RestoreOptions::default()).await?;
//! assert_eq!(std::fs::read(restored.join(path.to_string()))?, b"Dear reader");
//!
//! // Prove that it is sound: quickly without a key, or whole.
//! xvault::verify(&store, &latest.key(), &VerifyOptions::default()).await?;
//! let whole = VerifyOptions::default().identities(vec![identity]);
//! assert_eq!(xvault::verify(&store, &latest.key(), &whole).await?.depth, Depth::Deep);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What is promised
//!
//! - **All or nothing.** A snapshot exists when its manifest does, and that is written last. After an error, a
//!   cancellation or a crash there is none; what lies around is removed at once, or by [`Store::sweep`].
//! - **Success is computed.** The source gives evidence that it was read to its end, the archive's own count must agree
//!   with the source's, and [`ReadBack`] decrypts and compares what the store gives back. What could not be
//!   read makes a snapshot *partial*, never silently smaller.
//! - **Bounded memory.** Nothing is held whole, neither a file nor a listing: some tens of MiB serve any source,
//!   and 10 to 20 bytes for each path, which prove that none comes twice.
//! - **Write-only.** A backup needs public keys alone. Read-back uses an identity that is made for one run and forgotten.
//! - **Nothing is trusted.** What comes from a source or a store is checked and capped; a restore never leaves its target.
//!
//! # What lies underneath
//!
//! Each piece is public and serves alone: [`archive`] (the artifact: synchronous, without a runtime), [`connectors`]
//! (sources and stores: async; implement [`Source`] or [`Store`] for systems of your own, and run [`connectors::conformance`] on them) and [`core`] (ids,
//! settings, entries, manifests, keys). [`retention`] decides, and does nothing else. Async and sync meet in [`bridge`], and only there.
//!
//! The calls need a tokio runtime with time enabled; they block none of its threads, but use its blocking pool.

mod backup;
pub mod bridge;
mod browse;
mod copy;
mod error;
mod export;
pub mod forget;
mod load;
mod media_type;
mod objects;
mod push;
mod read_back;
mod restore;
mod restore_test;
mod select;
mod snapshot;
mod verify;

pub use xvault_archive as archive;
pub use xvault_connectors as connectors;
pub use xvault_core as core;
pub use xvault_retention as retention;

pub use backup::{BackupOptions, backup};
pub use bridge::ByteStream;
pub use copy::{CopyReport, copy};
pub use error::Error;
pub use export::FileStream;
pub use restore::RestoreOptions;
pub use restore_test::restore_test;
pub use select::{LATEST, find, list, locate};
pub use snapshot::{Fetched, Snapshot};
pub use verify::{Depth, VerifyOptions, VerifyReport, verify};
pub use xvault_archive::{ArchiveEntry, Exported, ExtractStats, Overwrite};
pub use xvault_connectors::snapshot::{Filter, Listed};
pub use xvault_connectors::source::open as open_source;
pub use xvault_connectors::{
    Control, DatabaseLoad, DatabaseLogin, FsStore, FtpOptions, FtpSource, Hooked, HostKeyPolicy, LocalSource,
    Logins, MemoryStore, MysqlSource, Network, PostgresSource, S3Options, S3Store, Saved, Scratch,
    SftpSource, SftpTarget, SftpTargetOptions, Source, SshCredential, SshOptions, SshSource, Store, Target,
    WordpressSource,
};
pub use xvault_core::{ExportFormat, ReadBack};

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
