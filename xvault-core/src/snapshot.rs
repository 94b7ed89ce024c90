//! The two small files that stand beside an artifact, and where a snapshot lies.
//!
//! `docs/format.md` is the norm; this module is its JSON half.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Dispose, Disposition};
use crate::id::{JobId, SnapshotId, SourceId, TenantId, WorkerId};
use crate::seal::Recipient;

/// The version of the artifact format that this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Name of the encrypted tar stream.
pub const ARTIFACT_NAME: &str = "backup.tar.zst.enc";
/// Name of the encrypted index.
pub const INDEX_NAME: &str = "index.zst.enc";
/// Name of the file that says whose snapshot this is.
pub const META_NAME: &str = "meta.json";
/// Name of the file that makes a snapshot exist.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Name of the file that stands beside a worker's snapshot until the hub is told of it. No part of the snapshot.
pub const UNREPORTED_NAME: &str = "unreported";
/// Name of the file that is written beside a snapshot in a bucket before the hub is told of it. No part of the snapshot.
pub const REPORTED_NAME: &str = "reported";
/// Name of the file that is written beside such a snapshot once the hub has said that it does not want it. No part of it.
pub const WITHDRAWN_NAME: &str = "withdrawn";
/// The longest `meta.json` or `manifest.json` that is read.
pub const MAX_JSON_LEN: u64 = 1 << 20;

/// Which snapshot, of whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotKey {
    /// The owner.
    pub tenant_id: TenantId,
    /// What was backed up.
    pub source_id: SourceId,
    /// The backup.
    pub snapshot_id: SnapshotId,
}

impl SnapshotKey {
    /// The directory or key prefix that holds the snapshot's four files, without a trailing `/`.
    #[must_use]
    pub fn prefix(&self) -> String {
        let Self { tenant_id, source_id, snapshot_id } = self;
        format!("tenants/{tenant_id}/sources/{source_id}/snapshots/{snapshot_id}")
    }
}

/// The [prefix](SnapshotKey::prefix).
impl fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix())
    }
}

/// `meta.json`: enough to find a snapshot's owner when the hub's database is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The owner.
    pub tenant_id: TenantId,
    /// What was backed up.
    pub source_id: SourceId,
    /// The backup.
    pub snapshot_id: SnapshotId,
    /// The job that made it.
    pub job_id: JobId,
    /// The worker that ran the job.
    pub worker_id: WorkerId,
}

/// Length and SHA-256 of a file as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDigest {
    /// Length in bytes.
    pub size_bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// What a snapshot holds, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContentSummary {
    /// Regular files; a dump in segments counts once.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Second names of files.
    pub hardlinks: u64,
    /// Bytes of content, before compression.
    pub bytes: u64,
    /// Things that could not be read whole. More than 0: the snapshot is *partial*.
    pub warnings: u64,
    /// Sockets, pipes and device nodes: they have no content and are left out.
    #[serde(default)]
    pub skipped: u64,
}

/// The proof that a source was read to its end, as its connector saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Evidence {
    /// Every directory was listed to the end that its system announced, and every body was read to the end of
    /// its file (what could not be is among the warnings).
    Walk {
        /// Listings that ended properly.
        directories: u64,
        /// Bodies that ended properly.
        files: u64,
    },
    /// A remote `tar` closed its stream with two zero blocks and then exited.
    Tar {
        /// 0: all well; 1: some files changed while they were read; 2: some could not be read, which warnings tell of unless
        /// they are excluded.
        exit_status: u32,
        /// Entries in the stream.
        entries: u64,
    },
    /// Every dump had the beginning and the end that its tool gives it, and the tool exited with status 0.
    Dump {
        /// Dumps that ended properly.
        dumps: u64,
        /// The tool and its version: `pg_dump 15.18`.
        tool: String,
        /// The server and its version: `PostgreSQL 15.18`.
        server: String,
    },
    /// A site: its databases and its files, each with a proof of its own.
    Site {
        /// Of the databases; none when only files were asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(no_recursion))]
        databases: Vec<Evidence>,
        /// Of the files.
        #[cfg_attr(feature = "openapi", schema(no_recursion))]
        files: Box<Evidence>,
    },
}

impl Evidence {
    /// How many dumps came to their end. `None`: none was to be made.
    #[must_use]
    pub fn dumps(&self) -> Option<u64> {
        match self {
            Self::Dump { dumps, .. } => Some(*dumps),
            Self::Site { databases, .. } if !databases.is_empty() => databases.iter().map(Self::dumps).sum(),
            Self::Walk { .. } | Self::Tar { .. } | Self::Site { .. } => None,
        }
    }
}

/// How much of a stored snapshot is read back and compared after it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ReadBack {
    /// Everything: decrypt, decompress, compare every content hash.
    #[default]
    Full,
    /// First, last and random frames; and size and hash of the whole ciphertext where the store gives them.
    Sample,
    /// Nothing.
    Off,
}

/// What read-back did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadBackReport {
    /// How much was asked for, and done.
    pub mode: ReadBack,
    /// Entries whose content hash was compared.
    pub entries: u64,
    /// Frames that were decrypted and decompressed.
    pub frames: u64,
    /// Bytes of the tar stream that were compared.
    pub bytes: u64,
}

/// Whether everything that was asked for is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Completeness {
    /// Everything.
    Whole,
    /// Something could not be read: see the warnings in the index.
    Partial,
}

/// `manifest.json`: a snapshot exists exactly when this file does. It holds no file names and no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The owner.
    pub tenant_id: TenantId,
    /// What was backed up.
    pub source_id: SourceId,
    /// The backup.
    pub snapshot_id: SnapshotId,
    /// The job that made it.
    pub job_id: JobId,
    /// The worker that ran the job.
    pub worker_id: WorkerId,
    /// `local`, `sftp`, `ssh`…
    pub source_type: String,
    /// When the backup began.
    pub started_at: Timestamp,
    /// When the last byte was stored and proven.
    pub finished_at: Timestamp,
    /// The time between the two.
    pub duration_ms: u64,
    /// Length of the artifact; the same as `artifact.size_bytes`.
    pub size_bytes: u64,
    /// SHA-256 of the artifact; the same as `artifact.sha256`.
    pub sha256: String,
    /// [`crate::seal::ALGORITHM`].
    pub encryption_algorithm: String,
    /// [`Recipient::key_id`] of the first recipient.
    pub encryption_key_id: String,
    /// The first recipient of the artifact.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub encryption_recipient: Recipient,
    /// All who can read the artifact.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub encryption_recipients: Vec<Recipient>,
    /// All who can read the index.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub index_recipients: Vec<Recipient>,
    /// The artifact as stored.
    pub artifact: FileDigest,
    /// The index as stored.
    pub index: FileDigest,
    /// Length of the tar stream.
    pub tar_size_bytes: u64,
    /// Length of the zstd stream, before encryption.
    pub compressed_size_bytes: u64,
    /// Whole or partial.
    pub completeness: Completeness,
    /// Words that its user put on it, as [`crate::tag::check`] allows them. From a store, they may be any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub tags: Vec<String>,
    /// What it holds.
    pub content_summary: ContentSummary,
    /// The proof that the source was read to its end.
    pub evidence: Evidence,
    /// The proof that the store gives back what was written.
    pub read_back: ReadBackReport,
    /// The version of the program that wrote it.
    pub xvault_version: String,
    /// `sha256:` and the SHA-256 of this file with these 64 digits replaced by zeros: tells damage, not forgery.
    pub checksum: String,
}

const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const CHECKSUM_START: &[u8] = b"\"checksum\": \"sha256:";

impl Manifest {
    /// The file's bytes, with [`Manifest::checksum`] filled in.
    ///
    /// # Errors
    /// Never in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        let unsigned = Self { checksum: format!("sha256:{NO_DIGEST}"), ..self.clone() };
        let mut json = to_json(MANIFEST_NAME, &unsigned)?;
        let digest = hex(&Sha256::digest(&json));
        let place = digest_place(&json).ok_or(DocumentError::Checksum)?;
        json.splice(place, digest.bytes());
        Ok(json)
    }

    /// Reads the file and checks its version and its checksum.
    ///
    /// # Errors
    /// When it is cut, changed, of another version, or no manifest at all.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let manifest: Self = from_json(MANIFEST_NAME, bytes)?;
        check_version(MANIFEST_NAME, manifest.format_version)?;
        let place = digest_place(bytes).ok_or(DocumentError::Checksum)?;
        let mut unsigned = bytes.to_vec();
        unsigned.splice(place, NO_DIGEST.bytes());
        if manifest.checksum == format!("sha256:{}", hex(&Sha256::digest(&unsigned))) {
            Ok(manifest)
        } else {
            Err(DocumentError::Checksum)
        }
    }

    /// Which snapshot this manifest speaks of.
    #[must_use]
    pub fn key(&self) -> SnapshotKey {
        SnapshotKey {
            tenant_id: self.tenant_id.clone(),
            source_id: self.source_id.clone(),
            snapshot_id: self.snapshot_id.clone(),
        }
    }
}

impl Meta {
    /// The file's bytes.
    ///
    /// # Errors
    /// Never in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        to_json(META_NAME, self)
    }

    /// Reads the file and checks its version.
    ///
    /// # Errors
    /// When it is cut, of another version, or no meta file at all.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let meta: Self = from_json(META_NAME, bytes)?;
        check_version(META_NAME, meta.format_version)?;
        Ok(meta)
    }

    /// Which snapshot this meta file speaks of.
    #[must_use]
    pub fn key(&self) -> SnapshotKey {
        SnapshotKey {
            tenant_id: self.tenant_id.clone(),
            source_id: self.source_id.clone(),
            snapshot_id: self.snapshot_id.clone(),
        }
    }
}

/// The 64 digits of the last checksum field in a manifest's bytes.
fn digest_place(json: &[u8]) -> Option<std::ops::Range<usize>> {
    let at = json.windows(CHECKSUM_START.len()).rposition(|window| window == CHECKSUM_START)?;
    let start = at + CHECKSUM_START.len();
    let end = start + NO_DIGEST.len();
    (json.get(end) == Some(&b'"')).then_some(start..end)
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_json<T: Serialize>(file: &'static str, value: &T) -> Result<Vec<u8>, DocumentError> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|source| DocumentError::Json { file, source })?;
    json.push(b'\n');
    Ok(json)
}

fn from_json<T: for<'de> Deserialize<'de>>(file: &'static str, bytes: &[u8]) -> Result<T, DocumentError> {
    /// Read first, so that a newer format is named as such and not as a missing field.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    if let Ok(version) = serde_json::from_slice::<Version>(bytes) {
        check_version(file, version.format_version)?;
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { file, source })
}

fn check_version(file: &'static str, found: u32) -> Result<(), DocumentError> {
    if found == FORMAT_VERSION { Ok(()) } else { Err(DocumentError::Version { file, found }) }
}

/// What can be wrong with `manifest.json` or `meta.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Cut, changed, or something else altogether.
    #[error("{file} is damaged: {source}")]
    Json {
        /// Which of the two.
        file: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Written by a newer xVault.
    #[error("{file} has format version {found}, this program reads version 1: use a newer xvault")]
    Version {
        /// Which of the two.
        file: &'static str,
        /// The version in the file.
        found: u32,
    },
    /// The manifest's text is not what was written.
    #[error("manifest.json is damaged: its checksum does not match its text")]
    Checksum,
}

impl Dispose for DocumentError {
    fn disposition(&self) -> Disposition {
        Disposition::Permanent
    }
}

/// Where a snapshot lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "storage_backend", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Locator {
    /// On the disk of one worker.
    LocalFs {
        /// Whose disk.
        worker_id: WorkerId,
        /// The snapshot's directory there.
        local_path: String,
    },
    /// In a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key prefix of the snapshot.
        object_key: String,
        /// The store's tag of the artifact, where it gives one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        etag: Option<String>,
    },
}
