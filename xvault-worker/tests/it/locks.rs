//! Jobs in a bucket with object lock, on a real server: what they write is locked, and stays until that is over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use xvault::core::protocol::{CopyAccess, Outcome, StoreAccess, Task, TaskResult};
use xvault::core::{Disposition, JobId, JobStatus, LockMode, ObjectLock, SnapshotKey};
use xvault_testkit::{S3Access, SeaweedFs};

use crate::buckets::{WHOLE, access, into, may, names};
use crate::support::{Bench, eventually, key_of};

/// In whole seconds.
fn lock(seconds: i64) -> ObjectLock {
    let until = xvault_core::clock::now() + SignedDuration::from_secs(seconds);
    ObjectLock { mode: LockMode::Compliance, until: Timestamp::from_second(until.as_second()).unwrap() }
}

fn locking(access: StoreAccess, with: Option<ObjectLock>) -> StoreAccess {
    match access {
        StoreAccess::S3 { settings, credential, read_credential, anywhere, .. } => StoreAccess::S3 {
            settings,
            credential,
            read_credential,
            lock: with,
            all_versions: true,
            anywhere,
        },
        other => panic!("{other:?}"),
    }
}

/// These objects of the snapshot have this lock.
fn assert_locked(bucket: &S3Access, key: &SnapshotKey, names: &[&str], lock: ObjectLock) {
    for name in names {
        let told = bucket.lock(&format!("p/{}/{name}", key.prefix()));
        assert_eq!(told, Some(("COMPLIANCE".to_owned(), lock.until.to_string())), "{name}");
    }
}

fn outcome(bench: &Bench, job: &JobId) -> Outcome {
    bench.hub.job(job, |job| job.outcome.clone()).unwrap()
}

/// The job's first attempt finds the snapshot locked, and is to be repeated.
async fn is_refused(bench: &Bench, job: &JobId) {
    assert!(eventually(|| bench.hub.job(job, |job| job.outcome.is_some())).await);
    let Outcome::Failed { error, disposition } = outcome(bench, job) else { panic!() };
    assert_eq!((error.code.as_str(), disposition), ("store_locked", Disposition::Transient), "{error:?}");
}

/// A snapshot on the worker's disk, and a bucket that locks, where it is copied to.
struct Copying {
    bucket: S3Access,
    bench: Bench,
    key: SnapshotKey,
}

impl Copying {
    async fn set() -> Self {
        let (bucket, bench) = (SeaweedFs::shared().new_locking_bucket(), Bench::start().await);
        std::fs::write(bench.data().join("a.txt"), "hello").unwrap();
        let task = bench.local_backup();
        let key = key_of(&task);
        let job = bench.submit(task);
        bench.reaches(&job, JobStatus::Completed).await;
        Self { bucket, bench, key }
    }

    fn there(&self, with: Option<ObjectLock>) -> StoreAccess {
        locking(access(&self.bench, &self.bucket, &self.bucket, None), with)
    }

    /// Begins to copy it, with this lock.
    fn begun(&self, with: Option<ObjectLock>) -> JobId {
        let (snapshot, to) = (self.key.clone(), self.there(with));
        self.bench.submit(Task::Replicate { snapshot, from: StoreAccess::LocalFs, to })
    }

    /// Copies it with this lock; until when it is told to be locked.
    async fn done(&self, with: Option<ObjectLock>) -> Option<Timestamp> {
        let job = self.begun(with);
        self.bench.reaches(&job, JobStatus::Completed).await;
        match outcome(&self.bench, &job) {
            Outcome::Completed { result: TaskResult::Replicate { locked_until, .. } } => locked_until,
            other => panic!("{other:?}"),
        }
    }
}

/// Backs up with a credential that may put and lock, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_locks_all_of_its_snapshot_which_goes_when_that_is_over() {
    let bucket = SeaweedFs::shared().new_locking_bucket();
    let bench = Bench::start().await;
    xvault_testkit::trees::random_file(&bench.data().join("large"), 9 << 20, 3);
    let writer = may(&bucket, &["s3:PutObject", "s3:PutObjectRetention"]);
    let reader = may(&bucket, &["s3:GetObject"]);
    let lock = lock(15);
    let task =
        into(bench.local_backup(), locking(access(&bench, &bucket, &writer, Some(&reader)), Some(lock)));
    let key = key_of(&task);
    let job = bench.submit(task);
    bench.reaches(&job, JobStatus::Completed).await;
    let Outcome::Completed { result: TaskResult::Backup { locked_until, .. } } = outcome(&bench, &job) else {
        panic!()
    };
    assert_eq!(locked_until, Some(lock.until));
    assert_eq!(names(&bucket, &key), WHOLE);
    assert_locked(&bucket, &key, &WHOLE, lock);
    let delete = || Task::DeleteSnapshot {
        snapshot: key.clone(),
        store: locking(access(&bench, &bucket, &bucket, None), None),
        copies: Vec::new(),
        copies_kept: Vec::new(),
    };
    let too_soon = bench.submit(delete());
    is_refused(&bench, &too_soon).await;
    assert_eq!((names(&bucket, &key), bucket.versions("").len()), (WHOLE.map(str::to_owned).to_vec(), 5));
    tokio::time::sleep(
        lock.until.duration_since(xvault_core::clock::now()).unsigned_abs() + Duration::from_secs(1),
    )
    .await;
    let deletion = bench.submit(delete());
    bench.reaches(&deletion, JobStatus::Completed).await;
    assert_eq!(bucket.versions(""), [], "no version is left, and no mark");
}

/// A lock that some may take off is not told as one that nobody may, however long it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_weaker_lock_does_not_count_for_ending_later() {
    let copying = Copying::set().await;
    let weak = |seconds| ObjectLock { mode: LockMode::Governance, ..lock(seconds) };
    let longer = weak(40);
    assert_eq!(copying.done(Some(longer)).await, Some(longer.until));
    let shorter = copying.done(Some(weak(20))).await;
    assert_eq!(shorter, Some(longer.until), "the longer one of the same kind stays");
    let (strict, bench) = (copying.begun(Some(lock(20))), &copying.bench);
    assert!(eventually(|| bench.hub.job(&strict, |job| job.outcome.is_some())).await);
    let told = outcome(bench, &strict);
    assert!(matches!(told, Outcome::Failed { .. }), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_locked_also_when_it_was_there() {
    let copying = Copying::set().await;
    // Made when its store locked nothing, by a run that died before it told; by one that lived; by one that was too early; and when
    // the span was shortened meanwhile: nobody can shorten the lock.
    let [short, long, longest] = [15, 20, 25].map(lock);
    for (with, expected) in
        [(None, None), (Some(long), Some(long)), (Some(longest), Some(longest)), (Some(short), Some(longest))]
    {
        assert_eq!(copying.done(with).await, expected.map(|lock| lock.until));
        // The mark is written anew each time, with the lock of then; one of before is another version.
        let all = if with == expected { WHOLE.as_slice() } else { &WHOLE[..4] };
        if let Some(lock) = expected {
            assert_locked(&copying.bucket, &copying.key, all, lock);
        }
    }
    let copies = vec![CopyAccess { store_id: "second".parse().unwrap(), access: copying.there(None) }];
    let deletion = copying.bench.submit(Task::DeleteSnapshot {
        snapshot: copying.key.clone(),
        store: StoreAccess::LocalFs,
        copies,
        copies_kept: Vec::new(),
    });
    // A lock is no credential that may not delete: the copy is not given up.
    is_refused(&copying.bench, &deletion).await;
}
