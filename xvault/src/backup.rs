//! From a source into a store: pull, encrypt, write, read back, commit.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use xvault_archive::{ArchiveStats, ArchiveWriter, WriterOptions};
use xvault_connectors::{Control, Error as ConnectorError, PullSummary, Source, Staging, Store, snapshot};
use xvault_core::snapshot::{
    ARTIFACT_NAME, Completeness, FORMAT_VERSION, INDEX_NAME, MANIFEST_NAME, META_NAME, ReadBackReport,
    UNREPORTED_NAME,
};
use xvault_core::{
    Identity, JobId, Manifest, Meta, Phase, ReadBack, Recipient, SnapshotId, SnapshotKey, SourceId, TenantId,
    WorkerId, clock, seal, tag,
};

use crate::bridge::{ArchiveSink, outlet};
use crate::{Error, read_back};

/// How long a store may take to remove what is of no use.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);
/// What stands in the mark of [`BackupOptions::unreported`], for people.
const UNREPORTED: &str = "Nobody was told of this snapshot yet.\n";

/// How a backup is made. Begin with [`BackupOptions::to`].
#[derive(Debug, Clone)]
pub struct BackupOptions {
    recipients: Vec<Recipient>,
    index_recipients: Vec<Recipient>,
    read_back: ReadBack,
    level: i32,
    threads: Option<NonZeroUsize>,
    key: SnapshotKey,
    job_id: JobId,
    worker_id: WorkerId,
    control: Control,
    expected_bytes: Option<u64>,
    tags: Vec<String>,
    unreported: bool,
}

impl BackupOptions {
    /// A backup of `source_id` that each of `recipients` can read: read back in full, zstd level 3,
    /// one compressor per core, of tenant `local`.
    ///
    /// # Errors
    /// When there is no recipient: nobody could ever restore.
    pub fn to(recipients: Vec<Recipient>, source_id: SourceId) -> Result<Self, Error> {
        if recipients.is_empty() {
            return Err(seal::Error::NoRecipient.into());
        }
        Ok(Self {
            index_recipients: recipients.clone(),
            recipients,
            read_back: ReadBack::default(),
            level: 3,
            threads: None,
            key: SnapshotKey { tenant_id: TenantId::local(), source_id, snapshot_id: SnapshotId::generate() },
            job_id: JobId::generate(),
            worker_id: WorkerId::local(),
            control: Control::default(),
            expected_bytes: None,
            tags: Vec::new(),
            unreported: false,
        })
    }

    /// Lets others read the index (names, sizes, times, hashes) than those who read the content; at least one.
    #[must_use]
    pub fn index_recipients(self, index_recipients: Vec<Recipient>) -> Self {
        Self { index_recipients, ..self }
    }

    /// How much of the stored snapshot is read back and compared.
    #[must_use]
    pub fn read_back(self, read_back: ReadBack) -> Self {
        Self { read_back, ..self }
    }

    /// zstd level, 1 to 19.
    #[must_use]
    pub fn level(self, level: i32) -> Self {
        Self { level, ..self }
    }

    /// Compressor threads; each costs about 12 MiB.
    #[must_use]
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// The owner.
    #[must_use]
    pub fn tenant(mut self, tenant_id: TenantId) -> Self {
        self.key.tenant_id = tenant_id;
        self
    }

    /// The snapshot's id, where the caller has made it already.
    #[must_use]
    pub fn snapshot(mut self, snapshot_id: SnapshotId) -> Self {
        self.key.snapshot_id = snapshot_id;
        self
    }

    /// Who does this, and for which job.
    #[must_use]
    pub fn work(self, job_id: JobId, worker_id: WorkerId) -> Self {
        Self { job_id, worker_id, ..self }
    }

    /// Cancellation, progress and bandwidth.
    #[must_use]
    pub fn control(self, control: Control) -> Self {
        Self { control, ..self }
    }

    /// About how much content is expected, for the progress bar: what the last snapshot held.
    #[must_use]
    pub fn expected_bytes(self, bytes: Option<u64>) -> Self {
        Self { expected_bytes: bytes, ..self }
    }

    /// Puts words on the snapshot, for [`keep_tags`](crate::retention::Rules::keep_tags) to look at.
    ///
    /// # Errors
    /// When they are too many, or one is too long or has control characters.
    pub fn tags(self, tags: Vec<String>) -> Result<Self, Error> {
        tag::check(&tags)?;
        Ok(Self { tags, ..self })
    }

    /// Lets the snapshot come into being with the mark of one that nobody was told of
    /// ([`is_unreported`](xvault_connectors::snapshot::is_unreported)).
    #[must_use]
    pub fn unreported(self) -> Self {
        Self { unreported: true, ..self }
    }

    fn meta(&self) -> Meta {
        Meta {
            format_version: FORMAT_VERSION,
            tenant_id: self.key.tenant_id.clone(),
            source_id: self.key.source_id.clone(),
            snapshot_id: self.key.snapshot_id.clone(),
            job_id: self.job_id.clone(),
            worker_id: self.worker_id.clone(),
        }
    }
}

/// Backs up `source` into `store`: one snapshot, which exists exactly when this returns its manifest.
///
/// Everything is streamed: memory does not grow with the content, and by 10 to 20 bytes with each path. Where something could not be read the
/// snapshot is *partial* ([`Manifest::completeness`]), and its index holds the warnings.
///
/// # Errors
/// The source, the store or the archive failed, the job was cancelled, or the stored bytes did not
/// read back as written. There is no snapshot then, and what was staged is removed.
pub async fn backup(
    source: &mut dyn Source,
    store: &dyn Store,
    options: &BackupOptions,
) -> Result<Manifest, Error> {
    if options.index_recipients.is_empty() {
        // With the throw-away recipient alone nobody could ever read it.
        return Err(seal::Error::NoRecipient.into());
    }
    let staging = options.control.run(store.stage(&options.key.prefix())).await.map_err(Error::Store)?;
    match fill(source, &*staging, options).await {
        Ok((manifest, json)) => {
            if let Err(error) = staging.commit(MANIFEST_NAME, json).await {
                // It may exist all the same, and nobody would know.
                remove(snapshot::delete(store, &options.key)).await;
                return Err(Error::Store(error));
            }
            Ok(manifest)
        }
        Err(error) => {
            remove(staging.abandon()).await;
            Err(error)
        }
    }
}

/// Cleans up after an error, which is the one to tell: what can't be removed, or not soon, is for the sweep.
pub(crate) async fn remove(work: impl Future<Output = Result<(), ConnectorError>>) {
    drop(tokio::time::timeout(REMOVAL_PATIENCE, work).await);
}

/// Stages everything but the manifest, which it gives as a reader of its file will see it, with that file.
async fn fill(
    source: &mut dyn Source,
    staging: &dyn Staging,
    options: &BackupOptions,
) -> Result<(Manifest, Bytes), Error> {
    let (started_at, control) = (clock::now(), &options.control);
    let throw_away = (options.read_back != ReadBack::Off).then(Identity::generate);
    control.progress().phase(Phase::Backup, options.expected_bytes);
    let (pulled, stats) = write(source, staging, options, throw_away.as_ref()).await?;
    let meta = options.meta().to_json()?;
    let meta_size = meta.len() as u64;
    control.run(put(staging, META_NAME, meta)).await.map_err(Error::Store)?;
    if options.unreported {
        control.run(put(staging, UNREPORTED_NAME, UNREPORTED)).await.map_err(Error::Store)?;
    }
    let read_back = match throw_away {
        Some(identity) => {
            let mode = (options.read_back, &options.key.snapshot_id);
            read_back::check(staging, &stats, identity, mode, control).await?
        }
        None => ReadBackReport { mode: ReadBack::Off, entries: 0, frames: 0, bytes: 0 },
    };
    let manifest = manifest(source.kind(), options, started_at, pulled, stats, read_back)?;
    let (artifact, index) = (manifest.artifact.size_bytes, manifest.index.size_bytes);
    let written = [(ARTIFACT_NAME, artifact), (INDEX_NAME, index), (META_NAME, meta_size)];
    read_back::check_sizes(staging, written, control).await?;
    let json = manifest.to_json()?;
    control.check().map_err(Error::Source)?;
    Ok((Manifest::from_json(&json)?, json.into()))
}

pub(crate) async fn put(
    staging: &dyn Staging,
    name: &str,
    bytes: impl Into<Bytes>,
) -> Result<(), ConnectorError> {
    let mut writer = staging.writer(name).await?;
    writer.write(bytes.into()).await?;
    writer.close().await
}

/// Runs source, archive and store side by side until all three are done.
async fn write(
    source: &mut dyn Source,
    staging: &dyn Staging,
    options: &BackupOptions,
    throw_away: Option<&Identity>,
) -> Result<(PullSummary, ArchiveStats), Error> {
    let control = &options.control;
    let mut artifact = control.run(staging.writer(ARTIFACT_NAME)).await.map_err(Error::Store)?;
    artifact.expect(options.expected_bytes.unwrap_or(0));
    let (artifact, artifact_stored) = outlet(artifact, control);
    let index = control.run(staging.writer(INDEX_NAME)).await.map_err(Error::Store)?;
    let (index, index_stored) = outlet(index, control);
    let writer = ArchiveWriter::new(artifact, index, writer_options(options, throw_away))?;
    let archive = ArchiveSink::spawn(writer)?;
    let (written, artifact_stored, index_stored) =
        tokio::join!(pull(source, archive, control), artifact_stored, index_stored);
    // Whatever else failed after that is its consequence.
    control.check().map_err(Error::Source)?;
    match (written, first_failure(artifact_stored, index_stored)) {
        (Ok(written), None) => Ok(written),
        // An archive that failed by itself gives its outlets up.
        (Err(error), Some(ConnectorError::Cancelled)) => Err(error),
        // The innermost cause: a failed store makes the archive fail, which makes the source fail.
        (Ok(_) | Err(Error::Outlet(_) | Error::Archive(_)), Some(store)) => Err(Error::Store(store)),
        (Err(error), _) => Err(error),
    }
}

/// The store's own failure. When one object fails the other is given up, which is no cause.
fn first_failure(
    artifact: Result<(), ConnectorError>,
    index: Result<(), ConnectorError>,
) -> Option<ConnectorError> {
    match (artifact.err(), index.err()) {
        (Some(ConnectorError::Cancelled), Some(other)) => Some(other),
        (error, other) => error.or(other),
    }
}

async fn pull(
    source: &mut dyn Source,
    mut archive: ArchiveSink,
    control: &Control,
) -> Result<(PullSummary, ArchiveStats), Error> {
    let wind_up = source.wind_up();
    match wound_up(source.pull(&mut archive, control), wind_up, control).await {
        Ok(pulled) => {
            let stats = archive.finish(pulled.content.skipped).await?;
            agree(&pulled, &stats)?;
            Ok((pulled, stats))
        }
        Err(error) => Err(archive.failure().await.unwrap_or(Error::Source(error))),
    }
}

/// What `pulling` comes to; when the job is cancelled it has that time to wind up.
async fn wound_up(
    pulling: impl Future<Output = Result<PullSummary, ConnectorError>>,
    wind_up: Duration,
    control: &Control,
) -> Result<PullSummary, ConnectorError> {
    let mut pulling = pin!(pulling);
    tokio::select! {
        biased;
        () = control.cancel_token().cancelled() => {}
        done = &mut pulling => return done,
    }
    tokio::time::timeout(wind_up, pulling).await.unwrap_or(Err(ConnectorError::Cancelled))
}

/// The archive must have counted exactly what the source says it gave.
fn agree(pulled: &PullSummary, stats: &ArchiveStats) -> Result<(), Error> {
    if pulled.content == stats.content {
        return Ok(());
    }
    Err(Error::Evidence { counted: format!("{:?}", stats.content), told: format!("{:?}", pulled.content) })
}

fn writer_options(options: &BackupOptions, throw_away: Option<&Identity>) -> WriterOptions {
    let with_throw_away = |recipients: &[Recipient]| {
        recipients.iter().cloned().chain(throw_away.map(Identity::recipient)).collect::<Vec<_>>()
    };
    let mut writer = WriterOptions::new(options.key.clone(), with_throw_away(&options.recipients));
    writer.index_recipients = with_throw_away(&options.index_recipients);
    writer.level = options.level;
    if let Some(threads) = options.threads {
        writer.threads = threads;
    }
    writer
}

/// The manifest of what was staged and read back just now. Its checksum is made with its file.
fn manifest(
    source_type: &str,
    options: &BackupOptions,
    started_at: Timestamp,
    pulled: PullSummary,
    stats: ArchiveStats,
    read_back: ReadBackReport,
) -> Result<Manifest, Error> {
    let first = options.recipients.first().ok_or(seal::Error::NoRecipient)?;
    let (meta, finished_at) = (options.meta(), clock::now());
    let duration = finished_at.duration_since(started_at).as_millis();
    let whole = stats.content.warnings == 0;
    Ok(Manifest {
        format_version: meta.format_version,
        tenant_id: meta.tenant_id,
        source_id: meta.source_id,
        snapshot_id: meta.snapshot_id,
        job_id: meta.job_id,
        worker_id: meta.worker_id,
        source_type: source_type.to_owned(),
        started_at,
        finished_at,
        duration_ms: u64::try_from(duration).unwrap_or(0),
        size_bytes: stats.artifact.size_bytes,
        sha256: stats.artifact.sha256.clone(),
        encryption_algorithm: seal::ALGORITHM.to_owned(),
        encryption_key_id: first.key_id(),
        encryption_recipient: first.clone(),
        encryption_recipients: options.recipients.clone(),
        index_recipients: options.index_recipients.clone(),
        artifact: stats.artifact,
        index: stats.index,
        tar_size_bytes: stats.tar_size_bytes,
        compressed_size_bytes: stats.compressed_size_bytes,
        completeness: if whole { Completeness::Whole } else { Completeness::Partial },
        tags: options.tags.clone(),
        content_summary: stats.content,
        evidence: pulled.evidence,
        read_back,
        xvault_version: env!("CARGO_PKG_VERSION").to_owned(),
        checksum: String::new(),
    })
}
