//! Copies into a bucket of a real server.

use xvault::connectors::{S3Options, S3Store};
use xvault::core::job::JobError;
use xvault::core::protocol::{CopyAccess, Outcome, Sealed, StoreAccess, Task, TaskResult};
use xvault::core::secret::ExposeSecret;
use xvault::core::snapshot::Locator;
use xvault::core::store::{Addressing, S3Credential, S3Settings};
use xvault::core::{JobId, JobStatus, SnapshotKey, StoreId};
use xvault::{Filter, Snapshot, VerifyOptions};
use xvault_testkit::{S3Access, SeaweedFs, trees};

use crate::support::{Bench, key_of};

fn settings(access: &S3Access) -> S3Settings {
    S3Settings {
        bucket: access.bucket.clone(),
        prefix: "second".into(),
        region: access.region.clone(),
        endpoint: Some(access.endpoint.clone()),
        addressing: Addressing::Path,
        ca_certificate: None,
    }
}

fn credential(access: &S3Access) -> S3Credential {
    S3Credential {
        access_key_id: access.access_key.clone(),
        secret_access_key: access.secret_key.clone().into(),
        session_token: access.session_token.clone().map(Into::into),
    }
}

fn access_for(bench: &Bench, access: &S3Access) -> StoreAccess {
    let json = credential(access).to_json();
    StoreAccess::S3 {
        settings: Box::new(settings(access)),
        credential: Sealed::to(&bench.recipient, json.expose_secret()).unwrap(),
        read_credential: None,
        lock: None,
        all_versions: false,
        anywhere: false,
    }
}

fn second(access: &S3Access) -> S3Store {
    S3Store::new(&settings(access), &credential(access), S3Options::default()).unwrap()
}

/// A snapshot on the worker's disk.
async fn backed_up(bench: &Bench) -> SnapshotKey {
    trees::random_file(&bench.data().join("large"), 9 << 20, 3);
    let task = bench.local_backup();
    let key = key_of(&task);
    let job_id = bench.submit(task);
    bench.reaches(&job_id, JobStatus::Completed).await;
    key
}

fn replicate(bench: &Bench, key: &SnapshotKey, access: &S3Access) -> JobId {
    let to = access_for(bench, access);
    bench.submit(Task::Replicate { snapshot: key.clone(), from: StoreAccess::LocalFs, to })
}

fn result(bench: &Bench, job_id: &JobId) -> TaskResult {
    bench.hub.job(job_id, |job| match &job.outcome {
        Some(Outcome::Completed { result }) => result.clone(),
        other => panic!("{other:?}"),
    })
}

fn failure(bench: &Bench, job_id: &JobId) -> JobError {
    bench.hub.job(job_id, |job| match &job.outcome {
        Some(Outcome::Failed { error, .. }) => error.clone(),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_copy_in_a_bucket_opens_without_the_workers_disk() {
    let (bench, access) = (Bench::start().await, SeaweedFs::shared().new_bucket());
    let key = backed_up(&bench).await;
    for round in 0..2 {
        let job_id = replicate(&bench, &key, &access);
        bench.reaches(&job_id, JobStatus::Completed).await;
        let TaskResult::Replicate { locator: Locator::S3 { bucket, object_key, .. }, bytes, .. } =
            result(&bench, &job_id)
        else {
            panic!()
        };
        assert_eq!((bucket, object_key), (access.bucket.clone(), format!("second/{}", key.prefix())));
        assert_eq!(bytes > 9 << 20, round == 0, "{bytes} bytes were written");
    }
    let mark = format!("second/{}/reported", key.prefix());
    assert_eq!(access.keys(&mark), std::slice::from_ref(&mark), "a sweep would take it");
    std::fs::remove_dir_all(bench.storage()).unwrap();
    let store = second(&access);
    let deep = VerifyOptions::default().identities(vec![bench.identity.clone()]);
    xvault::verify(&store, &key, &deep).await.unwrap();
    let snapshot = Snapshot::open(&store, &key, vec![bench.identity.clone()]).await.unwrap();
    assert_eq!(snapshot.manifest().content_summary.bytes, 9 << 20);
}

#[tokio::test]
async fn a_damaged_snapshot_is_named_and_makes_no_copy() {
    let (bench, access) = (Bench::start().await, SeaweedFs::shared().new_bucket());
    let key = backed_up(&bench).await;
    let artifact = bench.storage().join(key.prefix()).join("backup.tar.zst.enc");
    let mut bytes = std::fs::read(&artifact).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&artifact, bytes).unwrap();
    let job_id = replicate(&bench, &key, &access);
    bench.reaches(&job_id, JobStatus::Failed).await;
    let error = failure(&bench, &job_id);
    assert!(error.code == "store_damaged" && error.message.contains("backup.tar.zst.enc"), "{error:?}");
    assert!(xvault::list(&second(&access), &Filter::default()).await.unwrap().is_empty());
    assert_eq!(access.uploads(), Vec::<String>::new(), "nothing is left half uploaded");
}

/// A bucket whose credential may put and read, but not delete.
#[tokio::test]
async fn a_deletion_takes_the_copy_and_names_one_that_nobody_may_delete() {
    let (bench, server) = (Bench::start().await, SeaweedFs::shared());
    for may_delete in [true, false] {
        let access = server.new_bucket();
        let key = backed_up(&bench).await;
        let job_id = replicate(&bench, &key, &access);
        bench.reaches(&job_id, JobStatus::Completed).await;
        let all = format!("arn:aws:s3:::{}", access.bucket);
        let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:GetObject", "s3:ListBucket"],
            "Resource": [all.clone(), format!("{all}/*")],
        }]});
        let scoped = S3Access { bucket: access.bucket.clone(), ..server.assume_role(&policy) };
        let deleting = if may_delete { &access } else { &scoped };
        let store_id: StoreId = "second".parse().unwrap();
        let copies = vec![CopyAccess { store_id: store_id.clone(), access: access_for(&bench, deleting) }];
        // And one where the hub knows it.
        let known: StoreId = "known".parse().unwrap();
        let task = Task::DeleteSnapshot {
            snapshot: key.clone(),
            store: StoreAccess::LocalFs,
            copies,
            copies_kept: vec![known.clone()],
        };
        let job_id = bench.submit(task);
        bench.reaches(&job_id, JobStatus::Completed).await;
        assert!(!bench.storage().join(key.prefix()).exists());
        let left = xvault::list(&second(&access), &Filter::default()).await.unwrap().len();
        let copies_kept = if may_delete { vec![known] } else { vec![known, store_id] };
        assert_eq!(
            (left, result(&bench, &job_id)),
            (usize::from(!may_delete), TaskResult::DeleteSnapshot { copies_kept })
        );
    }
}
