//! Downloads over HTTP, from a worker with a scripted hub.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response};
use xvault::core::protocol::{
    LogLevel, Name, Outcome, RestoreReport, RestoreTarget, RestoreTask, Sealed, StoreAccess, StoredFile,
    Task, TaskResult,
};
use xvault::core::secret::ExposeSecret as _;
use xvault::core::{ExportFormat, JobId, JobStatus, SnapshotKey};
use xvault_testkit::{MtimeMatch, TreeOptions, assert_same_tree, tools, trees};
use xvault_worker::WorkerConfig;

use crate::fake_hub::Linked;
use crate::support::{Bench, eventually, key_of};

/// A worker that serves downloads, with a snapshot of a small tree.
pub(crate) struct Stage {
    pub(crate) bench: Bench,
    pub(crate) key: SnapshotKey,
    pub(crate) base: String,
    http: Client,
}

impl Stage {
    async fn set(downloads: usize) -> Self {
        Self::of(downloads, |data| {
            trees::small_files(&data.join("site"), 12, 700);
            fs::write(data.join("site/Zoë's notes.txt"), "Dear reader").unwrap();
            trees::random_file(&data.join("z.bin"), 3 << 20, 5);
        })
        .await
    }

    async fn of(downloads: usize, fill: impl FnOnce(PathBuf)) -> Self {
        Self::tuned(|config| config.downloads = downloads.try_into().unwrap(), fill).await
    }

    pub(crate) async fn tuned(tune: impl FnOnce(&mut WorkerConfig), fill: impl FnOnce(PathBuf)) -> Self {
        let adjust = |config: &mut WorkerConfig| {
            config.download_addr = Some("127.0.0.1:0".parse().unwrap());
            tune(config);
        };
        let bench = Bench::with(adjust, None).await;
        fill(bench.data());
        let task = bench.local_backup();
        let key = key_of(&task);
        let job = bench.submit(task);
        bench.reaches(&job, JobStatus::Completed).await;
        let base = bench.hub.state().registered[0].download_url.clone().unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { bench, key, base, http: Client::new() }
    }

    /// What a hub would seal to the worker.
    fn restore(&self, paths: &[&str], target: RestoreTarget) -> Task {
        let identity = self.bench.identity.to_secret();
        let identities = Sealed::to(&self.bench.recipient, identity.expose_secret().as_bytes()).unwrap();
        Task::Restore(Box::new(RestoreTask {
            snapshot: self.key.clone(),
            store: StoreAccess::LocalFs,
            identities,
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            path_base64: None,
            target,
        }))
    }

    pub(crate) fn archive(&self, format: ExportFormat) -> Linked {
        Linked::Restore { task: self.restore(&[], RestoreTarget::Archive { format }), single_use: false }
    }

    pub(crate) fn stored(&self, file: StoredFile) -> Linked {
        Linked::Stored { snapshot: self.key.clone(), file, single_use: false }
    }

    /// Gives a link that gives `linked`.
    pub(crate) fn link(&self, linked: Linked) -> String {
        let token = format!("xvd_{}", self.bench.hub.state().links.len());
        self.bench.hub.state().links.insert(token.clone(), linked);
        format!("{}/downloads/{token}/backup", self.base)
    }

    pub(crate) async fn get(&self, link: &str) -> Response {
        self.http.get(link).send().await.unwrap()
    }

    async fn ranged(&self, link: &str, range: &str) -> Response {
        self.http.get(link).header(RANGE, range).send().await.unwrap()
    }

    /// The job of the last link that was opened, once it has ended.
    async fn ended(&self) -> (JobId, JobStatus) {
        let job = self.bench.hub.state().opened.last().unwrap().clone();
        assert!(eventually(|| self.bench.hub.status(&job).is_finished()).await, "the job does not end");
        let status = self.bench.hub.status(&job);
        (job, status)
    }

    /// What the job of the last link failed with.
    pub(crate) async fn failure(&self) -> String {
        let (job, status) = self.ended().await;
        assert_eq!(status, JobStatus::Failed);
        self.bench.hub.job(&job, |job| match &job.outcome {
            Some(Outcome::Failed { error, .. }) => error.code.clone(),
            other => panic!("{other:?}"),
        })
    }

    /// The first bytes of an answer that is not read any further.
    pub(crate) fn begin(&self, link: &str) -> TcpStream {
        use std::io::Write as _;
        let (host, path) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut line = TcpStream::connect(host.parse::<SocketAddr>().unwrap()).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(line, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut head = [0; 12];
        line.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        line
    }
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn an_archive_is_the_tree_and_its_job_is_told_like_any_other() {
    let stage = Stage::set(2).await;
    for (format, flag) in [(ExportFormat::Tar, "-xf"), (ExportFormat::TarZst, "--zstd -xf")] {
        let answer = stage.get(&stage.link(stage.archive(format))).await;
        assert_eq!((answer.status().as_u16(), header(&answer, ACCEPT_RANGES)), (200, "none".into()));
        assert_eq!(header(&answer, CONTENT_TYPE), format.content_type());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("archive");
        fs::write(&file, answer.bytes().await.unwrap()).unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        let mut args: Vec<_> = flag.split(' ').collect();
        args.extend([file.to_str().unwrap(), "-C", out.to_str().unwrap()]);
        assert!(tools::command("tar", args).status().unwrap().success());
        let data = stage.bench.data();
        let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
        assert_same_tree(&data, &out.join(data.strip_prefix("/").unwrap()), &options);

        let (job, status) = stage.ended().await;
        assert_eq!(status, JobStatus::Completed);
        stage.bench.hub.job(&job, |job| {
            let Some(Outcome::Completed { result: TaskResult::Restore { report } }) = &job.outcome else {
                panic!("{:?}", job.outcome)
            };
            assert!(report.bytes > 3 << 20 && report.entries > 13, "{report:?}");
            assert!(job.logs.iter().any(|line| line.message.contains("were sent")), "{:?}", job.logs);
        });
    }
}

#[tokio::test]
async fn one_file_comes_with_its_name_type_and_length() {
    let stage = Stage::set(2).await;
    let path = format!("{}/site/Zoë's notes.txt", stage.bench.data().display());
    let path = path.trim_start_matches('/').to_owned();
    let file = |path: &str| {
        let task = stage.restore(&[path], RestoreTarget::File);
        stage.link(Linked::Restore { task, single_use: false })
    };
    let answer = stage.get(&file(&path)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, CONTENT_LENGTH), "11");
    assert!(header(&answer, CONTENT_TYPE).starts_with("text/plain"), "{answer:?}");
    assert!(header(&answer, CONTENT_DISPOSITION).contains("filename*=UTF-8''"), "{answer:?}");
    assert_eq!(answer.text().await.unwrap(), "Dear reader");
    let missing = stage.get(&file("no/such/file")).await;
    assert_eq!(missing.status(), 404);
    assert!(missing.text().await.unwrap().contains("path_missing"));
    assert_eq!(stage.failure().await, "path_missing");
    let directory = path.rsplit_once('/').unwrap().0;
    let odd = stage.get(&file(directory)).await;
    assert_eq!(odd.status(), 409);
    let body: serde_json::Value = odd.json().await.unwrap();
    assert_eq!(body["code"], "not_a_file");
    assert!(body["error"].as_str().unwrap().contains("is a directory"), "{body}");
}

#[tokio::test]
async fn a_file_whose_name_is_no_text_comes_all_the_same() {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
    let stage = Stage::of(2, |data| fs::write(data.join(name), "Latin").unwrap()).await;
    let path = stage.bench.data().join(name);
    let path = path.as_os_str().as_bytes().strip_prefix(b"/").unwrap();
    let Task::Restore(task) = stage.restore(&[], RestoreTarget::File) else { panic!() };
    let link = |path_base64: String| {
        let task = RestoreTask { path_base64: Some(path_base64), ..(*task).clone() };
        stage.link(Linked::Restore { task: Task::Restore(Box::new(task)), single_use: false })
    };
    let Name::Bytes { path_base64 } = Name::of(path) else { panic!() };
    let answer = stage.get(&link(path_base64)).await;
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "Latin"));
    assert_eq!(stage.get(&link("no base64".to_owned())).await.status(), 500);
    assert_eq!(stage.failure().await, "path_invalid");
}

#[tokio::test]
async fn looking_begins_nothing_and_what_is_made_anew_has_no_ranges() {
    let stage = Stage::set(2).await;
    let link = stage.link(stage.archive(ExportFormat::Zip));
    let head = stage.http.head(&link).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, CONTENT_TYPE)), (200, "application/zip".into()));
    assert_eq!(stage.ranged(&link, "bytes=1000-").await.status(), 416);
    assert!(stage.bench.hub.state().opened.is_empty(), "nothing was begun");
    assert_eq!(stage.ranged(&link, "bytes=0-").await.status(), 200);
    let none = stage.get(&format!("{}/downloads/xvd_invented/x", stage.base)).await;
    assert_eq!(none.status(), 404);
}

#[tokio::test]
async fn the_encrypted_artifact_is_served_whole_and_in_parts() {
    let stage = Stage::set(2).await;
    let stored = fs::read(stage.bench.storage().join(stage.key.prefix()).join("backup.tar.zst.enc")).unwrap();
    let link = stage.link(stage.stored(StoredFile::Artifact));
    let whole = stage.get(&link).await;
    assert_eq!(header(&whole, CONTENT_LENGTH), stored.len().to_string());
    assert_eq!(whole.bytes().await.unwrap(), stored);
    let part = stage.ranged(&link, "bytes=1000000-1999999").await;
    assert_eq!(part.status(), 206);
    assert_eq!(header(&part, CONTENT_RANGE), format!("bytes 1000000-1999999/{}", stored.len()));
    assert_eq!(part.bytes().await.unwrap(), stored[1_000_000..2_000_000]);
    let beyond = stage.ranged(&link, &format!("bytes={}-", stored.len())).await;
    assert_eq!(
        (beyond.status().as_u16(), header(&beyond, CONTENT_RANGE)),
        (416, format!("bytes */{}", stored.len()))
    );
    let head = stage.http.head(&link).send().await.unwrap();
    assert_eq!(
        (header(&head, CONTENT_LENGTH), header(&head, ACCEPT_RANGES)),
        (stored.len().to_string(), "bytes".into())
    );
    let once = Linked::Stored { snapshot: stage.key.clone(), file: StoredFile::Artifact, single_use: true };
    assert_eq!(stage.ranged(&stage.link(once), "bytes=5-9").await.status(), 200, "its one use is the whole");
}

#[tokio::test]
async fn a_damaged_artifact_breaks_the_download_off_and_the_log_names_the_entry() {
    let stage = Stage::of(2, |data| trees::random_file(&data.join("z.bin"), 24 << 20, 5)).await;
    let file = stage.bench.storage().join(stage.key.prefix()).join("backup.tar.zst.enc");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 600_000;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let answer = stage.get(&stage.link(stage.archive(ExportFormat::Tar))).await;
    assert_eq!(answer.status(), 200);
    answer.bytes().await.expect_err("it must not look whole");
    let (job, status) = stage.ended().await;
    assert_eq!(status, JobStatus::Failed);
    stage.bench.hub.job(&job, |job| {
        let told = job.logs.iter().filter(|line| line.level == LogLevel::Error);
        assert!(told.map(|line| &line.message).any(|text| text.contains("z.bin")), "{:?}", job.logs);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_ends_its_job_for_good() {
    let stage = Stage::of(2, |data| trees::random_file(&data.join("z.bin"), 64 << 20, 5)).await;
    let line = stage.begin(&stage.link(stage.archive(ExportFormat::Tar)));
    drop(line);
    assert_eq!(stage.failure().await, "client_gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_gets_everything_and_takes_its_place_only() {
    let stage = Stage::of(1, |data| trees::random_file(&data.join("z.bin"), 24 << 20, 5)).await;
    let link = stage.link(stage.archive(ExportFormat::Tar));
    let mut slow = stage.begin(&link);
    let busy = stage.get(&link).await;
    assert_eq!((busy.status().as_u16(), header(&busy, RETRY_AFTER)), (503, "10".into()));
    // Jobs of the queue go on beside it.
    let backup = stage.bench.submit(stage.bench.local_backup());
    stage.bench.reaches(&backup, JobStatus::Completed).await;
    let job = stage.bench.hub.state().opened[0].clone();
    assert_eq!(stage.bench.hub.status(&job), JobStatus::Running, "the client has read next to nothing");
    let read = tokio::task::spawn_blocking(move || {
        let (mut all, mut buffer, mut tail) = (0, vec![0; 1 << 20], Vec::new());
        // Who leaves before the last chunk has left too early.
        while !tail.ends_with(b"0\r\n\r\n") {
            let read = slow.read(&mut buffer).unwrap();
            assert!(read > 0, "it broke off");
            all += read;
            tail.extend_from_slice(&buffer[..read]);
            tail.drain(..tail.len().saturating_sub(5));
        }
        all
    });
    assert!(read.await.unwrap() >= 24 << 20);
    assert_eq!(stage.ended().await.1, JobStatus::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_download_breaks_off() {
    let stage = Stage::of(2, |data| trees::random_file(&data.join("z.bin"), 64 << 20, 5)).await;
    stage.bench.hub.state().lease = Duration::from_secs(1);
    let mut answer = stage.get(&stage.link(stage.archive(ExportFormat::Tar))).await;
    answer.chunk().await.unwrap();
    let job = stage.bench.hub.state().opened[0].clone();
    stage.bench.hub.cancel(&job);
    // The worker learns of it before anything more is read.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rest = async {
        while answer.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    rest.await.expect_err("it must not look whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_ends_downloads_and_hands_nothing_back() {
    let adjust = |config: &mut WorkerConfig| {
        config.download_addr = Some("127.0.0.1:0".parse().unwrap());
        config.drain = Duration::ZERO;
    };
    let bench = Bench::with(adjust, None).await;
    trees::random_file(&bench.data().join("z.bin"), 64 << 20, 5);
    let task = bench.local_backup();
    let key = key_of(&task);
    let job = bench.submit(task);
    bench.reaches(&job, JobStatus::Completed).await;
    let base = bench.hub.state().registered[0].download_url.clone().unwrap();
    let mut stage = Stage { bench, key, base, http: Client::new() };
    let link = stage.link(stage.archive(ExportFormat::Tar));
    let line = stage.begin(&link);
    stage.bench.stop().await;
    drop(line);
    assert_eq!(stage.failure().await, "worker_stopping");
}

#[tokio::test]
async fn a_check_counts_what_is_wanted_and_names_what_is_missing() {
    let stage = Stage::set(2).await;
    let data = stage.bench.data().display().to_string();
    let site = format!("{}/site", data.trim_start_matches('/'));
    let job = stage.bench.submit(stage.restore(&[&site], RestoreTarget::Check));
    stage.bench.reaches(&job, JobStatus::Completed).await;
    let report = stage.bench.hub.job(&job, |job| match &job.outcome {
        Some(Outcome::Completed { result: TaskResult::Restore { report } }) => *report,
        other => panic!("{other:?}"),
    });
    let expected = RestoreReport { entries: 15, files: 13, bytes: 12 * 700 + 11, skipped: 0 };
    assert_eq!(report, expected);
    let job = stage.bench.submit(stage.restore(&[&site, "gone"], RestoreTarget::Check));
    stage.bench.reaches(&job, JobStatus::Failed).await;
    let told = stage.bench.hub.job(&job, |job| format!("{:?}", job.outcome));
    assert!(told.contains("path_missing") && told.contains("gone"), "{told}");
    // Of a link whose client is not there, a queue can't tell.
    let target = RestoreTarget::Archive { format: ExportFormat::Tar };
    let job = stage.bench.submit(stage.restore(&[], target));
    stage.bench.reaches(&job, JobStatus::Failed).await;
    let told = stage.bench.hub.job(&job, |job| format!("{:?}", job.outcome));
    assert!(told.contains("client_gone"), "{told}");
}

/// Headers that a download must have, whatever it is.
#[tokio::test]
async fn browsers_are_told_to_keep_and_run_nothing() {
    let stage = Stage::set(1).await;
    let answer = stage.get(&stage.link(stage.archive(ExportFormat::Tar))).await;
    let all: BTreeMap<_, _> =
        answer.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(all["cache-control"], "no-store");
    assert_eq!(all["x-content-type-options"], "nosniff");
    assert!(all["content-security-policy"].contains("sandbox"));
    assert!(all["content-disposition"].starts_with("attachment;"));
}
