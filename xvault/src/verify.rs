//! Is a snapshot undamaged?

use bytes::Bytes;
use serde::Serialize;
use xvault_archive::{ArchiveReader, Watch, verify as check};
use xvault_connectors::{Control, Error as ConnectorError, Store, snapshot};
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME, META_NAME};
use xvault_core::{Identity, Manifest, Phase, SnapshotKey};

use crate::Error;
use crate::bridge::{Object, exactly, stoppable, with_objects};
use crate::objects::Stored;

/// How to verify. Without identities, sizes and SHA-256 of the stored files are compared with the manifest,
/// which finds any damage of the store; with them, everything is decrypted and every content hash compared too.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    identities: Option<Vec<Identity>>,
    control: Control,
}

impl VerifyOptions {
    /// Looks inside with these.
    #[must_use]
    pub fn identities(self, identities: Vec<Identity>) -> Self {
        Self { identities: Some(identities), ..self }
    }

    /// Cancellation and progress.
    #[must_use]
    pub fn control(self, control: Control) -> Self {
        Self { control, ..self }
    }
}

/// How far a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Sizes and hashes of the stored files.
    Quick,
    /// Every byte and every content hash.
    Deep,
    /// All of it was restored, and counted: see [`restore_test`](crate::restore_test).
    RestoreTest,
}

/// What was checked, and found to be sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// How far the check went.
    pub depth: Depth,
    /// Entries whose content hash was compared; 0 in a quick check.
    pub entries: u64,
    /// Bytes read from the store in a quick check, bytes of the tar stream in a deep one.
    pub bytes: u64,
}

/// Checks the four files of a snapshot against each other.
///
/// # Errors
/// Names the first file that is missing, damaged, or another snapshot's.
pub async fn verify(
    store: &dyn Store,
    key: &SnapshotKey,
    options: &VerifyOptions,
) -> Result<VerifyReport, Error> {
    let control = &options.control;
    let manifest = control.run(snapshot::manifest(store, key)).await.map_err(Error::Store)?;
    checked_meta(store, &manifest, control).await?;
    let artifact = Stored::open(store, key, ARTIFACT_NAME, &manifest.artifact, control).await?;
    let index = Stored::open(store, key, INDEX_NAME, &manifest.index, control).await?;
    match &options.identities {
        None => quick(&artifact, &index, manifest, control).await,
        Some(identities) => deep(&artifact, &index, manifest, identities.clone(), control).await,
    }
}

/// The bytes of the meta file, which belongs to the manifest.
pub(crate) async fn checked_meta(
    store: &dyn Store,
    manifest: &Manifest,
    control: &Control,
) -> Result<Bytes, Error> {
    let key = manifest.key();
    let (meta, bytes) = control.run(snapshot::meta_file(store, &key)).await.map_err(Error::Store)?;
    if (&meta.job_id, &meta.worker_id) == (&manifest.job_id, &manifest.worker_id) {
        return Ok(bytes);
    }
    let file = format!("{}/{META_NAME}", key.prefix());
    let reason = "it names another job or worker than the manifest".to_owned();
    Err(Error::Store(ConnectorError::Damaged { file, reason }))
}

async fn quick(
    artifact: &Stored<'_>,
    index: &Stored<'_>,
    manifest: Manifest,
    control: &Control,
) -> Result<VerifyReport, Error> {
    let bytes = manifest.artifact.size_bytes.saturating_add(manifest.index.size_bytes);
    control.progress().phase(Phase::Verify, Some(bytes));
    let watch = Watch::new(control.progress().clone());
    let watching = watch.clone();
    let objects: [&dyn Object; 2] = [artifact, index];
    let work = with_objects(&objects, control, move |readers| {
        let [artifact, index] = exactly(readers)?;
        Ok(check::quick(artifact, index, &manifest, &watching)?)
    });
    stoppable(control, &watch, work).await?;
    Ok(VerifyReport { depth: Depth::Quick, entries: 0, bytes })
}

async fn deep(
    artifact: &Stored<'_>,
    index: &Stored<'_>,
    manifest: Manifest,
    identities: Vec<Identity>,
    control: &Control,
) -> Result<VerifyReport, Error> {
    control.progress().phase(Phase::Verify, Some(manifest.content_summary.bytes));
    let watch = Watch::new(control.progress().clone());
    let watching = watch.clone();
    let objects: [&dyn Object; 2] = [artifact, index];
    let work = with_objects(&objects, control, move |readers| {
        let [artifact, index] = exactly(readers)?;
        let mut reader = ArchiveReader::open(artifact, index, &identities)?.read_ahead()?;
        let report = check::deep(&mut reader, &watching)?;
        report.check_manifest(&manifest)?;
        Ok(report)
    });
    let report = stoppable(control, &watch, work).await?;
    Ok(VerifyReport { depth: Depth::Deep, entries: report.entries, bytes: report.bytes })
}
