//! Objects of a store as `Read + Seek`: the same as bytes in memory, and sparing.

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use xvault::bridge::{Object, with_objects};
use xvault::connectors::Error as ConnectorError;
use xvault::core::Identity;
use xvault::{Control, Error, MemoryStore, Snapshot, Store};

use crate::support::{backup, files, options, path, random};

struct Stored {
    store: MemoryStore,
    size: u64,
}

const KEY: &str = "tenants/object";

#[async_trait]
impl Object for Stored {
    fn name(&self) -> &str {
        KEY
    }
    fn size(&self) -> u64 {
        self.size
    }
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        self.store.read(KEY, range).await
    }
}

async fn stored(bytes: &Bytes) -> Stored {
    let store = MemoryStore::new().unwrap();
    let staging = store.stage("tenants").await.unwrap();
    staging.commit("object", bytes.clone()).await.unwrap();
    Stored { store, size: bytes.len() as u64 }
}

#[derive(Debug, Clone)]
enum Step {
    Seek(SeekFrom),
    Read(usize),
}

/// Mostly within the object and near to where the reader is; now and then far beyond either end.
fn step(size: i64) -> impl Strategy<Value = Step> {
    let near = -200_000..200_000_i64;
    prop_oneof![
        (0..size + 1000).prop_map(|to| Step::Seek(SeekFrom::Start(to.unsigned_abs()))),
        (-size - 1000..1000).prop_map(|to| Step::Seek(SeekFrom::End(to))),
        near.prop_map(|to| Step::Seek(SeekFrom::Current(to))),
        (0..5000_usize).prop_map(Step::Read),
        (0..700_000_usize).prop_map(Step::Read),
    ]
}

/// What a step gives: the new position or the bytes; `None` for an error.
fn take(reader: &mut (impl Read + Seek), step: &Step) -> Option<(u64, Vec<u8>)> {
    match step {
        Step::Seek(to) => Some((reader.seek(*to).ok()?, Vec::new())),
        Step::Read(count) => {
            let mut bytes = Vec::new();
            reader.take(*count as u64).read_to_end(&mut bytes).unwrap();
            Some((reader.stream_position().unwrap(), bytes))
        }
    }
}

const SIZE: usize = 9 << 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_reads_as_memory_does(steps in proptest::collection::vec(step(SIZE as i64), 1..30)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bytes = random(SIZE, 1);
        let (steps, model) = (Arc::new(steps), bytes.clone());
        let differing = runtime.block_on(async {
            let object = stored(&bytes).await;
            with_objects(&[&object], &Control::default(), move |mut readers| {
                let (mut reader, mut model) = (readers.remove(0), Cursor::new(model));
                Ok(steps.iter().find(|step| take(&mut reader, step) != take(&mut model, step)).cloned())
            }).await.unwrap()
        });
        prop_assert!(differing.is_none(), "{:?}", differing);
    }
}

#[tokio::test]
async fn a_sequential_read_fetches_each_byte_once() {
    let bytes = random(SIZE + 17, 2);
    let object = stored(&bytes).await;
    let (read, fetched) = with_objects(&[&object], &Control::default(), |mut readers| {
        let mut reader = readers.remove(0);
        let (mut all, fetched) = (Vec::new(), reader.fetched());
        reader.read_to_end(&mut all).unwrap();
        Ok((all, fetched.get()))
    })
    .await
    .unwrap();
    assert!(read == bytes);
    assert_eq!(fetched, bytes.len() as u64);
}

/// A store that answers for the fourth block and those behind it once it owes three.
struct Far {
    stored: Stored,
    owed: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Object for Far {
    fn name(&self) -> &str {
        KEY
    }
    fn size(&self) -> u64 {
        self.stored.size
    }
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        let owed = self.owed.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(owed, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(5);
        while range.start > 8 << 20 && self.most.load(Ordering::Relaxed) < 3 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.owed.fetch_sub(1, Ordering::Relaxed);
        self.stored.read(range).await
    }
}

#[tokio::test]
async fn a_sequential_read_asks_for_three_blocks_at_once() {
    let bytes = random(40 << 20, 4);
    let far = Far { stored: stored(&bytes).await, owed: AtomicUsize::new(0), most: AtomicUsize::new(0) };
    let read = with_objects(&[&far], &Control::default(), |mut readers| {
        let mut all = Vec::new();
        readers.remove(0).read_to_end(&mut all).unwrap();
        Ok(all)
    })
    .await
    .unwrap();
    assert!(read == bytes);
    assert_eq!(far.most.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_read_after_a_seek_fetches_little_again() {
    let object = stored(&random(SIZE, 3)).await;
    let fetched = with_objects(&[&object], &Control::default(), |mut readers| {
        let mut reader = readers.remove(0);
        let (mut half, fetched) = (vec![0; SIZE / 2], reader.fetched());
        reader.read_exact(&mut half).unwrap();
        // A block in the other direction: whatever was read ahead has been counted before its answer comes.
        reader.seek(SeekFrom::Start(200_000)).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        let before = fetched.get();
        reader.seek(SeekFrom::Start(500_000)).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        Ok(fetched.get() - before)
    })
    .await;
    assert_eq!(fetched.unwrap(), 128 << 10);
}

#[tokio::test]
async fn both_ends_of_an_object_are_fetched_once() {
    let object = stored(&random(SIZE, 3)).await;
    let fetched = with_objects(&[&object], &Control::default(), |mut readers| {
        let mut reader = readers.remove(0);
        for _ in 0..3 {
            reader.read_exact(&mut [0; 10]).unwrap();
            reader.seek(SeekFrom::End(-70_000)).unwrap();
            reader.read_to_end(&mut Vec::new()).unwrap();
            reader.seek(SeekFrom::Start(0)).unwrap();
        }
        Ok(reader.fetched().get())
    })
    .await;
    assert_eq!(fetched.unwrap(), (128 << 10) + 70_000);
}

#[tokio::test]
async fn an_object_that_is_shorter_than_it_said_is_an_error() {
    let mut object = stored(&random(1000, 1)).await;
    object.size = 2000;
    let error = with_objects(&[&object], &Control::default(), |mut readers| {
        Ok(readers.remove(0).read_to_end(&mut Vec::new()).unwrap_err().to_string())
    })
    .await;
    assert_eq!(error.unwrap(), "the store gave 1000 bytes for 0..2000");
}

#[tokio::test]
async fn a_panic_in_the_work_is_an_error() {
    let object = stored(&random(10, 1)).await;
    let fault = |_| -> Result<(), Error> { panic!("the work broke") };
    let error = with_objects(&[&object], &Control::default(), fault).await.unwrap_err();
    assert!(matches!(error, Error::Thread(_)), "{error:?}");
}

#[tokio::test]
async fn one_small_file_out_of_64_mib_costs_two_frames_at_most() {
    let identity = Identity::generate();
    let store = MemoryStore::new().unwrap();
    let needle = random(5000, 1);
    let hay: Vec<_> = (0..64).map(|number| (format!("hay/{number}"), random(1 << 20, number))).collect();
    let mut list: Vec<_> = hay.iter().map(|(name, body)| (name.as_str(), body.clone())).collect();
    list.insert(40, ("needle", needle.clone()));
    let manifest = backup(&mut files(&list), &store, &options(&identity)).await.unwrap();
    assert!(manifest.artifact.size_bytes > 64 << 20);

    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("needle");
    let out = std::fs::File::create(&copy).unwrap();
    let fetched = snapshot.cat(&path("needle"), out, &Control::default()).await.unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), needle);
    assert!((4 << 20..8 << 20).contains(&fetched.artifact_bytes), "{fetched:?}");
    // The first line is read twice: to check whose index it is, and in the search.
    assert!(
        fetched.index_bytes >= manifest.index.size_bytes
            && fetched.index_bytes <= 2 * manifest.index.size_bytes,
        "{fetched:?}"
    );
}
