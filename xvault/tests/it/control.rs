//! Progress that adds up, and the bandwidth limit.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use xvault::core::Identity;
use xvault::core::monitor::{Phase, Recorder};
use xvault::{Control, MemoryStore, ReadBack, RestoreOptions, Snapshot, VerifyOptions};

use crate::support::{backup, files, options, path, random};

fn recorded() -> (Arc<Recorder>, Control) {
    let recorder = Arc::new(Recorder::default());
    (recorder.clone(), Control::default().with_progress(recorder))
}

#[tokio::test]
async fn progress_adds_up_to_the_content() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = MemoryStore::new().unwrap();
    let content = [("a", random(5 << 20, 1)), ("b", random(0, 2)), ("c/d", random(77, 3))];
    let bytes = (5 << 20) + 77;

    let (seen, control) = recorded();
    let off = options(&identity).read_back(ReadBack::Off).control(control);
    backup(&mut files(&content), &store, &off).await.unwrap();
    assert_eq!((seen.phases(), seen.entry_count(), seen.byte_count()), (vec![Phase::Backup], 3, bytes));

    let (seen, control) = recorded();
    let manifest = backup(&mut files(&content), &store, &options(&identity).control(control)).await.unwrap();
    assert_eq!(seen.phases(), [Phase::Backup, Phase::ReadBack]);
    assert_eq!((seen.entry_count(), seen.byte_count()), (6, 2 * bytes));

    let (seen, control) = recorded();
    xvault::verify(&store, &manifest.key(), &VerifyOptions::default().control(control)).await.unwrap();
    let stored = manifest.artifact.size_bytes + manifest.index.size_bytes;
    assert_eq!((seen.phases(), seen.byte_count()), (vec![Phase::Verify], stored));

    let (seen, control) = recorded();
    let deep = VerifyOptions::default().identities(vec![identity.clone()]).control(control);
    xvault::verify(&store, &manifest.key(), &deep).await.unwrap();
    assert_eq!((seen.phases(), seen.entry_count(), seen.byte_count()), (vec![Phase::Verify], 3, bytes));

    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await.unwrap();
    let (seen, control) = recorded();
    snapshot.restore(dir.path(), RestoreOptions::default().control(control)).await.unwrap();
    assert_eq!((seen.phases(), seen.byte_count()), (vec![Phase::Restore], bytes));

    let (seen, control) = recorded();
    snapshot.cat(&path("c/d"), std::io::sink(), &control).await.unwrap();
    assert_eq!(seen.byte_count(), 77);
}

#[tokio::test]
async fn the_bandwidth_limit_holds() {
    let store = MemoryStore::new().unwrap();
    let control = Control::default().with_bandwidth(NonZeroU64::new(1 << 20).unwrap());
    let options = options(&Identity::generate()).control(control);
    let start = Instant::now();
    backup(&mut files(&[("a", random(1 << 20, 1))]), &store, &options).await.unwrap();
    // A second's worth, less the burst of a tenth; above that only the machine's own slowness.
    let took = start.elapsed();
    assert!(took > Duration::from_millis(850) && took < Duration::from_secs(20), "{took:?}");
}
