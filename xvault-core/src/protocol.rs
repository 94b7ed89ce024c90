//! What hub and worker say to each other.
//!
//! Every call carries the worker's token; every call about a job carries its lease token. All spans are
//! relative, in milliseconds, so clocks need not agree. Requests refuse unknown fields; answers and queue messages
//! don't, so that a newer hub can talk to an older worker.
//!
//! | call | request | answer |
//! |---|---|---|
//! | `POST /internal/workers/register` | [`Register`] | [`Registered`] |
//! | `POST /internal/workers/heartbeat` | [`Heartbeat`] | [`HeartbeatAnswer`] |
//! | `POST /internal/workers/reconcile` | [`Reconcile`] | [`ReconcileAnswer`] |
//! | `POST /internal/jobs/claim` | [`Claim`] | [`ClaimAnswer`] |
//! | `POST /internal/jobs/{id}/renew` | [`Renew`] | [`LeaseAnswer`] |
//! | `POST /internal/jobs/{id}/progress` | [`Report`] | [`LeaseAnswer`] |
//! | `POST /internal/jobs/{id}/logs` | [`Logs`] | [`LeaseAnswer`] |
//! | `POST /internal/jobs/{id}/complete` | [`Complete`] | [`CompleteAnswer`] |
//! | `POST /internal/downloads/open` | [`OpenDownload`] | [`OpenedDownload`] |
//!
//! A call with a lost lease answers 409 with code [`LEASE_LOST`], one about a finished job 409 with [`JOB_FINISHED`]: the
//! worker stops the job and removes what it stored, unless a completion was sent before that may have arrived: then it asks.

mod browse;
mod restore;
mod stores;
mod verify;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Disposition;
use crate::job::JobError;
use crate::seal;
use crate::secret::SecretBytes;
use crate::snapshot::Locator;
use crate::{
    ClaimNonce, Identity, JobId, LeaseToken, Manifest, ObjectLock, ReadBack, Recipient, S3Settings,
    SnapshotId, SnapshotKey, SourceId, SourceSettings, StoreId, TenantId, WorkerId,
};

pub use browse::{
    Browse, BrowseQuery, BrowseTask, Browsed, BrowsedChange, BrowsedEntry, BrowsedKind, ChangeKind, Cursor,
    Facts, MAX_BROWSE_ITEMS, Name, NoCursor, StoredIndex, asked_path,
};
pub use restore::{
    DownloadBody, OpenDownload, OpenedDownload, RestoreReport, RestoreTarget, RestoreTask, StoredFile,
};
pub use stores::{Ability, Found, Observation, StoreReport, SweepReport, SweepStoreTask, TestStoreTask};
pub use verify::{DatabasesTried, Finding, VerifyDepth, VerifyTask};

/// The error code of a call with a token that holds no living lease.
pub const LEASE_LOST: &str = "lease_lost";
/// The error code of a call about a job that is over: canceled, say.
pub const JOB_FINISHED: &str = "job_finished";
/// The longest log message that is kept, in bytes.
pub const MAX_LOG_MESSAGE: usize = 4096;
/// The most log lines in one call.
pub const MAX_LOG_LINES: usize = 500;
/// The most snapshots in one [`Reconcile`] call.
pub const MAX_RECONCILE: usize = 500;

/// What travels through the queue: a wake-up call, nothing more.
///
/// A wire format: fields may come, and none may go. Whatever cannot be read as one is dropped by the consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// Which job to claim.
    pub job_id: JobId,
}

/// Which queue a message goes through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum QueueName {
    /// For whichever worker is free.
    Shared,
    /// For the one worker where a snapshot lies.
    Worker(WorkerId),
    /// For one worker, and for what a person waits for: long jobs don't hold it up.
    Quick(WorkerId),
}

impl fmt::Display for QueueName {
    /// The queue's key in Redis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("xvault:jobs"),
            Self::Worker(id) => write!(f, "xvault:worker:{id}"),
            Self::Quick(id) => write!(f, "xvault:quick:{id}"),
        }
    }
}

/// A secret encrypted to one worker's key, in base64.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, format = Byte))]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Encrypts `secret` so that only `recipient` can open it.
    ///
    /// # Errors
    /// Never in practice; see [`seal::seal`].
    pub fn to(recipient: &Recipient, secret: &[u8]) -> Result<Self, seal::Error> {
        seal::seal(std::slice::from_ref(recipient), secret).map(Self)
    }

    /// Opens it.
    ///
    /// # Errors
    /// When it is for another key, or damaged.
    pub fn open(&self, identity: &Identity) -> Result<SecretBytes, seal::Error> {
        seal::open(std::slice::from_ref(identity), &self.0)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("a sealed secret is not base64"))
    }
}

/// A worker comes up. Doing so again replaces what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Register {
    /// As its token says.
    pub worker_id: WorkerId,
    /// For people; the id when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// What secrets for this worker are sealed to.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub recipient: Recipient,
    /// The program's version.
    pub version: String,
    /// The types of sources it can pull.
    pub capabilities: Vec<String>,
    /// Where its snapshots lie.
    pub storage_base_path: String,
    /// How many jobs it runs at a time.
    pub concurrency: u32,
    /// What links to its downloads begin with, `https://worker-1.example`; absent: it serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_url: Option<String>,
}

/// The hub knows the worker now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    /// How often to send a [`Heartbeat`].
    pub heartbeat_ms: u64,
}

/// A worker lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// As its token says.
    pub worker_id: WorkerId,
    /// It takes no more jobs.
    pub draining: bool,
    /// How it fares.
    pub metrics: WorkerMetrics,
}

/// How a worker fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerMetrics {
    /// Of all cores of the machine, 0 to 100.
    pub cpu_percent: f64,
    /// Resident memory of the worker.
    pub memory_bytes: u64,
    /// Memory of the machine.
    pub memory_total_bytes: u64,
    /// Free room where its snapshots lie.
    pub disk_free_bytes: u64,
    /// All room there.
    pub disk_total_bytes: u64,
    /// Jobs it runs right now.
    pub active_jobs: u32,
}

/// What the hub wants of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// An operator wants it to take no more jobs of the shared queue.
    pub drain: bool,
    /// The hub does not know it (its database is new): register again.
    #[serde(default)]
    pub register: bool,
}

/// Asks what is to become of snapshots that lie in a worker's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reconcile {
    /// At most [`MAX_RECONCILE`], each with the job of its `meta.json`.
    pub snapshots: Vec<StoredSnapshot>,
}

/// A snapshot as it lies in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredSnapshot {
    /// Which one.
    pub key: SnapshotKey,
    /// The job that made it.
    pub job_id: JobId,
}

/// What is to become of them, as far as the hub's database knows. Those named in neither list are on record or being made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReconcileAnswer {
    /// Made by an attempt that, in this database, lost its lease or was canceled. A worker removes those of them that it never
    /// reported: the database may be an older one, put back after it had taken them.
    pub superseded: Vec<SnapshotKey>,
    /// The hub knows nothing about them. They stay: the hub's database may be the one that is wrong.
    pub unknown: Vec<SnapshotKey>,
}

/// Asks for a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claim {
    /// The job of a [`JobMessage`]; without it, the oldest that this worker may run.
    #[serde(default)]
    pub job_id: Option<JobId>,
    /// Of a claim that names its job: when its answer was lost, the same claim with the same nonce is answered again with the
    /// assignment that it was given. Without one, a repeated claim finds its job taken.
    #[serde(default)]
    pub nonce: Option<ClaimNonce>,
}

/// What became of a [`Claim`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ClaimAnswer {
    /// The job is this worker's until the lease ends.
    Claimed(Box<Assignment>),
    /// Somebody else has it, it is over, it must wait, or there is none. Nothing to do.
    Nothing {
        /// Why, for logs.
        reason: String,
    },
}

/// A job with the right to do it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Assignment {
    /// The job.
    pub job_id: JobId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Shown with every later call.
    pub lease_token: LeaseToken,
    /// How long the lease lasts from now, unless renewed.
    pub lease_ms: u64,
    /// What to do.
    pub task: Task,
}

/// What a job asks of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Task {
    /// Pull a source into a new snapshot.
    Backup(Box<BackupTask>),
    /// Remove a snapshot's bytes. Absent ones are fine.
    DeleteSnapshot {
        /// Which one.
        snapshot: SnapshotKey,
        /// Where it lies.
        #[serde(default)]
        store: StoreAccess,
        /// Where its copies lie: they go, too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        copies: Vec<CopyAccess>,
        /// The stores whose credentials may not delete: the copies there stay, and are told with the result.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        copies_kept: Vec<StoreId>,
    },
    /// Log in at a source and look.
    Probe {
        /// Where.
        source: Box<SourceSettings>,
        /// With what.
        #[serde(default)]
        credential: Option<Sealed>,
    },
    /// Find out whether a snapshot is still what was written.
    Verify(Box<VerifyTask>),
    /// Give back a snapshot, or some of it.
    Restore(Box<RestoreTask>),
    /// Find out what a store really does.
    TestStore(Box<TestStoreTask>),
    /// Remove from a store what nobody wants.
    SweepStore(Box<SweepStoreTask>),
    /// Look into a snapshot's index.
    Browse(Box<BrowseTask>),
    /// Copy a snapshot, as it is, into a second store.
    Replicate {
        /// Which one.
        snapshot: SnapshotKey,
        /// Where it lies.
        from: StoreAccess,
        /// Where the copy shall lie.
        to: StoreAccess,
    },
}

/// A copy of a snapshot, with what it takes to reach it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CopyAccess {
    /// The store it lies in.
    pub store_id: StoreId,
    /// How to get there.
    pub access: StoreAccess,
}

/// Where a task reads or writes snapshots, with what it takes: for this task, and no longer than that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StoreAccess {
    /// The worker's own disk.
    #[default]
    LocalFs,
    /// A bucket.
    S3 {
        /// Which one.
        settings: Box<S3Settings>,
        /// An [`S3Credential`](crate::S3Credential) in JSON: for what the task does there, and where the store can tell, for nothing else.
        credential: Sealed,
        /// For reading back, where `credential` can only write.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_credential: Option<Sealed>,
        /// What every object that the task writes is locked with; the task's result says that it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<ObjectLock>,
        /// Whether what is deleted goes with all of its versions: elsewhere a bucket that keeps versions hides it, and keeps it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all_versions: bool,
        /// Whether the worker's rules of what tenants may have it connect to are not for this store: operators vouch for its address.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anywhere: bool,
    },
}

/// A backup to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupTask {
    /// What is backed up.
    pub source_id: SourceId,
    /// The id the snapshot shall have: a new one for each attempt.
    pub snapshot_id: SnapshotId,
    /// Where to pull from.
    pub source: SourceSettings,
    /// Password or private key, as the settings say.
    #[serde(default)]
    pub credential: Option<Sealed>,
    /// Who can read the artifact.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub recipients: Vec<Recipient>,
    /// Who can read the index.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub index_recipients: Vec<Recipient>,
    /// Where the snapshot shall lie.
    #[serde(default)]
    pub store: StoreAccess,
    /// How much is read back after writing.
    pub read_back: ReadBack,
    /// What the last snapshot of the source held, for the estimate.
    #[serde(default)]
    pub expected_bytes: Option<u64>,
}

/// Keeps a lease alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renew {
    /// Of the assignment.
    pub lease_token: LeaseToken,
}

/// The lease lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseAnswer {
    /// How long from now, unless renewed.
    pub lease_ms: u64,
}

/// How far a job has come. Renews the lease, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// Of the assignment.
    pub lease_token: LeaseToken,
    /// How far.
    pub progress: JobProgress,
}

/// How far a job has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobProgress {
    /// `connect`, `backup`, `read_back`… With `read_back` the job becomes *finalizing*.
    pub phase: String,
    /// Bytes of content handled in this phase.
    pub bytes: u64,
    /// Their expected sum, where it is known.
    #[serde(default)]
    pub total_bytes: Option<u64>,
    /// Entries begun.
    pub entries: u64,
    /// Things that could not be read whole.
    pub warnings: u64,
}

/// Lines for a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Logs {
    /// Of the assignment.
    pub lease_token: LeaseToken,
    /// At most [`MAX_LOG_LINES`]. Lines that came before (same `seq` of the same attempt) are kept once.
    pub lines: Vec<LogLine>,
}

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// From 0, per attempt, without gaps.
    pub seq: u64,
    /// When, by the worker's clock.
    #[serde(rename = "time")]
    pub at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// A sentence, without secrets, at most [`MAX_LOG_MESSAGE`] bytes.
    pub message: String,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogLevel {
    /// For developers.
    Debug,
    /// Worth knowing.
    Info,
    /// Something could not be done as asked.
    Warn,
    /// The job fails for it.
    Error,
}

/// A worker is done with a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Complete {
    /// Of the assignment.
    pub lease_token: LeaseToken,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// As asked.
    Completed {
        /// What came of it.
        result: TaskResult,
    },
    /// Not.
    Failed {
        /// Why.
        error: JobError,
        /// Whether trying again may help.
        disposition: Disposition,
    },
    /// Handed back undone: the worker is being stopped. The attempt does not count.
    Released {
        /// Why, for the log.
        reason: String,
    },
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TaskResult {
    /// A snapshot.
    Backup {
        /// As it lies in the store.
        manifest: Box<Manifest>,
        /// Where it lies.
        locator: Locator,
        /// Until when its objects are locked, if they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locked_until: Option<Timestamp>,
    },
    /// The bytes are gone.
    DeleteSnapshot {
        /// The stores that let nobody delete: the copies there stay.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        copies_kept: Vec<StoreId>,
    },
    /// What was seen.
    Probe {
        /// All of it.
        probe: ProbeReport,
    },
    /// What a verification found.
    Verify {
        /// How far it went.
        depth: VerifyDepth,
        /// Sound, or not.
        finding: Finding,
    },
    /// It was given back.
    Restore {
        /// How much.
        report: RestoreReport,
    },
    /// What a store does.
    TestStore {
        /// All of it.
        report: StoreReport,
    },
    /// What was removed from a store.
    SweepStore {
        /// What of it the hub asked about, and the rest in numbers.
        report: SweepReport,
    },
    /// What the index says.
    Browse {
        /// All of it.
        found: Browsed,
    },
    /// The copy is there.
    Replicate {
        /// Where it lies.
        locator: Locator,
        /// Bytes that were written; 0 when it was there before.
        bytes: u64,
        /// Until when its objects are locked, if they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locked_until: Option<Timestamp>,
    },
}

/// What a user needs to know before saving a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProbeReport {
    /// The server's own name for itself (`SSH-2.0-OpenSSH_9.2`); absent for a worker's own disk.
    pub server: Option<String>,
    /// The fingerprint the server proved itself with, to be pinned as `host_key`; of an FTP server that of its certificate, as
    /// `tls_fingerprint`.
    pub host_key: Option<String>,
    /// Whether the login went through and the paths could be looked at. Not with an unknown host key
    /// or certificate, which must be pinned first.
    pub logged_in: bool,
    /// One per configured path.
    pub paths: Vec<ProbedPath>,
    /// What else is worth knowing: "no remote tar, SFTP will be used".
    pub notes: Vec<String>,
}

/// A configured path as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProbedPath {
    /// As configured.
    pub path: String,
    /// `directory`, `file`, `symlink`; absent when it could not be looked at.
    pub kind: Option<String>,
    /// Why it could not be looked at.
    pub error: Option<String>,
}

/// The hub has taken note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompleteAnswer {
    /// What the job is now: a failed attempt may be queued again.
    pub status: crate::JobStatus,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_workers_own_key_opens_what_was_sealed_to_it() {
        let (worker, other) = (Identity::generate(), Identity::generate());
        let sealed = Sealed::to(&worker.recipient(), b"hunter2").unwrap();
        let json = serde_json::to_string(&sealed).unwrap();
        assert!(!format!("{sealed:?}{json}").contains("hunter2"));
        let read: Sealed = serde_json::from_str(&json).unwrap();
        let refused = read.open(&other).unwrap_err();
        assert!(matches!(refused, seal::Error::Open(age::DecryptError::NoMatchingKeys)), "{refused:?}");
        use crate::secret::ExposeSecret;
        assert_eq!(read.open(&worker).unwrap().expose_secret(), b"hunter2");
    }

    #[test]
    fn a_message_of_a_newer_hub_is_read() {
        let message: JobMessage = serde_json::from_str(r#"{"job_id":"j1","new":true}"#).unwrap();
        assert_eq!(message.job_id.as_str(), "j1");
    }

    #[test]
    fn queues_are_named_as_documented() {
        assert_eq!(QueueName::Shared.to_string(), "xvault:jobs");
        assert_eq!(QueueName::Worker("w1".parse().unwrap()).to_string(), "xvault:worker:w1");
        assert_eq!(QueueName::Quick("w1".parse().unwrap()).to_string(), "xvault:quick:w1");
    }

    #[test]
    fn outcomes_keep_their_words() {
        let outcome = Outcome::Completed { result: TaskResult::DeleteSnapshot { copies_kept: Vec::new() } };
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json, serde_json::json!({"status": "completed", "result": {"type": "delete_snapshot"}}));
    }
}
