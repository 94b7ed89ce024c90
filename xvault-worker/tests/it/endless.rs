//! Stores whose server takes what it is asked for, and never comes to an end: a job that waits for one gives its place back.

use std::fs;
use std::time::Duration;

use xvault::core::protocol::{CopyAccess, Outcome, StoreAccess, SweepStoreTask, Task};
use xvault::core::{Disposition, JobStatus, SnapshotKey};
use xvault_testkit::{FaultProxy, S3Access, SeaweedFs};

use crate::buckets::{WHOLE, access, into, names};
use crate::support::{Bench, eventually, key_of};

fn deletion(snapshot: &SnapshotKey, store: StoreAccess, copies: Vec<CopyAccess>) -> Task {
    Task::DeleteSnapshot { snapshot: snapshot.clone(), store, copies, copies_kept: vec![] }
}

fn sweep(key: &SnapshotKey, store: StoreAccess) -> Task {
    Task::SweepStore(Box::new(SweepStoreTask {
        store,
        prefix: format!("tenants/{}", key.tenant_id),
        older_than_ms: 3_600_000,
        attempts: vec![key.clone()],
        deleted: vec![],
        running: vec![],
    }))
}

/// The job's attempt ends with this limit as its reason, and is to be repeated.
async fn ends_after(bench: &Bench, task: Task, limit: &str) {
    let job = bench.submit(task);
    assert!(eventually(|| bench.hub.job(&job, |job| job.outcome.is_some())).await);
    let outcome = bench.hub.job(&job, |job| job.outcome.clone());
    let Some(Outcome::Failed { error, disposition }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        (error.code.as_str(), disposition),
        ("store_unreachable", Disposition::Transient),
        "{error:?}"
    );
    assert!(error.message.contains(&format!("took longer than {limit}")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_and_deletions_end_when_their_time_is_up_and_the_next_ones_go_on() {
    let seaweed = SeaweedFs::shared();
    let (bucket, proxy) = (seaweed.new_bucket(), FaultProxy::start(seaweed.port()));
    let through = S3Access { endpoint: format!("http://127.0.0.1:{}", proxy.port), ..bucket.clone() };
    let short = |config: &mut xvault_worker::WorkerConfig| {
        (config.sweep_limit, config.deletion_limit) = (Duration::from_secs(1), Duration::from_secs(2));
    };
    let bench = Bench::with(short, None).await;
    fs::write(bench.data().join("a.txt"), "hello").unwrap();
    let task = into(bench.local_backup(), access(&bench, &bucket, &bucket, None));
    let key = key_of(&task);
    let backup = bench.submit(task);
    bench.reaches(&backup, JobStatus::Completed).await;
    let store = || access(&bench, &through, &through, None);
    let copies = || vec![CopyAccess { store_id: "second".parse().unwrap(), access: store() }];
    proxy.stall_after(0);
    ends_after(&bench, sweep(&key, store()), "1s").await;
    ends_after(&bench, deletion(&key, store(), vec![]), "2s").await;
    ends_after(&bench, deletion(&key, StoreAccess::LocalFs, copies()), "2s").await;
    // The server did what it was asked for first, and its answer did not come: there is no snapshot, and the rest of it is there.
    let rest: Vec<_> = WHOLE.into_iter().filter(|name| *name != "manifest.json").collect();
    assert_eq!(names(&bucket, &key), rest);
    proxy.heal();
    proxy.cut_now();
    for task in [sweep(&key, store()), deletion(&key, StoreAccess::LocalFs, copies())] {
        let job = bench.submit(task);
        bench.reaches(&job, JobStatus::Completed).await;
    }
    assert_eq!(names(&bucket, &key), Vec::<String>::new());
}
