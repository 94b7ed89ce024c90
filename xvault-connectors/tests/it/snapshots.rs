//! Snapshots in stores: what makes them exist, what damage does to a listing, and what a deletion that broke off leaves.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use xvault_connectors::snapshot::{self, Filter, Listed};
use xvault_connectors::store::hooked::{Hook, HookedStore};
use xvault_connectors::store::unreliable::{Call, UnreliableStore};
use xvault_connectors::{Error, FsStore, MemoryStore, Store};
use xvault_core::snapshot::{ARTIFACT_NAME, MANIFEST_NAME, MAX_JSON_LEN, META_NAME, UNREPORTED_NAME};
use xvault_core::{Manifest, SnapshotId, SnapshotKey};
use xvault_testkit::samples;

fn key(tenant: &str, source: &str) -> SnapshotKey {
    let snapshot_id = SnapshotId::generate();
    SnapshotKey { tenant_id: tenant.parse().unwrap(), source_id: source.parse().unwrap(), snapshot_id }
}

fn manifest(key: &SnapshotKey, hour: u32) -> Manifest {
    Manifest {
        started_at: format!("2026-11-24T{hour:02}:00:00Z").parse().unwrap(),
        finished_at: format!("2026-11-24T{hour:02}:00:01Z").parse().unwrap(),
        ..samples::manifest(key)
    }
}

/// Stores a snapshot whose manifest file is `last`, as a worker does.
async fn put(store: &dyn Store, key: &SnapshotKey, last: Vec<u8>) {
    let staging = store.stage(&key.prefix()).await.unwrap();
    let meta = samples::meta(key).to_json().unwrap();
    for (name, body) in
        [(ARTIFACT_NAME, b"artifact".to_vec()), (META_NAME, meta), (UNREPORTED_NAME, Vec::new())]
    {
        let mut writer = staging.writer(name).await.unwrap();
        writer.write(Bytes::from(body)).await.unwrap();
        writer.close().await.unwrap();
    }
    staging.commit(MANIFEST_NAME, Bytes::from(last)).await.unwrap();
}

async fn put_whole(store: &dyn Store, tenant: &str, source: &str, hour: u32) -> SnapshotKey {
    let key = key(tenant, source);
    put(store, &key, manifest(&key, hour).to_json().unwrap()).await;
    key
}

fn keys(listed: &[Listed]) -> Vec<SnapshotKey> {
    listed.iter().map(|listed| listed.key.clone()).collect()
}

#[tokio::test]
async fn snapshots_are_listed_oldest_first_and_by_owner() {
    let store = MemoryStore::new().unwrap();
    let noon = put_whole(&store, "t1", "web", 12).await;
    let morning = put_whole(&store, "t1", "db", 8).await;
    let foreign = put_whole(&store, "t2", "web", 10).await;
    let filter = |tenant: Option<&str>, source: Option<&str>| Filter {
        tenant_id: tenant.map(|id| id.parse().unwrap()),
        source_id: source.map(|id| id.parse().unwrap()),
    };
    let listed = async |filter: Filter| keys(&snapshot::list(&store, &filter).await.unwrap());
    assert_eq!(listed(filter(None, None)).await, [morning.clone(), foreign.clone(), noon.clone()]);
    assert_eq!(listed(filter(Some("t1"), None)).await, [morning, noon.clone()]);
    assert_eq!(listed(filter(None, Some("web"))).await, [foreign, noon.clone()]);
    assert_eq!(listed(filter(Some("t1"), Some("web"))).await, [noon]);
    // A tenant whose id begins with another's is a stranger.
    assert_eq!(listed(filter(Some("t"), None)).await, []);
}

#[tokio::test]
async fn damage_is_shown_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let sound = put_whole(&store, "t", "s", 9).await;
    let json = manifest(&sound, 9).to_json().unwrap();
    let mut flipped = json.clone();
    flipped[json.len() / 2] ^= 1;
    let long = vec![b' '; usize::try_from(MAX_JSON_LEN).unwrap() + 1];
    let damages = [
        (json[..json.len() / 2].to_vec(), "manifest.json is damaged"),
        (flipped, "manifest.json is damaged"),
        (Vec::new(), "manifest.json is damaged"),
        (long, "longer than 1 MiB"),
        (json, sound.snapshot_id.as_str()),
    ];
    for (bytes, expected) in damages {
        let damaged = key("t", "s");
        put(&store, &damaged, bytes).await;
        let listed = snapshot::list(&store, &Filter::default()).await.unwrap();
        assert_eq!(keys(&listed), [sound.clone(), damaged.clone()], "the damaged one comes last");
        assert!(listed[0].manifest.is_ok());
        let error = listed[1].manifest.as_ref().unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, Error::Damaged { .. }) && told.contains(expected), "{told}");
        assert!(told.contains(damaged.snapshot_id.as_str()), "{told}");
        snapshot::delete(&store, &damaged).await.unwrap();
    }
}

#[tokio::test]
async fn a_meta_file_of_another_snapshot_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let (a, b) = (put_whole(&store, "t", "s", 1).await, put_whole(&store, "t", "s", 2).await);
    assert_eq!(snapshot::meta(&store, &a).await.unwrap().key(), a);
    let file = |key: &SnapshotKey| dir.path().join(key.prefix()).join(META_NAME);
    std::fs::copy(file(&b), file(&a)).unwrap();
    let error = snapshot::meta(&store, &a).await.unwrap_err().to_string();
    assert!(error.contains("another snapshot") && error.contains(b.snapshot_id.as_str()), "{error}");
}

#[tokio::test]
async fn without_a_manifest_there_is_no_snapshot() {
    let store = MemoryStore::new().unwrap();
    let key = key("t", "s");
    let staging = store.stage(&key.prefix()).await.unwrap();
    let mut writer = staging.writer(ARTIFACT_NAME).await.unwrap();
    writer.write(Bytes::from_static(b"artifact")).await.unwrap();
    writer.close().await.unwrap();
    assert!(snapshot::list(&store, &Filter::default()).await.unwrap().is_empty());
    assert!(matches!(snapshot::manifest(&store, &key).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn remains_without_a_manifest_are_shown_and_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let (sound, remains) = (put_whole(&store, "t", "s", 1).await, put_whole(&store, "t", "s", 2).await);
    // A deletion that broke off after its first step.
    store.delete(&format!("{}/{MANIFEST_NAME}", remains.prefix())).await.unwrap();
    let running = store.stage(&key("t", "s").prefix()).await.unwrap();
    running.writer(ARTIFACT_NAME).await.unwrap().close().await.unwrap();

    let listed = snapshot::list(&store, &Filter::default()).await.unwrap();
    assert_eq!(keys(&listed), [sound.clone(), remains.clone()], "a running backup is not among them");
    let error = listed[1].manifest.as_ref().unwrap_err().to_string();
    let expected = "manifest.json: it is missing: the remains of a deleted or damaged snapshot";
    assert_eq!(error, format!("{}/{expected}", remains.prefix()));

    snapshot::delete(&store, &remains).await.unwrap();
    assert!(!dir.path().join(remains.prefix()).exists());
    assert_eq!(keys(&snapshot::list(&store, &Filter::default()).await.unwrap()), [sound]);
}

#[tokio::test]
async fn deleting_takes_all_is_repeatable_and_spares_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let store = UnreliableStore::new(FsStore::open(dir.path()).unwrap());
    let (key, neighbour) = (put_whole(&store, "t", "s", 1).await, put_whole(&store, "t", "s", 2).await);
    let store = store.failing(Call::Delete, 1);
    snapshot::delete(&store, &key).await.unwrap_err();
    // The manifest is the first to go: as it could not be deleted, nothing else was.
    assert!(snapshot::manifest(&store, &key).await.is_ok());
    assert_eq!(store.size(&format!("{}/{ARTIFACT_NAME}", key.prefix())).await.unwrap(), Some(8));
    for _ in 0..2 {
        snapshot::delete(&store, &key).await.unwrap();
        assert!(!dir.path().join(key.prefix()).exists());
    }
    assert_eq!(keys(&snapshot::list(&store, &Filter::default()).await.unwrap()), [neighbour]);
}

#[tokio::test]
async fn the_mark_of_an_unreported_snapshot_goes_once_and_takes_nothing_with_it() {
    let (memory, dir) = (MemoryStore::new().unwrap(), tempfile::tempdir().unwrap());
    let stores: [&dyn Store; 2] = [&memory, &FsStore::open(dir.path()).unwrap()];
    for store in stores {
        let key = put_whole(store, "t", "s", 1).await;
        assert!(snapshot::is_unreported(store, &key).await.unwrap());
        for _ in 0..2 {
            snapshot::unmark(store, &key).await.unwrap();
            assert!(!snapshot::is_unreported(store, &key).await.unwrap());
        }
        assert_eq!(objects(store, &key).await, [ARTIFACT_NAME, MANIFEST_NAME, META_NAME]);
        // Nor does it harm when the snapshot is gone.
        snapshot::delete(store, &key).await.unwrap();
        snapshot::unmark(store, &key).await.unwrap();
    }
}

/// The names of what there is of a snapshot.
async fn objects(store: &dyn Store, key: &SnapshotKey) -> Vec<String> {
    let prefix = format!("{}/", key.prefix());
    let objects: Vec<_> = store.list(&key.prefix()).await.unwrap().try_collect().await.unwrap();
    let mut names: Vec<_> = objects.iter().map(|object| object.replacen(&prefix, "", 1)).collect();
    names.sort();
    names
}

/// Lets so many deletions through, and no more: the program has died.
#[derive(Debug)]
struct DiesAfter(AtomicU64);

#[async_trait]
impl Hook for DiesAfter {
    async fn before(&self, call: Call, _: &str) -> Result<(), Error> {
        let spend = |left: u64| left.checked_sub(1);
        let dead =
            call == Call::Delete && self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_err();
        if dead { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[tokio::test]
async fn wherever_a_deletion_breaks_off_what_is_left_says_whose_it_is_and_that_it_may_go() {
    let (memory, dir) = (MemoryStore::new().unwrap(), tempfile::tempdir().unwrap());
    let disk = FsStore::open(dir.path()).unwrap();
    assert_eq!((deaths(memory).await, deaths(disk).await), (3, 2));
}

/// Deletes a snapshot with a death after each number of steps; gives how many steps it takes.
async fn deaths(store: impl Store + Clone + 'static) -> u64 {
    for steps in 0.. {
        let key = put_whole(&store, "t", "s", 1).await;
        let dying = HookedStore::with_hook(store.clone(), DiesAfter(AtomicU64::new(steps)));
        let died = snapshot::delete(&dying, &key).await.is_err();
        let left = objects(&store, &key).await;
        if !died {
            assert_eq!(left, [""; 0]);
            return steps;
        }
        assert_eq!(left.iter().any(|name| name == MANIFEST_NAME), steps == 0, "{left:?}");
        assert_eq!(snapshot::meta(&store, &key).await.unwrap().key(), key);
        assert!(snapshot::is_unreported(&store, &key).await.unwrap(), "{left:?}");
        snapshot::delete(&store, &key).await.unwrap();
        assert_eq!(objects(&store, &key).await, [""; 0]);
    }
    unreachable!()
}

#[tokio::test]
async fn a_listing_that_fails_is_an_error_and_not_an_empty_list() {
    let store = UnreliableStore::new(MemoryStore::new().unwrap()).failing(Call::List, 1);
    assert!(snapshot::list(&store, &Filter::default()).await.is_err());
}
