//! The words that hub, worker, connectors and archive share.
//!
//! This crate is synchronous, does no I/O and pulls in no runtime. In reading order:
//!
//! - [`id`][]: typed ids that are safe in paths by construction;
//! - [`source`][]: what a user saves about a source, and [`store`][]: about a bucket;
//! - [`entry`][]: what a source hands over ([`Entry`]), and where it goes ([`EntrySink`]);
//! - [`snapshot`][]: `manifest.json`, `meta.json` and the locator;
//! - [`export`][]: the forms in which a snapshot is handed out;
//! - [`tag`][]: words that users put on snapshots;
//! - [`job`][]: the life of a job, and [`protocol`][]: what hub and worker say to each other;
//! - [`seal`][]: age keys, and the envelope for small secrets;
//! - [`secret`][]: secrets that cannot be printed;
//! - [`egress`][]: which addresses may be connected to on behalf of tenants;
//! - [`tar`][]: reading tar streams of any origin;
//! - [`monitor`][]: progress;
//! - [`error`][]: permanent, transient or cancelled?
//!
//! ```
//! use xvault_core::secret::ExposeSecret;
//! use xvault_core::{Identity, SourceSettings, seal};
//!
//! // A source as the API takes it. Unknown fields are refused.
//! let settings: SourceSettings = serde_json::from_str(
//!     r#"{"type": "ssh", "config": {"host": "web.example", "username": "web", "paths": ["/srv"]}}"#,
//! )?;
//! settings.validate()?;
//!
//! // Its credential, sealed to a worker's own key: only that worker can open it.
//! let worker = Identity::generate();
//! let sealed = seal::seal(&[worker.recipient()], b"the private key")?;
//! assert_eq!(seal::open(&[worker], &sealed)?.expose_secret(), b"the private key");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod clock;
pub mod egress;
pub mod entry;
pub mod error;
pub mod export;
pub mod id;
pub mod job;
pub mod monitor;
pub mod protocol;
pub mod seal;
pub mod secret;
#[cfg(feature = "service")]
pub mod service;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod tag;
pub mod tar;

pub use egress::EgressPolicy;
pub use entry::{
    Entry, EntryKind, EntryPath, EntrySink, Metadata, Mtime, Overwrite, SinkError, Warning, WarningCode,
};
pub use error::{Dispose, Disposition};
pub use export::ExportFormat;
pub use id::{
    ApiKeyId, ClaimNonce, CredentialId, DownloadId, JobId, LeaseToken, ScheduleId, SessionId, SnapshotId,
    SourceId, StoreId, TenantId, UserId, WorkerId,
};
pub use job::{JobKind, JobStatus};
pub use monitor::{Phase, Progress, Silent};
pub use seal::{Identity, Recipient};
pub use snapshot::{Manifest, Meta, ReadBack, SnapshotKey};
pub use source::{
    DatabaseTarget, FtpSettings, LocalSettings, MysqlSettings, PostgresSettings, SourceSettings, SshSettings,
    WordpressSettings,
};
pub use store::{LockMode, ObjectLock, S3Credential, S3Settings};
