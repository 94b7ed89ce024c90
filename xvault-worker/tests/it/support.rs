//! What the tests share: a worker in this process, its sources, and looks into its store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xvault::core::protocol::{BackupTask, JobMessage, Sealed, StoreAccess, Task};
use xvault::core::{
    Identity, JobId, JobStatus, LocalSettings, Manifest, ReadBack, Recipient, SnapshotId, SnapshotKey,
    SourceId, SourceSettings, SshSettings,
};
use xvault::{Filter, FsStore};
use xvault_testkit::Sshd;
use xvault_worker::{Error, Feed, LocalFeed, Worker, WorkerConfig};

use crate::fake_hub::{FakeHub, TOKEN, tenant};

/// Long enough for a slow machine, and never waited for in full.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running worker with its hub, its store and a directory that it may back up.
pub(crate) struct Bench {
    pub(crate) hub: FakeHub,
    pub(crate) identity: Identity,
    pub(crate) recipient: Recipient,
    pub(crate) shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), Error>>>,
    queues: Option<[Sender<JobMessage>; 3]>,
    dir: TempDir,
}

impl Bench {
    /// Fed by channels.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, None).await
    }

    /// As [`Bench::start`], with other settings; with `feed` where it is given.
    pub(crate) async fn with(adjust: impl FnOnce(&mut WorkerConfig), feed: Option<Feed>) -> Self {
        let (dir, hub) = (tempfile::tempdir().unwrap(), FakeHub::start().await);
        fs::create_dir(dir.path().join("data")).unwrap();
        let mut config = config(&hub, dir.path());
        adjust(&mut config);
        let (shared, shared_end) = channel(1000);
        let (own, own_end) = channel(1000);
        let (quick, quick_end) = channel(1000);
        let queues = feed.is_none().then_some([shared, own, quick]);
        let feed = feed.unwrap_or_else(|| Feed::Local(LocalFeed::new(shared_end, own_end, quick_end)));
        let worker = Worker::new(config, feed).unwrap();
        let (recipient, shutdown) = (worker.recipient().clone(), CancellationToken::new());
        let running = Some(tokio::spawn(worker.run(shutdown.clone())));
        Self { hub, identity: Identity::generate(), recipient, shutdown, running, queues, dir }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    pub(crate) fn send(&self, job_id: &JobId) {
        self.queues.as_ref().unwrap()[0].try_send(JobMessage { job_id: job_id.clone() }).unwrap();
    }

    pub(crate) fn send_own(&self, job_id: &JobId) {
        self.queues.as_ref().unwrap()[1].try_send(JobMessage { job_id: job_id.clone() }).unwrap();
    }

    /// As [`Bench::submit`], for a job that somebody waits for.
    pub(crate) fn submit_quick(&self, task: Task) -> JobId {
        let job_id = self.hub.add(task);
        self.queues.as_ref().unwrap()[2].try_send(JobMessage { job_id: job_id.clone() }).unwrap();
        job_id
    }

    /// Adds a job and wakes the worker for it.
    pub(crate) fn submit(&self, task: Task) -> JobId {
        let job_id = self.hub.add(task);
        self.send(&job_id);
        job_id
    }

    pub(crate) fn backup_of(&self, source: SourceSettings, credential: Option<Sealed>) -> Task {
        backup(source, credential, &self.identity)
    }

    /// A backup of [`Bench::data`].
    pub(crate) fn local_backup(&self) -> Task {
        self.backup_of(local(&self.data()), None)
    }

    /// Waits until the job has `status`.
    pub(crate) async fn reaches(&self, job_id: &JobId, status: JobStatus) {
        let shown = |hub: &FakeHub| hub.job(job_id, |job| format!("{:?} {:?}", job.life, job.outcome));
        let reached = eventually(|| self.hub.status(job_id) == status).await;
        assert!(reached, "the job did not become {status}: {}", shown(&self.hub));
    }

    pub(crate) async fn snapshots(&self) -> Vec<Manifest> {
        snapshots(&self.storage()).await
    }

    /// Drops the worker in the middle of whatever it does.
    pub(crate) fn abort(&mut self) {
        self.running.take().unwrap().abort();
    }

    /// Stops the worker and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        let running = self.running.take().unwrap();
        tokio::time::timeout(PATIENCE, running).await.expect("the worker ends").unwrap().unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

pub(crate) fn config(hub: &FakeHub, dir: &Path) -> WorkerConfig {
    let mut config =
        WorkerConfig::new("worker-1".parse().unwrap(), TOKEN.into(), &hub.url, dir.join("backups"));
    config.allow_local = vec![dir.join("data")];
    config.min_free = 0;
    config
}

pub(crate) fn local(path: &Path) -> SourceSettings {
    SourceSettings::Local(LocalSettings { paths: vec![path.display().to_string()], excludes: Vec::new() })
}

pub(crate) fn backup(source: SourceSettings, credential: Option<Sealed>, to: &Identity) -> Task {
    Task::Backup(Box::new(BackupTask {
        source_id: SourceId::derive("the source"),
        snapshot_id: SnapshotId::generate(),
        source,
        credential,
        recipients: vec![to.recipient()],
        index_recipients: vec![to.recipient()],
        store: StoreAccess::LocalFs,
        read_back: ReadBack::Full,
        expected_bytes: None,
    }))
}

/// The snapshot that a backup task is to make.
pub(crate) fn key_of(task: &Task) -> SnapshotKey {
    let Task::Backup(task) = task else { panic!("{task:?}") };
    SnapshotKey {
        tenant_id: tenant(),
        source_id: task.source_id.clone(),
        snapshot_id: task.snapshot_id.clone(),
    }
}

/// Settings for `sshd` at `port`, with its key pinned.
pub(crate) fn ssh(sshd: &Sshd, port: u16, path: &str) -> SshSettings {
    SshSettings {
        host: "127.0.0.1".into(),
        port,
        username: sshd.user.clone(),
        paths: vec![path.to_owned()],
        use_password: true,
        excludes: Vec::new(),
        host_key: Some(sshd.host_key.fingerprint.clone()),
        hooks: Default::default(),
    }
}

pub(crate) fn password(sshd: &Sshd, worker: &Recipient) -> Option<Sealed> {
    Some(Sealed::to(worker, sshd.password.as_bytes()).unwrap())
}

/// Whether `check` holds soon.
pub(crate) async fn eventually(mut check: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if check() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The sound snapshots below `storage`; none may be damaged.
pub(crate) async fn snapshots(storage: &Path) -> Vec<Manifest> {
    let store = FsStore::open(storage).unwrap();
    let listed = xvault::list(&store, &Filter::default()).await.unwrap();
    listed.into_iter().map(|listed| listed.manifest.unwrap()).collect()
}

/// Every file and directory below `storage/tenants` that is of a snapshot or a staging.
pub(crate) fn remains(storage: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![storage.join("tenants")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if dir.file_name().is_some_and(|name| name == "snapshots") {
                    found.push(path.clone());
                }
                open.push(path);
            }
        }
    }
    found
}
