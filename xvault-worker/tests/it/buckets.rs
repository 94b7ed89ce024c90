//! Jobs whose store is a bucket, on a real S3 server.

use std::fs;

use serde_json::json;
use xvault::Store as _;
use xvault::connectors::{S3Options, S3Store};
use xvault::core::protocol::{
    Ability, Found, Outcome, Sealed, StoreAccess, SweepReport, SweepStoreTask, Task, TaskResult,
    TestStoreTask,
};
use xvault::core::snapshot::Locator;
use xvault::core::{JobStatus, ReadBack, S3Credential, S3Settings, SnapshotId, SnapshotKey};
use xvault_testkit::{S3Access, SeaweedFs};

use crate::fake_hub::Fault;
use crate::support::{Bench, key_of};

fn settings(bucket: &S3Access) -> S3Settings {
    let json = json!({ "bucket": bucket.bucket, "prefix": "p", "endpoint": bucket.endpoint, "region": bucket.region });
    serde_json::from_value(json).unwrap()
}

fn credential(who: &S3Access) -> S3Credential {
    S3Credential {
        access_key_id: who.access_key.clone(),
        secret_access_key: who.secret_key.clone().into(),
        session_token: who.session_token.clone().map(Into::into),
    }
}

/// The store, reached as `who` and read as `reader`, sealed to the worker.
pub(crate) fn access(
    bench: &Bench,
    bucket: &S3Access,
    who: &S3Access,
    reader: Option<&S3Access>,
) -> StoreAccess {
    use xvault::core::secret::ExposeSecret as _;
    let sealed = |who| Sealed::to(&bench.recipient, credential(who).to_json().expose_secret()).unwrap();
    StoreAccess::S3 {
        settings: Box::new(settings(bucket)),
        credential: sealed(who),
        read_credential: reader.map(sealed),
        lock: None,
        all_versions: false,
        anywhere: false,
    }
}

/// A role that may do these things below the prefix, and nothing else.
pub(crate) fn may(bucket: &S3Access, actions: &[&str]) -> S3Access {
    let resource = format!("arn:aws:s3:::{}/p/*", bucket.bucket);
    let policy = json!({ "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": [resource] }] });
    S3Access { bucket: bucket.bucket.clone(), ..SeaweedFs::shared().assume_role(&policy) }
}

pub(crate) fn into(task: Task, store: StoreAccess) -> Task {
    let Task::Backup(mut task) = task else { panic!() };
    (task.store, task.read_back) = (store, ReadBack::Sample);
    Task::Backup(task)
}

pub(crate) fn names(bucket: &S3Access, key: &SnapshotKey) -> Vec<String> {
    let prefix = format!("p/{}/", key.prefix());
    let mut names: Vec<_> =
        bucket.keys(&prefix).into_iter().map(|key| key.trim_start_matches(&prefix).to_owned()).collect();
    names.sort();
    names
}

pub(crate) const WHOLE: [&str; 5] =
    ["backup.tar.zst.enc", "index.zst.enc", "manifest.json", "meta.json", "reported"];

/// Backs up with what one job is given: one credential that only puts, another that only reads.
#[tokio::test(flavor = "multi_thread")]
async fn s3_upload_module() {
    let bucket = SeaweedFs::shared().new_bucket();
    let bench = Bench::start().await;
    fs::write(bench.data().join("a.txt"), "hello").unwrap();
    let (writer, reader) = (may(&bucket, &["s3:PutObject"]), may(&bucket, &["s3:GetObject"]));
    let task = into(bench.local_backup(), access(&bench, &bucket, &writer, Some(&reader)));
    let key = key_of(&task);
    let job = bench.submit(task);
    bench.reaches(&job, JobStatus::Completed).await;
    assert_eq!(names(&bucket, &key), WHOLE);
    let outcome = bench.hub.job(&job, |job| job.outcome.clone());
    let Some(Outcome::Completed { result: TaskResult::Backup { manifest, locator, .. } }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(manifest.read_back.mode, ReadBack::Sample);
    let Locator::S3 { bucket: name, object_key, etag } = locator else { panic!("{locator:?}") };
    assert_eq!((name, object_key), (bucket.bucket.clone(), format!("p/{}", key.prefix())));
    assert!(etag.is_some_and(|etag| !etag.is_empty()));
    assert!(bench.snapshots().await.is_empty(), "nothing of it lies on the worker's disk");
    let store = S3Store::new(&settings(&bucket), &credential(&bucket), S3Options::default()).unwrap();
    let report = xvault::verify(&store, &manifest.key(), &xvault::VerifyOptions::default()).await.unwrap();
    drop((report, store.describe()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_does_not_take_goes_or_is_marked_for_the_sweep() {
    let bucket = SeaweedFs::shared().new_bucket();
    let bench = Bench::start().await;
    fs::write(bench.data().join("a.txt"), "hello").unwrap();
    bench.hub.set_fault(Fault::RejectsResults);
    let task = into(bench.local_backup(), access(&bench, &bucket, &bucket, None));
    let gone = key_of(&task);
    bench.hub.state().superseded.push(gone.clone());
    let job = bench.submit(task);
    bench.reaches(&job, JobStatus::Failed).await;
    assert!(
        crate::support::eventually(|| names(&bucket, &gone).is_empty()).await,
        "{:?}",
        names(&bucket, &gone)
    );
    let (writer, reader) = (may(&bucket, &["s3:PutObject"]), may(&bucket, &["s3:GetObject"]));
    let task = into(bench.local_backup(), access(&bench, &bucket, &writer, Some(&reader)));
    let marked = key_of(&task);
    bench.hub.state().superseded.push(marked.clone());
    let job = bench.submit(task);
    bench.reaches(&job, JobStatus::Failed).await;
    let is_marked = || names(&bucket, &marked).contains(&"withdrawn".to_owned());
    assert!(crate::support::eventually(is_marked).await, "{:?}", names(&bucket, &marked));
    bench.hub.set_fault(Fault::None);
    the_sweep_knows_what_may_go(&bench, &bucket, &marked).await;
}

/// Of attempts that are over, what was withdrawn, never reported or never finished goes; the rest stays.
async fn the_sweep_knows_what_may_go(bench: &Bench, bucket: &S3Access, withdrawn: &SnapshotKey) {
    let task = into(bench.local_backup(), access(bench, bucket, bucket, None));
    let reported = key_of(&task);
    let job = bench.submit(task);
    bench.reaches(&job, JobStatus::Completed).await;
    let other = |id: &str| SnapshotKey { snapshot_id: id.parse::<SnapshotId>().unwrap(), ..reported.clone() };
    let (unreported, half, absent) = (other("unreported"), other("half"), other("absent"));
    for (key, name) in
        [(&unreported, "manifest.json"), (&unreported, "meta.json"), (&half, "backup.tar.zst.enc")]
    {
        assert_eq!(bucket.in_bucket("PUT", &format!("p/{}/{name}", key.prefix()), b"x").status, 200);
    }
    // Uploads of attempts go, however young they are. Of what is no attempt, only the old.
    let begun = format!("p/{}/index.zst.enc?uploads=", half.prefix());
    assert_eq!(bucket.in_bucket("POST", &begun, b"").status, 200);
    let alive = other("alive");
    let strangers = SnapshotKey { tenant_id: "stranger".parse().unwrap(), ..other("half") };
    let [reads_back, uploads] = ["reads-back", "uploads"].map(other);
    for key in [&alive, &strangers, &reads_back] {
        let object = format!("p/{}/backup.tar.zst.enc", key.prefix());
        assert_eq!(bucket.in_bucket("PUT", &object, b"x").status, 200);
    }
    let long = format!("p/{}/backup.tar.zst.enc?uploads=", uploads.prefix());
    assert_eq!(bucket.in_bucket("POST", &long, b"").status, 200);
    let attempts =
        vec![withdrawn.clone(), reported.clone(), unreported.clone(), half.clone(), absent.clone()];
    let sweep = SweepStoreTask {
        store: access(bench, bucket, bucket, None),
        prefix: format!("tenants/{}", reported.tenant_id),
        older_than_ms: 3_600_000,
        attempts,
        deleted: vec![],
        running: vec![],
    };
    let report = swept(bench, &sweep).await;
    assert_eq!(report.kept, std::slice::from_ref(&reported.snapshot_id));
    let removed = [withdrawn, &unreported, &half, &absent].map(|key| key.snapshot_id.clone());
    assert_eq!((report.removed.clone(), report.failed), (removed.to_vec(), 0), "{report:?}");
    assert_eq!((report.remains, report.in_use), (0, 3), "its own part alone: {report:?}");
    assert_eq!(names(bucket, &reported), WHOLE);
    for key in [&alive, &strangers, &reads_back] {
        assert_eq!(names(bucket, key), ["backup.tar.zst.enc"]);
    }
    assert_eq!(bucket.uploads().len(), 1);
    for key in [withdrawn, &unreported, &half] {
        assert_eq!(names(bucket, key), Vec::<String>::new(), "{key:?}");
    }
    // What was deleted goes in any case: a copy, say, that its worker announced to nobody.
    let deleted = vec![reported.clone(), absent.clone()];
    let report = swept(bench, &SweepStoreTask { attempts: vec![], deleted, ..sweep.clone() }).await;
    assert_eq!(report.removed, [&reported, &absent].map(|key| key.snapshot_id.clone()));
    assert_eq!((report.failed, report.remains, names(bucket, &reported)), (0, 0, vec![]), "{report:?}");
    // What jobs are writing stays, however old.
    let running = vec![reads_back.clone(), uploads];
    let report = swept(bench, &SweepStoreTask { older_than_ms: 0, attempts: vec![], running, ..sweep }).await;
    assert_eq!((report.remains, report.in_use), (1, 2), "{report:?}");
    assert_eq!((names(bucket, &alive), names(bucket, &reads_back).len()), (vec![], 1));
    assert_eq!(bucket.uploads().len(), 1);
}

async fn swept(bench: &Bench, sweep: &SweepStoreTask) -> SweepReport {
    let job = bench.submit(Task::SweepStore(Box::new(sweep.clone())));
    bench.reaches(&job, JobStatus::Completed).await;
    let outcome = bench.hub.job(&job, |job| job.outcome.clone());
    let Some(Outcome::Completed { result: TaskResult::SweepStore { report } }) = outcome else {
        panic!("{outcome:?}")
    };
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_not_be_written_fails_the_backup_with_its_words() {
    let bucket = SeaweedFs::shared().new_bucket();
    let bench = Bench::start().await;
    fs::write(bench.data().join("a.txt"), "hello").unwrap();
    let missing = S3Access { bucket: "no-such-bucket".into(), ..bucket.clone() };
    let stranger = S3Access { secret_key: "guess".into(), ..bucket.clone() };
    let reader = may(&bucket, &["s3:GetObject"]);
    for (place, who, code, words) in [
        (&missing, &bucket, "store", "NoSuchBucket"),
        (&bucket, &stranger, "store", "SignatureDoesNotMatch"),
        (&bucket, &reader, "store_denied", "AccessDenied"),
    ] {
        let task = into(bench.local_backup(), access(&bench, place, who, None));
        let key = key_of(&task);
        let job = bench.submit(task);
        bench.reaches(&job, JobStatus::Failed).await;
        let outcome = bench.hub.job(&job, |job| job.outcome.clone());
        let Some(Outcome::Failed { error, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains(words) && !error.message.contains("guess"), "{error:?}");
        assert_eq!(names(&bucket, &key), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_tells_what_a_store_really_does_and_leaves_nothing() {
    let bucket = SeaweedFs::shared().new_bucket();
    let bench = Bench::start().await;
    let report = async |who: &S3Access| {
        let store = access(&bench, &bucket, who, None);
        let prefix = "tenants/tenant-1/tests/job-1".to_owned();
        let job = bench.submit(Task::TestStore(Box::new(TestStoreTask { store, prefix })));
        bench.reaches(&job, JobStatus::Completed).await;
        let outcome = bench.hub.job(&job, |job| job.outcome.clone());
        let Some(Outcome::Completed { result: TaskResult::TestStore { report } }) = outcome else {
            panic!("{outcome:?}")
        };
        report
    };
    let all = report(&bucket).await;
    for ability in [
        Ability::Write,
        Ability::Read,
        Ability::Range,
        Ability::List,
        Ability::Checksums,
        Ability::ConditionalPut,
        Ability::Delete,
    ] {
        assert!(all.has(ability), "{ability:?}: {all:?}");
    }
    for ability in [Ability::Versioning, Ability::ObjectLock] {
        assert!(!all.has(ability), "this bucket keeps no versions: {ability:?}: {all:?}");
    }
    assert_eq!(bucket.keys("p/"), Vec::<String>::new());
    // A second store that is written and never deleted from says so.
    let put_only = report(&may(&bucket, &["s3:PutObject"])).await;
    assert!(
        put_only.has(Ability::Write) && !put_only.has(Ability::Delete) && !put_only.has(Ability::Read),
        "{put_only:?}"
    );
    let nothing = report(&may(&bucket, &["s3:GetObject"])).await;
    let unknown = nothing.observations.iter().filter(|seen| seen.found == Found::Unknown).count();
    assert!(!nothing.has(Ability::Write) && unknown == 10, "{nothing:?}");
}
