//! Proof that a store gives back what was written: read it again, and compare.

use xvault_archive::{ArchiveReader, ArchiveStats, Watch, verify as check};
use xvault_connectors::{Control, Staging};
use xvault_core::snapshot::{ARTIFACT_NAME, INDEX_NAME, ReadBackReport};
use xvault_core::{Dispose, Disposition, Identity, Phase, ReadBack, SnapshotId};

use crate::Error;
use crate::bridge::{ObjectReader, exactly, stoppable, with_objects};
use crate::objects::{Staged, same_size};

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
    let compared = async {
        let artifact = Staged::open(staging, ARTIFACT_NAME, &stats.artifact, control).await?;
        let index = Staged::open(staging, INDEX_NAME, &stats.index, control).await?;
        let watch = Watch::new(control.progress().clone());
        let compare = comparison(stats.clone(), throw_away, mode, seed(snapshot_id), watch.clone());
        stoppable(control, &watch, with_objects(&[&artifact, &index], control, compare)).await
    };
    compared.await.map_err(not_as_written)
}

/// What compares, on a thread.
fn comparison(
    stats: ArchiveStats,
    throw_away: Identity,
    mode: ReadBack,
    seed: u64,
    watch: Watch,
) -> impl FnOnce(Vec<ObjectReader>) -> Result<ReadBackReport, Error> + Send + 'static {
    move |readers| {
        let [artifact, index] = exactly(readers)?;
        let mut reader = ArchiveReader::open(artifact, index, &[throw_away])?.read_ahead()?;
        let report = match mode {
            ReadBack::Full | ReadBack::Off => check::deep(&mut reader, &watch)?,
            ReadBack::Sample => {
                let frames = check::sample_frames(stats.frames, SAMPLED_FRAMES, seed);
                check::sample(&mut reader, &frames, &watch)?
            }
        };
        report.check_stats(&stats)?;
        Ok(report.read_back(mode))
    }
}

/// That each object is there, and as long as it was written. A store may have lost it since, however well the
/// writing went, and a commit would not notice.
///
/// # Errors
/// [`Error::ReadBack`] when one is not.
pub(crate) async fn check_sizes(
    staging: &dyn Staging,
    written: [(&str, u64); 3],
    control: &Control,
) -> Result<(), Error> {
    for (name, size) in written {
        let found = control.run(staging.size(name)).await;
        same_size(name, found, size).map_err(not_as_written)?;
    }
    Ok(())
}

/// Tells damage, which the next copy may not have, from a store or a machine that just now can't answer.
fn not_as_written(error: Error) -> Error {
    let unanswered = match (&error, error.disposition()) {
        (_, Disposition::Cancelled) | (Error::Store(_), Disposition::Transient) => true,
        (error, _) => matches!(error, Error::Thread(_)),
    };
    if unanswered { error } else { Error::ReadBack(Box::new(error)) }
}

/// Other frames for each snapshot: the id's random half.
fn seed(snapshot_id: &SnapshotId) -> u64 {
    snapshot_id.as_str().bytes().fold(0, |seed, byte| u64::rotate_left(seed, 5) ^ u64::from(byte))
}
