//! Proof that a store gives back what was written: read it again, and compare.

use xvault_archive::{ArchiveReader, ArchiveStats, Watch, verify as check};
use xvault_connectors::{Control, Staging};
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME, ReadBackReport};
use xvault_core::{Dispose, Disposition, Identity, Phase, ReadBack, SnapshotId};

use crate::Error;
use crate::bridge::{Object, exactly, stoppable, with_objects};
use crate::objects::Staged;

/// How many random frames a sample looks at, beside the first and the last.
const SAMPLED_FRAMES: u64 = 8;

/// Reads the staged artifact and index back with the throw-away identity they were also encrypted to, and
/// compares with what the writer had in memory.
///
/// # Errors
/// [`Error::ReadBack`] when a single byte is not what was written.
pub(crate) async fn check(
    staging: &dyn Staging,
    stats: &ArchiveStats,
    throw_away: Identity,
    (mode, snapshot_id): (ReadBack, &SnapshotId),
    control: &Control,
) -> Result<ReadBackReport, Error> {
    let total = (mode == ReadBack::Full).then_some(stats.content.bytes);
    control.progress().phase(Phase::ReadBack, total);
    let compared = compare(staging, stats, throw_away, (mode, snapshot_id), control).await;
    compared.map_err(|error| match error.disposition() {
        Disposition::Cancelled => error,
        _ => Error::ReadBack(Box::new(error)),
    })
}

async fn compare(
    staging: &dyn Staging,
    stats: &ArchiveStats,
    throw_away: Identity,
    (mode, snapshot_id): (ReadBack, &SnapshotId),
    control: &Control,
) -> Result<ReadBackReport, Error> {
    let artifact = Staged::open(staging, ARTIFACT_NAME, &stats.artifact, control).await?;
    let index = Staged::open(staging, INDEX_NAME, &stats.index, control).await?;
    let watch = Watch::new(control.progress().clone());
    let (watching, stats, seed) = (watch.clone(), stats.clone(), seed(snapshot_id));
    let objects: [&dyn Object; 2] = [&artifact, &index];
    let work = with_objects(&objects, control, move |readers| {
        let [artifact, index] = exactly(readers)?;
        let mut reader = ArchiveReader::open(artifact, index, &[throw_away])?;
        let report = match mode {
            ReadBack::Full | ReadBack::Off => check::deep(&mut reader, &watching)?,
            ReadBack::Sample => {
                let frames = check::sample_frames(stats.frames, SAMPLED_FRAMES, seed);
                check::sample(&mut reader, &frames, &watching)?
            }
        };
        report.check_stats(&stats)?;
        Ok(report.read_back(mode))
    });
    stoppable(control, &watch, work).await
}

/// Other frames for each snapshot: the id's random half.
fn seed(snapshot_id: &SnapshotId) -> u64 {
    snapshot_id.as_str().bytes().fold(0, |seed, byte| u64::rotate_left(seed, 5) ^ u64::from(byte))
}
