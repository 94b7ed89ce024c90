//! Exports as a program meets them: to a writer, and as a stream for a response.

use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use xvault::connectors::Error as ConnectorError;
use xvault::core::error::chain;
use xvault::core::monitor::Recorder;
use xvault::core::snapshot::ARTIFACT_NAME;
use xvault::core::{Dispose, Disposition, Identity, SnapshotKey};
use xvault::{ByteStream, Control, Error, ExportFormat, FsStore, MemoryStore, Snapshot, Store};

use crate::support::{backup, files, only_file, options, path, random, timely};

/// A writer whose bytes can be looked at afterwards.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    store: Arc<dyn Store>,
    key: SnapshotKey,
    identity: Identity,
}

impl World {
    async fn with(store: impl Store + 'static, list: &[(&str, Bytes)]) -> Self {
        let identity = Identity::generate();
        let manifest = backup(&mut files(list), &store, &options(&identity)).await.unwrap();
        Self { store: Arc::new(store), key: manifest.key(), identity }
    }

    async fn snapshot(&self) -> Snapshot<'static> {
        Snapshot::open_shared(self.store.clone(), &self.key, vec![self.identity.clone()]).await.unwrap()
    }
}

async fn read<T: Unpin>(stream: &mut ByteStream<T>) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(chunk) = timely(stream.next()).await {
        let chunk = chunk?;
        assert!(chunk.len() <= 256 << 10);
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[tokio::test]
async fn a_stream_gives_what_a_writer_gets_in_every_format() {
    let list = [("a/one.txt", Bytes::from_static(b"1")), ("b/two", random(3 << 20, 1))];
    let world = World::with(MemoryStore::new().unwrap(), &list).await;
    for format in ExportFormat::ALL {
        for paths in [vec![], vec![path("b")]] {
            let (kept, snapshot) = (Kept::default(), world.snapshot().await);
            let written = snapshot.export(format, &paths, kept.clone(), &Control::default()).await.unwrap();
            let entries = 2 - paths.len() as u64;
            let mut stream = snapshot.export_stream(format, paths, &Control::default());
            let streamed = read(&mut stream).await.unwrap();
            assert_eq!(stream.outcome(), Some(&written), "{format}");
            assert_eq!((written.entries, written.bytes), (entries, streamed.len() as u64), "{format}");
            assert!(*kept.0.lock().unwrap() == streamed, "{format}");
        }
    }
}

#[tokio::test]
async fn a_slow_reader_holds_little_and_one_that_leaves_stops_the_work() {
    let world = World::with(MemoryStore::new().unwrap(), &[("big", random(40 << 20, 2))]).await;
    let progress = Arc::new(Recorder::default());
    let control = Control::default().with_progress(progress.clone());
    let mut stream = world.snapshot().await.export_stream(ExportFormat::Tar, Vec::new(), &control);
    for _ in 0..24 {
        timely(stream.next()).await.unwrap().unwrap();
    }
    // Nobody reads on: the writer comes to a stop after what may wait, in whole frames.
    let mut before = u64::MAX;
    while progress.byte_count() != before {
        before = progress.byte_count();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!((3 << 20..=16 << 20).contains(&before), "{before} bytes ran ahead");
    drop(stream);
    // The store is let go of when the thread has ended.
    timely(async {
        while Arc::strong_count(&world.store) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(progress.byte_count() <= before + (4 << 20));
    assert!(!control.cancel_token().is_cancelled(), "a reader that leaves cancels its own stream only");
}

#[tokio::test]
async fn cancelling_the_job_ends_a_stream_that_nobody_reads() {
    let world = World::with(MemoryStore::new().unwrap(), &[("big", random(20 << 20, 3))]).await;
    let control = Control::default();
    let mut stream = world.snapshot().await.export_stream(ExportFormat::TarZst, Vec::new(), &control);
    timely(stream.next()).await.unwrap().unwrap();
    control.cancel_token().cancel();
    let error = read(&mut stream).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Cancelled);
    assert!(matches!(error, Error::Source(ConnectorError::Cancelled)), "{error:?}");
    assert!(stream.outcome().is_none() && stream.next().await.is_none());
}

#[tokio::test]
async fn damage_is_the_last_item_and_names_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let list = [("first", random(6 << 20, 4)), ("second", random(6 << 20, 5))];
    let world = World::with(FsStore::open(dir.path()).unwrap(), &list).await;
    let artifact = only_file(dir.path(), ARTIFACT_NAME);
    let mut bytes = fs::read(&artifact).unwrap();
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    fs::write(&artifact, bytes).unwrap();
    for format in ExportFormat::ALL {
        let mut stream = world.snapshot().await.export_stream(format, Vec::new(), &Control::default());
        let error = read(&mut stream).await.unwrap_err();
        assert!(chain(&error).contains("entry `second`"), "{}", chain(&error));
        assert_eq!(error.disposition(), Disposition::Permanent);
        assert!(stream.outcome().is_none() && stream.next().await.is_none());
    }
    let mut file = world.snapshot().await.file_stream(path("second"), &Control::default()).await.unwrap();
    assert!(chain(&read(&mut file.body).await.unwrap_err()).contains("entry `second`"));
    let mut sound = world.snapshot().await.file_stream(path("first"), &Control::default()).await.unwrap();
    assert!(read(&mut sound.body).await.unwrap() == list[0].1);
}

#[tokio::test]
async fn one_file_comes_with_its_name_size_and_type() {
    let list = [("docs/Größe 1.pdf", random(700_000, 6)), ("empty", Bytes::new())];
    let world = World::with(MemoryStore::new().unwrap(), &list).await;
    for (name, body) in &list {
        let mut file = world.snapshot().await.file_stream(path(name), &Control::default()).await.unwrap();
        assert_eq!((name.rsplit('/').next().unwrap(), body.len() as u64), (file.name.as_str(), file.size));
        let pdf = file.content_type == "application/pdf";
        assert_eq!(
            (pdf, file.content_type == "application/octet-stream"),
            (!body.is_empty(), body.is_empty())
        );
        assert!(read(&mut file.body).await.unwrap() == *body);
        let fetched = file.body.outcome().unwrap();
        assert!(fetched.index_bytes > 0, "{fetched:?}");
    }
    let missing = world.snapshot().await.file_stream(path("docs/none"), &Control::default()).await;
    assert!(chain(&missing.unwrap_err()).contains("no entry `docs/none`"));
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_output_that_is_full_says_so() {
    let world = World::with(MemoryStore::new().unwrap(), &[("a", Bytes::from_static(b"a"))]).await;
    for format in ExportFormat::ALL {
        let error = world.snapshot().await.export(format, &[], Full, &Control::default()).await.unwrap_err();
        assert!(matches!(error, Error::Output(_)), "{error:?}");
        assert_eq!(error.disposition(), Disposition::Transient);
    }
}
