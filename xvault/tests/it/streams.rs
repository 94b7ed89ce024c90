//! Bodies of unknown length, below and above the segment size: always one file to whoever reads.

use std::fs;
use std::ops::ControlFlow;
use std::sync::mpsc;

use bytes::Bytes;
use xvault::core::Identity;
use xvault::{ArchiveEntry, Control, Error, MemoryStore, RestoreOptions, Snapshot, VerifyOptions};

use crate::support::{backup, options, path, random, stream};

const SEGMENT: usize = 8 << 20;

async fn listed(snapshot: &Snapshot<'_>) -> Vec<(String, u64)> {
    let (send, seen) = mpsc::channel();
    let list = move |entry: ArchiveEntry| {
        send.send((entry.entry.path.to_string(), entry.size())).unwrap();
        ControlFlow::Continue(())
    };
    snapshot.entries(list).await.unwrap();
    seen.iter().collect()
}

async fn assert_is_one_file(body: Bytes) {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = MemoryStore::new().unwrap();
    let manifest =
        backup(&mut stream("db/dump.sql", body.clone()), &store, &options(&identity)).await.unwrap();
    let size = body.len() as u64;
    assert_eq!((manifest.content_summary.files, manifest.content_summary.bytes), (1, size));

    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity.clone()]).await.unwrap();
    assert_eq!(listed(&snapshot).await, [("db/dump.sql".to_owned(), size)]);
    let dump = path("db/dump.sql");
    assert!(snapshot.read_to_vec(&dump, size).await.unwrap() == body, "{size} bytes");
    if let Some(limit) = size.checked_sub(1) {
        let error = snapshot.read_to_vec(&dump, limit).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { size: told, .. } if told == size), "{error:?}");
    }
    let copy = dir.path().join("copy");
    snapshot.cat(&dump, fs::File::create(&copy).unwrap(), &Control::default()).await.unwrap();
    assert!(fs::read(&copy).unwrap() == body, "{size} bytes");
    let restored = snapshot.restore(dir.path(), RestoreOptions::default()).await.unwrap();
    assert_eq!(restored.files, 1);
    assert!(fs::read(dir.path().join("db/dump.sql")).unwrap() == body, "{size} bytes");
    assert_eq!(fs::read_dir(dir.path().join("db")).unwrap().count(), 1);
    let deep = VerifyOptions::default().identities(vec![identity]);
    xvault::verify(&store, &manifest.key(), &deep).await.unwrap();
}

#[tokio::test]
async fn an_empty_stream_and_one_byte() {
    assert_is_one_file(Bytes::new()).await;
    assert_is_one_file(Bytes::from_static(b"x")).await;
}

#[tokio::test]
async fn exactly_a_segment_and_one_byte_more() {
    assert_is_one_file(random(SEGMENT, 1)).await;
    assert_is_one_file(random(SEGMENT + 1, 2)).await;
}

#[tokio::test]
async fn several_segments() {
    assert_is_one_file(random(3 * SEGMENT, 3)).await;
    assert_is_one_file(random(2 * SEGMENT + 12_345, 4)).await;
}
