//! Each kind of job, done as asked or refused for a reason.

use std::fs;
use std::os::unix::fs::symlink;

use xvault::core::protocol::{
    Browse, BrowseQuery, BrowseTask, Browsed, LogLevel, Name, Outcome, Sealed, StoreAccess, StoredIndex,
    Task, TaskResult,
};
use xvault::core::secret::ExposeSecret as _;
use xvault::core::snapshot::Locator;
use xvault::core::{Disposition, JobId, JobStatus, SnapshotKey, SourceSettings};
use xvault_testkit::{FaultProxy, Sshd, tools};

use crate::support::{Bench, key_of, local, password, remains, ssh};

fn failure(bench: &Bench, job_id: &JobId) -> (String, String, Disposition) {
    bench.hub.job(job_id, |job| match &job.outcome {
        Some(Outcome::Failed { error, disposition }) => {
            (error.code.clone(), error.message.clone(), *disposition)
        }
        other => panic!("{other:?}"),
    })
}

fn result(bench: &Bench, job_id: &JobId) -> TaskResult {
    bench.hub.job(job_id, |job| match &job.outcome {
        Some(Outcome::Completed { result }) => result.clone(),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_backup_over_ssh_opens_with_age_zstd_and_tar() {
    let sshd = Sshd::builder().start();
    fs::create_dir(sshd.home.join("site")).unwrap();
    fs::write(sshd.home.join("site/index.html"), "<h1>hello</h1>").unwrap();
    let bench = Bench::start().await;
    let (identity_file, recipient) = tools::age_keygen(&bench.data());
    for sftp in [true, false] {
        let settings = ssh(&sshd, sshd.port, "site");
        let source = if sftp { SourceSettings::Sftp(settings) } else { SourceSettings::Ssh(settings) };
        let mut task = bench.backup_of(source, password(&sshd, &bench.recipient));
        let Task::Backup(backup) = &mut task else { panic!() };
        backup.recipients = vec![recipient.parse().unwrap()];
        let key = key_of(&task);
        let job_id = bench.submit(task);
        bench.reaches(&job_id, JobStatus::Completed).await;

        let TaskResult::Backup { manifest, locator, .. } = result(&bench, &job_id) else { panic!() };
        assert_eq!((manifest.key(), &manifest.job_id), (key.clone(), &job_id));
        assert_eq!(manifest.worker_id.as_str(), "worker-1");
        assert_eq!(manifest.content_summary.files, 1);
        let directory = bench.storage().join(key.prefix());
        let Locator::LocalFs { worker_id, local_path } = locator else { panic!("{locator:?}") };
        assert_eq!((worker_id.as_str(), local_path), ("worker-1", directory.display().to_string()));
        let out = tempfile::tempdir().unwrap();
        tools::age_decrypt_untar(&directory.join("backup.tar.zst.enc"), &identity_file, out.path());
        let file = out.path().join(sshd.home.join("site/index.html").strip_prefix("/").unwrap());
        assert_eq!(fs::read_to_string(file).unwrap(), "<h1>hello</h1>");
    }
    let made = bench.snapshots().await;
    assert_eq!(made.len(), 2);
}

#[tokio::test]
async fn progress_and_log_tell_what_happened() {
    let bench = Bench::start().await;
    fs::write(bench.data().join("a"), vec![7; 5_000_000]).unwrap();
    let job_id = bench.submit(bench.local_backup());
    bench.reaches(&job_id, JobStatus::Completed).await;
    bench.hub.job(&job_id, |job| {
        let phases: Vec<_> = job.progress.iter().map(|progress| progress.phase.as_str()).collect();
        assert_eq!(phases.last(), Some(&"read_back"), "{phases:?}");
        assert_eq!(job.progress.last().unwrap().bytes, 5_000_000);
        assert!(job.logs.iter().map(|line| line.seq).eq(0..job.logs.len() as u64));
        let text: Vec<_> = job.logs.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(text[0], "backup of a source of type local begins");
        assert!(text.last().unwrap().contains("holds 1 files with 5000000 bytes"), "{text:?}");
    });
}

#[tokio::test]
async fn a_partial_snapshot_is_told_with_a_warning() {
    let bench = Bench::start().await;
    let sshd = Sshd::builder().start();
    fs::write(sshd.home.join("open"), "o").unwrap();
    fs::write(sshd.home.join("closed"), "c").unwrap();
    std::os::unix::fs::chown(sshd.home.join("closed"), Some(0), Some(0)).unwrap();
    fs::set_permissions(sshd.home.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let source = SourceSettings::Sftp(ssh(&sshd, sshd.port, "."));
    let job_id = bench.submit(bench.backup_of(source, password(&sshd, &bench.recipient)));
    bench.reaches(&job_id, JobStatus::Completed).await;
    let TaskResult::Backup { manifest, .. } = result(&bench, &job_id) else { panic!() };
    assert_eq!(manifest.content_summary.warnings, 1);
    bench.hub.job(&job_id, |job| {
        let warned: Vec<_> = job.logs.iter().filter(|line| line.level == LogLevel::Warn).collect();
        assert!(warned[0].message.contains("closed"), "{warned:?}");
        assert!(warned.last().unwrap().message.ends_with("1 warnings"), "{warned:?}");
    });
}

#[tokio::test]
async fn without_a_pinned_host_key_there_is_no_backup_but_a_fingerprint() {
    let sshd = Sshd::builder().start();
    let bench = Bench::start().await;
    let mut settings = ssh(&sshd, sshd.port, ".");
    settings.host_key = None;
    // With and without a credential: nobody gets to see it before the key is known.
    for credential in [password(&sshd, &bench.recipient), None] {
        let task = bench.backup_of(SourceSettings::Sftp(settings.clone()), credential);
        let job_id = bench.submit(task);
        bench.reaches(&job_id, JobStatus::Failed).await;
        let (code, message, disposition) = failure(&bench, &job_id);
        assert_eq!((code.as_str(), disposition), ("host_key_not_pinned", Disposition::Permanent));
        assert!(message.contains(&sshd.host_key.fingerprint), "{message}");
    }
    settings.host_key = Some(format!("SHA256:{}", "a".repeat(43)));
    let job_id =
        bench.submit(bench.backup_of(SourceSettings::Ssh(settings), password(&sshd, &bench.recipient)));
    bench.reaches(&job_id, JobStatus::Failed).await;
    assert_eq!(failure(&bench, &job_id).0, "host_key_mismatch");
    assert_eq!(remains(&bench.storage()), Vec::<std::path::PathBuf>::new());
    assert!(!sshd.log().contains("Accepted"), "{}", sshd.log());
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_path_fail_for_good_and_a_dead_server_does_not() {
    let mut sshd = Sshd::builder().start();
    let bench = Bench::start().await;
    let good = password(&sshd, &bench.recipient);
    let wrong = Some(Sealed::to(&bench.recipient, b"hunter2").unwrap());
    let source = |path: &str| SourceSettings::Sftp(ssh(&sshd, sshd.port, path));
    let cases = [(source("."), wrong, "auth_failed"), (source("gone"), good.clone(), "path_missing")];
    let last = bench.backup_of(source("."), good);
    for (source, credential, expected) in cases {
        let job_id = bench.submit(bench.backup_of(source, credential));
        bench.reaches(&job_id, JobStatus::Failed).await;
        let (code, message, disposition) = failure(&bench, &job_id);
        assert_eq!((code.as_str(), disposition), (expected, Disposition::Permanent), "{message}");
        assert!(!message.contains("hunter2"));
        bench.hub.job(&job_id, |job| {
            let line = job.logs.last().unwrap();
            assert_eq!(line.level, LogLevel::Error);
            assert!(line.message.starts_with(&format!("{expected}: ")), "{line:?}");
        });
    }
    sshd.stop();
    let job_id = bench.submit(last);
    assert!(crate::support::eventually(|| bench.hub.job(&job_id, |job| job.completions == 1)).await);
    assert_eq!(bench.hub.status(&job_id), JobStatus::Queued);
    let (code, _, disposition) = failure(&bench, &job_id);
    assert_eq!((code.as_str(), disposition), ("unreachable", Disposition::Transient));
}

#[tokio::test]
async fn a_local_source_stays_below_what_is_allowed() {
    let bench = Bench::start().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    symlink(outside.path(), bench.data().join("way-out")).unwrap();
    symlink(outside.path().join("secret"), bench.data().join("file-out")).unwrap();
    let escapes =
        [outside.path().to_owned(), bench.data().join("way-out"), bench.data().join("file-out"), "/".into()];
    for path in escapes {
        let job_id = bench.submit(bench.backup_of(local(&path), None));
        bench.reaches(&job_id, JobStatus::Failed).await;
        let (code, message, _) = failure(&bench, &job_id);
        assert_eq!(code, "path_not_allowed", "{}: {message}", path.display());
    }
    // The links themselves are content like any other.
    let job_id = bench.submit(bench.local_backup());
    bench.reaches(&job_id, JobStatus::Completed).await;
    assert_eq!(bench.snapshots().await[0].content_summary.symlinks, 2);
    let capabilities = bench.hub.state().registered[0].capabilities.clone();
    assert_eq!(capabilities[..5], ["sftp", "ssh", "ftp", "wordpress", "local"]);
}

#[tokio::test]
async fn a_short_disk_puts_a_backup_off() {
    let bench = Bench::with(|config| config.min_free = u64::MAX / 2, None).await;
    let job_id = bench.submit(bench.local_backup());
    assert!(crate::support::eventually(|| bench.hub.job(&job_id, |job| job.completions == 1)).await);
    assert_eq!(bench.hub.status(&job_id), JobStatus::Queued);
    assert_eq!(failure(&bench, &job_id).0, "disk_short");
}

#[tokio::test]
async fn deleting_removes_the_bytes_and_doing_so_twice_is_fine() {
    let bench = Bench::start().await;
    let task = bench.local_backup();
    let key = key_of(&task);
    let kept = bench.submit(bench.local_backup());
    bench.reaches(&kept, JobStatus::Completed).await;
    let made = bench.submit(task);
    bench.reaches(&made, JobStatus::Completed).await;
    for _ in 0..2 {
        let job_id = bench.hub.add(Task::DeleteSnapshot {
            snapshot: key.clone(),
            store: StoreAccess::LocalFs,
            copies: Vec::new(),
            copies_kept: Vec::new(),
        });
        bench.send_own(&job_id);
        bench.reaches(&job_id, JobStatus::Completed).await;
        assert_eq!(result(&bench, &job_id), TaskResult::DeleteSnapshot { copies_kept: Vec::new() });
        assert!(!bench.storage().join(key.prefix()).exists());
    }
    assert_eq!(bench.snapshots().await.len(), 1);
}

#[tokio::test]
async fn a_probe_answers_with_the_fingerprint_and_then_with_the_paths() {
    let sshd = Sshd::builder().start();
    fs::create_dir(sshd.home.join("site")).unwrap();
    let bench = Bench::start().await;
    let mut settings = ssh(&sshd, sshd.port, "site");
    settings.paths.push("gone".into());
    settings.host_key = None;
    let credential = password(&sshd, &bench.recipient);
    let probe = |settings: &xvault::core::SshSettings| Task::Probe {
        source: Box::new(SourceSettings::Ssh(settings.clone())),
        credential: credential.clone(),
    };
    let report = async |task: Task| {
        let job_id = bench.submit(task);
        bench.reaches(&job_id, JobStatus::Completed).await;
        match result(&bench, &job_id) {
            TaskResult::Probe { probe } => probe,
            other => panic!("{other:?}"),
        }
    };
    let unknown = report(probe(&settings)).await;
    assert!(!unknown.logged_in && unknown.paths.is_empty(), "{unknown:?}");
    assert_eq!(unknown.host_key.as_ref(), Some(&sshd.host_key.fingerprint));
    settings.host_key = unknown.host_key;
    let known = report(probe(&settings)).await;
    assert!(known.logged_in);
    assert!(known.server.unwrap().starts_with("SSH-2.0-OpenSSH"));
    let kinds: Vec<_> = known.paths.iter().map(|path| (path.path.as_str(), path.kind.as_deref())).collect();
    assert_eq!(kinds, [("site", Some("directory")), ("gone", None)]);
    assert!(known.paths[1].error.is_some());
}

#[tokio::test]
async fn a_credential_sealed_to_another_worker_is_no_use() {
    let sshd = Sshd::builder().start();
    let bench = Bench::start().await;
    let other = xvault::core::Identity::generate().recipient();
    let source = SourceSettings::Sftp(ssh(&sshd, sshd.port, "."));
    let job_id = bench.submit(bench.backup_of(source, password(&sshd, &other)));
    assert!(crate::support::eventually(|| bench.hub.job(&job_id, |job| job.completions == 1)).await);
    assert_eq!(failure(&bench, &job_id).0, "credential_unreadable");
}

/// A look into a directory of a snapshot, with these identities.
fn look(snapshot: SnapshotKey, directory: &std::path::Path, identities: Sealed) -> Task {
    let directory = directory.strip_prefix("/").unwrap();
    Task::Browse(Box::new(BrowseTask {
        snapshot: StoredIndex { snapshot, store: StoreAccess::LocalFs },
        other: None,
        identities,
        query: BrowseQuery {
            what: Browse::List,
            directory: Some(Name::of(directory.as_os_str().as_encoded_bytes())),
            cursor: None,
            limit: 10,
        },
    }))
}

#[tokio::test]
async fn a_look_into_a_snapshot_does_not_wait_for_long_backups() {
    let sshd = Sshd::builder().start();
    fs::write(sshd.home.join("big"), vec![7; 4 << 20]).unwrap();
    let tap = FaultProxy::start(sshd.port);
    let bench = Bench::with(|config| config.concurrency = std::num::NonZeroUsize::MIN, None).await;
    fs::write(bench.data().join("letter"), "Dear Sirs").unwrap();
    let first = bench.local_backup();
    let key = key_of(&first);
    let first = bench.submit(first);
    bench.reaches(&first, JobStatus::Completed).await;
    tap.stall_after(1 << 20);
    let source = SourceSettings::Sftp(ssh(&sshd, tap.port, "."));
    let busy = bench.submit(bench.backup_of(source, password(&sshd, &bench.recipient)));
    assert!(crate::support::eventually(|| tap.bytes_to_client() >= 1 << 20).await, "the only slot is taken");

    let seal = |text: &str| Sealed::to(&bench.recipient, text.as_bytes()).unwrap();
    let own = seal(bench.identity.to_secret().expose_secret());
    let job_id = bench.submit_quick(look(key.clone(), &bench.data(), own.clone()));
    bench.reaches(&job_id, JobStatus::Completed).await;
    let TaskResult::Browse { found: Browsed::Entries { entries, next_cursor } } = result(&bench, &job_id)
    else {
        panic!("{:?}", result(&bench, &job_id))
    };
    assert_eq!((entries.len(), entries[0].facts.size, next_cursor), (1, Some(9), None));
    let job_id = bench.submit_quick(look(key.clone(), &bench.data().join("nowhere"), own));
    bench.reaches(&job_id, JobStatus::Completed).await;
    assert_eq!(result(&bench, &job_id), TaskResult::Browse { found: Browsed::Absent });
    let strange = seal(xvault::core::Identity::generate().to_secret().expose_secret());
    let job_id = bench.submit_quick(look(key, &bench.data(), strange));
    bench.reaches(&job_id, JobStatus::Failed).await;
    assert!(failure(&bench, &job_id).1.contains("encrypted to other keys"), "{:?}", failure(&bench, &job_id));
    assert_eq!(bench.hub.status(&busy), JobStatus::Running);
}
