//! Connections that drop and stall.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xvault_connectors::Error;
use xvault_core::snapshot::Evidence;
use xvault_core::{Dispose, Disposition, WarningCode};
use xvault_testkit::trees::{oddities, random_file, small_files};
use xvault_testkit::{FaultProxy, MtimeMatch, Sshd, TreeOptions, assert_same_tree};

use crate::ssh_support::{BOTH, Job, Kind};

/// A server with one file `big` of 40 MiB.
fn serving_a_big_file() -> (Sshd, PathBuf) {
    let sshd = Sshd::builder().start();
    let file = sshd.home.join("big");
    random_file(&file, 40 << 20, 1);
    (sshd, file)
}

/// A pull of `file` by a way that goes dead after 20 MiB.
fn stalling(kind: Kind, sshd: &Sshd, file: &Path) -> (FaultProxy, Job) {
    let proxy = FaultProxy::start(sshd.port);
    proxy.stall_after(20 << 20);
    let job = Job::new(kind, sshd, &[file]).through(&proxy);
    (proxy, job)
}

/// Waits until the job has told that the server does not answer.
async fn given_up(job: &Job) {
    while !job.noted("did not answer") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_goes_on_where_the_connection_dropped() {
    let (sshd, file) = serving_a_big_file();
    for kind in BOTH {
        let proxy = FaultProxy::start(sshd.port);
        proxy.cut_once_after(25 << 20);
        let job = Job::new(kind, &sshd, &[&file]).through(&proxy);
        let (kept, _) = job.pull().await;
        assert!(kept.body(&file).unwrap() == fs::read(&file).unwrap(), "{kind:?}: content differs");
        assert_eq!(kept.warnings, []);
        assert!(!job.seen.notes().is_empty());
        assert_eq!(proxy.connections(), 2);
        // What was delivered is not fetched again, only what was on its way.
        assert!(proxy.bytes_to_client() < (62 << 20), "{kind:?}: {}", proxy.bytes_to_client());
    }
}

#[tokio::test]
async fn a_tree_survives_many_drops() {
    let sshd = Sshd::builder().root().start();
    let tree = sshd.home.join("tree");
    oddities(&tree);
    for folder in ["many/a", "many/b", "more"] {
        small_files(&tree.join(folder), 300, 2000);
    }
    for kind in BOTH {
        let proxy = FaultProxy::start(sshd.port);
        proxy.cut_each_after(1_500_000);
        let job = Job::new(kind, &sshd, &[&tree]).through(&proxy);
        let (kept, summary) = job.pull().await;
        assert_eq!(kept.warnings, [], "{kind:?}");
        assert!(proxy.connections() > 4, "{kind:?}: {} connections", proxy.connections());
        assert!(matches!(summary.evidence, Evidence::Walk { .. }), "{summary:?}");
        let out = tempfile::tempdir().unwrap();
        kept.unpack(out.path());
        let options = TreeOptions {
            mtime: MtimeMatch::Seconds32,
            owner: true,
            hard_links: false,
            ..TreeOptions::default()
        };
        assert_same_tree(&tree, &out.path().join(tree.strip_prefix("/").unwrap()), &options);
        let mut paths: Vec<_> = kept.entries.iter().map(|(entry, _)| entry.path.clone()).collect();
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count, "{kind:?}: a path occurs twice");
    }
}

#[tokio::test]
async fn a_file_changed_during_the_drop_is_told() {
    for kind in BOTH {
        let (sshd, file) = serving_a_big_file();
        let (proxy, job) = stalling(kind, &sshd, &file);
        let change = async {
            while proxy.bytes_to_client() < (20 << 20) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let appended = fs::OpenOptions::new().append(true).open(&file).unwrap();
            std::io::Write::write_all(&mut &appended, b"more").unwrap();
            proxy.heal();
            proxy.cut_now();
        };
        let ((kept, _), ()) = tokio::join!(job.pull(), change);
        let codes = kept.codes();
        assert!(codes.contains(&(WarningCode::Other, file.clone())), "{kind:?}: {codes:?}");
        assert_eq!(kept.body(&file).unwrap(), &fs::read(&file).unwrap()[..40 << 20]);
    }
}

#[tokio::test]
async fn a_stalled_server_is_given_up_and_taken_up_again() {
    let (sshd, file) = serving_a_big_file();
    for kind in BOTH {
        let (proxy, job) = stalling(kind, &sshd, &file);
        let job = job.with(|o| o.timeouts.idle = Duration::from_millis(500));
        let healed = async {
            given_up(&job).await;
            proxy.heal();
        };
        let ((kept, _), ()) = tokio::join!(job.pull(), healed);
        assert!(kept.body(&file).unwrap() == fs::read(&file).unwrap(), "{kind:?}: content differs");
    }
}

#[tokio::test]
async fn a_server_that_stays_away_fails_the_job_as_transient() {
    let (sshd, file) = serving_a_big_file();
    for kind in BOTH {
        let (proxy, job) = stalling(kind, &sshd, &file);
        let job = job.with(|o| {
            o.timeouts.idle = Duration::from_millis(300);
            o.timeouts.connect = Duration::from_millis(500);
            o.timeouts.reconnects = 3;
        });
        let away = async {
            given_up(&job).await;
            proxy.refuse();
        };
        let started = Instant::now();
        let (error, ()) = tokio::join!(job.error(), away);
        assert_eq!(error.disposition(), Disposition::Transient, "{error:?}");
        assert!(matches!(error, Error::Connection { .. } | Error::Timeout { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{}", proxy.port)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_long_way_is_filled() {
    let sshd = Sshd::builder().start();
    let tree = sshd.home.join("tree");
    small_files(&tree, 400, 8192);
    let proxy = FaultProxy::start(sshd.port);
    proxy.set_delay(Duration::from_millis(25));
    let started = Instant::now();
    let (_, summary) = Job::new(Kind::Sftp, &sshd, &[&tree]).through(&proxy).pull().await;
    assert_eq!(summary.content.files, 400);
    // One after the other would take 40 s at the least.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn cancelling_ends_the_wait_for_a_stalled_server() {
    let (sshd, file) = serving_a_big_file();
    for kind in BOTH {
        let (_proxy, job) = stalling(kind, &sshd, &file);
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            job.control.cancel_token().cancel();
        };
        let started = Instant::now();
        let (error, ()) = tokio::join!(job.error(), cancel);
        assert!(matches!(error, Error::Cancelled), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
