//! Stopping in the middle: at once, as cancelled, and with nothing left; also when a store hangs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use xvault::connectors::store::hooked::Call;
use xvault::connectors::{Error as ConnectorError, Probe, PullSummary, Source};
use xvault::core::monitor::{Phase, Progress, Recorder};
use xvault::core::snapshot::{ARTIFACT_NAME, INDEX_NAME, META_NAME};
use xvault::core::{Dispose, Disposition, EntrySink, Identity, Manifest};
use xvault::{
    BackupOptions, Control, Error, Filter, FsStore, MemoryStore, RestoreOptions, Snapshot, VerifyOptions,
};

use crate::support::{Hook, Seen, files, files_in, keys, options, path, random, scripted, timely};
use crate::tripwire::{Fate, tripwire};

/// A control that cancels itself when `moment` comes.
fn cancelling(moment: impl Fn(Seen) -> bool + Send + Sync + 'static) -> Control {
    let token = Arc::new(OnceLock::new());
    let cancel = Arc::clone(&token);
    let hook = move |seen| {
        if moment(seen)
            && let Some(token) = cancel.get()
        {
            let token: &CancelToken = token;
            token();
        }
    };
    let control = Control::default().with_progress(Arc::new(Hook(hook)));
    let cancel = control.cancel_token().clone();
    assert!(token.set(Box::new(move || cancel.cancel()) as CancelToken).is_ok());
    control
}

type CancelToken = Box<dyn Fn() + Send + Sync>;

fn assert_cancelled<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Cancelled, "{error:?}");
}

/// 64 MiB; a body that is shared costs nothing.
fn source() -> impl xvault::Source {
    let body = random(4 << 20, 1);
    let names: Vec<_> = (0..16).map(|number| format!("data/{number}")).collect();
    let list: Vec<_> = names.iter().map(|name| (name.as_str(), body.clone())).collect();
    files(&list)
}

async fn back_up(store: &FsStore, options: &BackupOptions) -> Result<Manifest, Error> {
    timely(xvault::backup(&mut source(), store, options)).await
}

fn assert_empty(dir: &Path) {
    assert_eq!(files_in(dir), Vec::<PathBuf>::new());
}

/// Cancels its own job, and then takes a moment to wind up.
struct Winding {
    time: Duration,
    has_wound_up: bool,
}

#[async_trait::async_trait]
impl Source for Winding {
    fn kind(&self) -> &'static str {
        "winding"
    }

    async fn probe(&mut self) -> Result<Probe, ConnectorError> {
        Ok(Probe { server: None, host_key: None, paths: Vec::new(), notes: Vec::new() })
    }

    async fn pull(
        &mut self,
        _: &mut dyn EntrySink,
        control: &Control,
    ) -> Result<PullSummary, ConnectorError> {
        control.cancel_token().cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.has_wound_up = true;
        Err(ConnectorError::Cancelled)
    }

    fn wind_up(&self) -> Duration {
        self.time
    }
}

#[tokio::test]
async fn a_source_that_asks_for_it_has_time_to_wind_up() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    for (time, expected) in [(Duration::from_secs(30), true), (Duration::ZERO, false)] {
        let mut source = Winding { time, has_wound_up: false };
        let options = options(&identity).control(Control::default());
        assert_cancelled(timely(xvault::backup(&mut source, &store, &options)).await);
        assert_eq!(source.has_wound_up, expected, "{time:?}");
        assert_empty(dir.path());
    }
}

#[tokio::test]
async fn a_backup_stops_in_mid_pull_and_in_mid_read_back() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path()).unwrap();
    for moment in [Seen::Entry, Seen::Bytes, Seen::Phase(Phase::ReadBack)] {
        let control = cancelling(move |seen| seen == moment);
        assert_cancelled(back_up(&store, &options(&identity).control(control)).await);
        assert_empty(dir.path());
    }
    let reading_back = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let control = cancelling(move |seen| {
        if seen == Seen::Phase(Phase::ReadBack) {
            reading_back.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        seen == Seen::Bytes && reading_back.load(std::sync::atomic::Ordering::SeqCst)
    });
    assert_cancelled(back_up(&store, &options(&identity).control(control)).await);
    assert_empty(dir.path());
    back_up(&store, &options(&identity)).await.unwrap();
}

#[tokio::test]
async fn a_restore_a_check_and_a_read_stop_in_the_middle() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path().join("store")).unwrap();
    let manifest = back_up(&store, &options(&identity)).await.unwrap();
    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity.clone()]).await.unwrap();
    let on_bytes = || cancelling(|seen| seen == Seen::Bytes);

    let target = dir.path().join("out");
    let restore = RestoreOptions::default().control(on_bytes());
    assert_cancelled(timely(snapshot.restore(&target, restore)).await);
    // What was finished stays, and it is whole; nothing half-written lies around.
    for file in files_in(&target) {
        assert_eq!(std::fs::read(&file).unwrap(), random(4 << 20, 1), "{}", file.display());
    }
    assert!(files_in(&target).len() < 16);

    let verify = VerifyOptions::default().control(on_bytes());
    assert_cancelled(timely(xvault::verify(&store, &manifest.key(), &verify)).await);
    let verify = VerifyOptions::default().identities(vec![identity]).control(on_bytes());
    assert_cancelled(timely(xvault::verify(&store, &manifest.key(), &verify)).await);
    let (data, control) = (path("data/3"), on_bytes());
    assert_cancelled(timely(snapshot.cat(&data, std::io::sink(), &control)).await);
}

/// Runs `work`, cancels it soon, and sees that it ends soon after that.
async fn cancelled_soon<T: std::fmt::Debug>(control: &Control, work: impl Future<Output = Result<T, Error>>) {
    let soon = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        control.cancel_token().cancel();
        Instant::now()
    };
    let (result, cancelled_at) = timely(async { tokio::join!(work, soon) }).await;
    assert_cancelled(result);
    // Generous: a debug build on a busy machine.
    assert!(cancelled_at.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_store_that_never_answers_holds_nobody_up() {
    let calls = [Call::Open, Call::Write, Call::Close, Call::StagedSize, Call::StagedRead];
    let of_both = calls.iter().flat_map(|call| [(*call, ARTIFACT_NAME), (*call, INDEX_NAME)]);
    for (call, object) in of_both.chain([
        (Call::Stage, ""),
        (Call::Open, META_NAME),
        (Call::Close, META_NAME),
        (Call::StagedSize, META_NAME),
    ]) {
        let store = tripwire(call, object, Fate::Hang);
        let control = Control::default();
        let options = options(&Identity::generate()).control(control.clone());
        let mut source = source();
        cancelled_soon(&control, xvault::backup(&mut source, &store, &options)).await;
        assert_eq!(keys(&store).await, Vec::<String>::new(), "{call:?} {object}");
    }
}

#[tokio::test]
async fn a_restore_from_a_store_that_never_answers_can_be_stopped() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = tripwire(Call::Read, ARTIFACT_NAME, Fate::Hang);
    let manifest = xvault::backup(&mut source(), &store, &options(&identity)).await.unwrap();
    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await.unwrap();
    let control = Control::default();
    let restore = RestoreOptions::default().control(control.clone());
    cancelled_soon(&control, snapshot.restore(dir.path(), restore)).await;
    let control = Control::default();
    let verify = VerifyOptions::default().control(control.clone());
    cancelled_soon(&control, xvault::verify(&store, &manifest.key(), &verify)).await;
    let control = Control::default();
    cancelled_soon(&control, snapshot.cat(&path("data/1"), std::io::sink(), &control)).await;
}

/// Nobody waits for a clean-up longer than half a minute, which passes quickly on a paused clock.
#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_even_clean_up_holds_nobody_up() {
    for call in [Call::Abort, Call::Abandon] {
        let store = tripwire(call, "", Fate::Hang);
        let mut source = scripted(|_, _| Box::pin(async { Err(ConnectorError::Incomplete("gone".into())) }));
        let options = options(&Identity::generate());
        let error = xvault::backup(&mut source, &store, &options).await.unwrap_err();
        assert_eq!(error.to_string(), "source: incomplete: gone");
        assert!(xvault::list(&store, &Filter::default()).await.unwrap().is_empty());
    }
}

/// All that is stored is fetched at once here, so that only the work itself can notice.
#[tokio::test]
async fn work_that_does_not_wait_for_the_store_stops_too() {
    let (dir, identity) = (tempfile::tempdir().unwrap(), Identity::generate());
    let store = FsStore::open(dir.path().join("store")).unwrap();
    let zeros = files(&[("zeros", vec![0; 128 << 20].into())]);
    let manifest = timely(xvault::backup(&mut { zeros }, &store, &options(&identity))).await.unwrap();
    assert!(manifest.artifact.size_bytes < 100_000);
    let soon = || {
        cancelling(|seen| {
            std::thread::sleep(Duration::from_millis(20));
            seen == Seen::Bytes
        })
    };
    let deep = VerifyOptions::default().identities(vec![identity.clone()]).control(soon());
    assert_cancelled(timely(xvault::verify(&store, &manifest.key(), &deep)).await);
    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await.unwrap();
    let target = dir.path().join("out");
    assert_cancelled(timely(snapshot.restore(&target, RestoreOptions::default().control(soon()))).await);
    assert_empty(&target);
    let (zeros, control) = (path("zeros"), soon());
    assert_cancelled(timely(snapshot.cat(&zeros, std::io::sink(), &control)).await);
}

#[tokio::test]
async fn a_source_that_never_answers_can_be_stopped() {
    let store = MemoryStore::new().unwrap();
    let control = Control::default();
    let options = options(&Identity::generate()).control(control.clone());
    let mut source = scripted(|_, _| Box::pin(std::future::pending()));
    cancelled_soon(&control, xvault::backup(&mut source, &store, &options)).await;
    assert_eq!(keys(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(dir.path()).unwrap();
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone() as Arc<dyn Progress>);
    let options = options(&Identity::generate()).control(control);
    let mut source = source();
    let job = xvault::backup(&mut source, &store, &options);
    let under_way = async {
        while seen.byte_count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = job => panic!("{done:?}"),
        () = under_way => {}
    }
    assert_empty(dir.path());
}
