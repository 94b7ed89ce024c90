//! Copies on either engine: who makes them, what is on record of them, and what becomes of them with their snapshot.

use std::time::Duration;

use serde_json::json;
use xvault_core::error::Disposition;
use xvault_core::job::JobError;
use xvault_core::protocol::{
    Ability, Assignment, Complete, Found, Observation, Outcome, StoreAccess, StoreReport, SweepReport,
    SweepStoreTask, Task, TaskResult,
};
use xvault_core::snapshot::Locator;
use xvault_core::{ExportFormat, JobId, JobKind, JobStatus, S3Credential, SnapshotId, StoreId, WorkerId};

use super::{AGAIN, make_missing, may_delete, reachable};
use crate::app::bench::{Bench, on_both_engines};
use crate::app::jobs::{
    Reading, RestoreOrder, RestoreWish, cancel, complete, delete_snapshot, expire_due, reading, reroute,
    restore, sweep_due, test_seconds,
};
use crate::app::stores::{Change, Key, update};
use crate::db::jobs::JobRow;
use crate::db::snapshot_copies::{self, Copy, CopyStatus};
use crate::db::{Scope, jobs, snapshots, workers};

/// A worker that reaches buckets.
async fn worker(bench: &Bench, name: &str) -> WorkerId {
    bench.worker_for(name, &["sftp", "s3"]).await
}

async fn store(bench: &Bench, bucket: &str) -> StoreId {
    bench.store(bucket).await
}

/// A snapshot on the worker's disk, whose source names `store` as its second one.
async fn snapshot(bench: &Bench, worker: &WorkerId, store: &StoreId) -> SnapshotId {
    let id = bench.backup().await;
    sqlx::query("UPDATE sources SET replica_store_id = $1")
        .bind(store.as_str())
        .execute(&mut *bench.hub.db().conn().await.unwrap())
        .await
        .unwrap();
    bench.back_up(worker, &id, 0).await;
    job(bench, &id).await.snapshot_id.unwrap()
}

async fn job(bench: &Bench, id: &JobId) -> JobRow {
    jobs::get(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, id).await.unwrap()
}

async fn copyings(bench: &Bench) -> Vec<JobRow> {
    let filter = jobs::Filter { kind: Some(JobKind::Replicate), ..jobs::Filter::default() };
    let page = crate::db::Page { limit: 100, before: None };
    jobs::list(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, &filter, &page).await.unwrap()
}

async fn copies(bench: &Bench, id: &SnapshotId) -> Vec<Copy> {
    snapshot_copies::of(&mut bench.hub.db().conn().await.unwrap(), id).await.unwrap()
}

/// Looks for what lacks its copy; gives the one job there is.
async fn copying(bench: &Bench) -> JobRow {
    make_missing(&bench.hub, None, 100).await.unwrap();
    let mut found = copyings(bench).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn copied(job: &Assignment, bucket: &str) -> TaskResult {
    let Task::Replicate { snapshot, .. } = &job.task else { panic!("{job:?}") };
    let (bucket, object_key) = (bucket.to_owned(), format!("x/{}", snapshot.prefix()));
    TaskResult::Replicate {
        locator: Locator::S3 { bucket, object_key, etag: None },
        bytes: 7,
        locked_until: None,
    }
}

/// Ends the job; gives what is said against it.
async fn ended(bench: &Bench, worker: &WorkerId, job: &Assignment, outcome: Outcome) -> Option<String> {
    let done = Complete { lease_token: job.lease_token.clone(), outcome };
    complete(&bench.hub, worker, &job.job_id, done).await.err().map(|error| error.message().to_owned())
}

async fn with_copy(bench: &Bench) -> (WorkerId, StoreId, SnapshotId) {
    let (worker, store) = (worker(bench, "w").await, store(bench, "second").await);
    let id = snapshot(bench, &worker, &store).await;
    let assigned = bench.claim(&worker, Some(copying(bench).await.id)).await.unwrap();
    bench.complete_with(&worker, &assigned, copied(&assigned, "second")).await;
    (worker, store, id)
}

async fn a_snapshot_gets_one_copy_from_the_worker_that_has_it(bench: Bench) {
    let (worker, other) = (worker(&bench, "w").await, worker(&bench, "other").await);
    let store = store(&bench, "second").await;
    let id = snapshot(&bench, &worker, &store).await;
    // The backup's end makes the job, too, and may be at it right now: there is one all the same.
    let (first, second) = tokio::join!(copying(&bench), copying(&bench));
    assert_eq!((&first.id, first.store_id.as_ref()), (&second.id, Some(&store)));
    assert_eq!(bench.claim(&other, Some(first.id.clone())).await, None);
    let assigned = bench.claim(&worker, Some(first.id.clone())).await.unwrap();
    let Task::Replicate { snapshot, from, to: StoreAccess::S3 { settings, .. } } = &assigned.task else {
        panic!("{assigned:?}")
    };
    assert_eq!(
        (&snapshot.snapshot_id, from, settings.bucket.as_str()),
        (&id, &StoreAccess::LocalFs, "second")
    );
    // A worker is not trusted with the place.
    let object_key = "x/elsewhere".to_owned();
    let below = Locator::S3 { bucket: "second".to_owned(), object_key, etag: None };
    for (field, result) in [
        ("bucket", copied(&assigned, "third")),
        ("object_key", TaskResult::Replicate { locator: below, bytes: 7, locked_until: None }),
    ] {
        let told = ended(&bench, &worker, &assigned, Outcome::Completed { result }).await.unwrap();
        let field = format!("field `outcome.result.locator.{field}`");
        assert_eq!(told, format!("{field}: it is not that of the assignment"));
    }
    assert_eq!(copies(&bench, &id).await, []);
    bench.complete_with(&worker, &assigned, copied(&assigned, "second")).await;
    let found = copies(&bench, &id).await;
    assert_eq!((found.len(), &found[0].store_id, found[0].status), (1, &store, CopyStatus::Copied));
    assert_eq!(job(&bench, &first.id).await.result.unwrap()["bytes"], json!(7));
    assert_eq!(make_missing(&bench.hub, None, 100).await.unwrap(), 0);
}

async fn what_could_not_be_copied_is_tried_anew_hours_later(bench: Bench) {
    let (worker, store) = (worker(&bench, "w").await, store(&bench, "second").await);
    let _ = snapshot(&bench, &worker, &store).await;
    let assigned = bench.claim(&worker, Some(copying(&bench).await.id)).await.unwrap();
    let error = JobError { code: "store_damaged".into(), message: "its SHA-256 is another".into() };
    let failed = Outcome::Failed { error, disposition: Disposition::Permanent };
    assert_eq!(ended(&bench, &worker, &assigned, failed).await, None);
    bench.hub.clock().advance(AGAIN - Duration::from_secs(1));
    assert_eq!(make_missing(&bench.hub, None, 100).await.unwrap(), 0);
    bench.hub.clock().advance(Duration::from_secs(2));
    assert_eq!(make_missing(&bench.hub, None, 100).await.unwrap(), 1);
    assert_eq!(copyings(&bench).await.len(), 2);
}

async fn what_has_its_copy_or_can_have_none_is_left_alone(bench: Bench) {
    let (worker, store, _) = with_copy(&bench).await;
    bench.hub.clock().advance(AGAIN + Duration::from_secs(1));
    let execute = async |sql: &'static str| execute(&bench, sql, &store).await;
    let made = async || {
        make_missing(&bench.hub, None, 100).await.unwrap();
        copyings(&bench).await.len()
    };
    assert_eq!(made().await, 1, "the copy is there, however long ago it was made");
    execute("UPDATE stores SET status = 'disabled' WHERE id = $1").await;
    let _ = snapshot(&bench, &worker, &store).await;
    assert_eq!(made().await, 1, "a disabled store takes none");
    execute("UPDATE snapshots SET store_id = $1").await;
    execute("UPDATE stores SET status = 'active' WHERE id = $1").await;
    assert_eq!(made().await, 1, "it lies there itself");
}

async fn a_deletion_takes_the_copies_and_shows_those_that_stay(bench: Bench) {
    for may_delete in [true, false] {
        let (worker, store) = (worker(&bench, "w").await, store(&bench, "second").await);
        let id = snapshot(&bench, &worker, &store).await;
        make_missing(&bench.hub, None, 100).await.unwrap();
        let queued =
            copyings(&bench).await.into_iter().find(|job| job.snapshot_id.as_ref() == Some(&id)).unwrap();
        let assigned = bench.claim(&worker, Some(queued.id)).await.unwrap();
        bench.complete_with(&worker, &assigned, copied(&assigned, "second")).await;
        let deletion = delete_snapshot(&bench.hub, &bench.who, &Scope::All, &id).await.unwrap();
        let assigned = bench.claim(&worker, Some(deletion.id.clone())).await.unwrap();
        let Task::DeleteSnapshot { copies: told, .. } = &assigned.task else { panic!("{assigned:?}") };
        assert_eq!(told.iter().map(|copy| &copy.store_id).collect::<Vec<_>>(), [&store]);
        // A test has seen it meanwhile.
        if !may_delete {
            execute(&bench, "UPDATE stores SET may_delete = 0 WHERE id = $1", &store).await;
        }
        let copies_kept = if may_delete { vec![] } else { vec![store.clone()] };
        bench.complete_with(&worker, &assigned, TaskResult::DeleteSnapshot { copies_kept }).await;
        let left: Vec<_> = copies(&bench, &id).await.into_iter().map(|copy| copy.status).collect();
        let result = job(&bench, &deletion.id).await.result;
        if may_delete {
            assert_eq!((left, result), (vec![], None));
        } else {
            assert_eq!((left, result), (vec![CopyStatus::Kept], Some(json!({ "copies_kept": [store] }))));
        }
    }
}

/// A policy may be being changed, or a key have run out: what one moment refuses, another one may do.
async fn a_refusal_that_no_test_explains_keeps_no_copy_for_good(bench: Bench) {
    let (worker, store, id) = with_copy(&bench).await;
    execute(&bench, "UPDATE stores SET may_delete = 1 WHERE id = $1", &store).await;
    let deletion = delete_snapshot(&bench.hub, &bench.who, &Scope::All, &id).await.unwrap();
    let assigned = bench.claim(&worker, Some(deletion.id.clone())).await.unwrap();
    // Whoever has no lease has no say.
    let stranger = Assignment { lease_token: xvault_core::LeaseToken::generate(), ..assigned.clone() };
    let kept =
        || Outcome::Completed { result: TaskResult::DeleteSnapshot { copies_kept: vec![store.clone()] } };
    assert!(ended(&bench, &worker, &stranger, kept()).await.is_some());
    assert_eq!(may_delete(&bench.hub, Some(&store)).await.unwrap(), Some(true));
    assert_eq!(ended(&bench, &worker, &assigned, kept()).await, None);
    let queued = job(&bench, &deletion.id).await;
    assert_eq!(
        (queued.status(), queued.life.error.unwrap().code),
        (JobStatus::Queued, "copy_denied".to_owned())
    );
    assert_eq!(copies(&bench, &id).await[0].status, CopyStatus::Copied);
    // The store is tested by itself, also when no source names it any more.
    assert_eq!(may_delete(&bench.hub, Some(&store)).await.unwrap(), None);
    sqlx::query("UPDATE sources SET replica_store_id = NULL")
        .execute(&mut *bench.hub.db().conn().await.unwrap())
        .await
        .unwrap();
    test_seconds(&bench.hub, 8).await.unwrap();
    tested(&bench, &worker, &store, Found::No).await;
    bench.hub.clock().advance(Duration::from_secs(3600));
    let assigned = bench.claim(&worker, Some(deletion.id.clone())).await.unwrap();
    let Task::DeleteSnapshot { copies: told, copies_kept, .. } = &assigned.task else {
        panic!("{assigned:?}")
    };
    assert_eq!((told.len(), copies_kept.as_slice()), (0, std::slice::from_ref(&store)));
    assert_eq!(ended(&bench, &worker, &assigned, kept()).await, None);
    assert_eq!(job(&bench, &deletion.id).await.status(), JobStatus::Completed);
    assert_eq!(copies(&bench, &id).await[0].status, CopyStatus::Kept);
}

/// The test of the store that waits, seen by the worker.
async fn tested(bench: &Bench, worker: &WorkerId, store: &StoreId, delete: Found) {
    let filter = jobs::Filter { kind: Some(JobKind::TestStore), ..jobs::Filter::default() };
    let page = crate::db::Page { limit: 100, before: None };
    let all =
        jobs::list(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, &filter, &page).await.unwrap();
    let waiting = all.into_iter().find(|job| job.status() == JobStatus::Queued).unwrap();
    assert_eq!(waiting.store_id.as_ref(), Some(store));
    let assigned = bench.claim(worker, Some(waiting.id)).await.unwrap();
    bench.complete_with(worker, &assigned, seen(delete)).await;
}

fn seen(delete: Found) -> TaskResult {
    let observation = Observation { ability: Ability::Delete, found: delete, seen: "so it was".to_owned() };
    TaskResult::TestStore { report: StoreReport { observations: vec![observation] } }
}

/// What was seen with the credential of before says nothing of the one of now.
async fn a_test_that_was_overtaken_says_nothing_of_what_the_store_lets_do(bench: Bench) {
    let (worker, store, _) = with_copy(&bench).await;
    test_seconds(&bench.hub, 8).await.unwrap();
    bench.hub.clock().advance(Duration::from_secs(1));
    let key = json!({ "access_key_id": "AK2", "secret_access_key": "s" });
    let key = Key::Own(S3Credential::from_json(key.to_string().as_bytes()).unwrap());
    let change = Change { key: Some(key), ..Change::default() };
    update(&bench.hub, &bench.who, &Scope::All, &store, change).await.unwrap();
    tested(&bench, &worker, &store, Found::Yes).await;
    assert_eq!(may_delete(&bench.hub, Some(&store)).await.unwrap(), None);
    test_seconds(&bench.hub, 8).await.unwrap();
    tested(&bench, &worker, &store, Found::No).await;
    assert_eq!(may_delete(&bench.hub, Some(&store)).await.unwrap(), Some(false));
}

/// The sweep of the one part that is due, as a worker gets it.
async fn sweep(bench: &Bench, worker: &WorkerId) -> (Assignment, SweepStoreTask) {
    sweep_due(&bench.hub, 10).await.unwrap();
    let filter = jobs::Filter { kind: Some(JobKind::SweepStore), ..jobs::Filter::default() };
    let page = crate::db::Page { limit: 100, before: None };
    let all =
        jobs::list(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, &filter, &page).await.unwrap();
    let waiting = all.into_iter().find(|job| job.status() == JobStatus::Queued).expect("nothing is swept");
    let assigned = bench.claim(worker, Some(waiting.id)).await.unwrap();
    let Task::SweepStore(task) = assigned.task.clone() else { panic!("{assigned:?}") };
    (assigned, *task)
}

/// Its worker died between making the copy and telling of it.
async fn a_copy_that_nobody_told_of_goes_with_its_snapshot(bench: Bench) {
    let (worker, store) = (worker(&bench, "w").await, store(&bench, "second").await);
    let id = snapshot(&bench, &worker, &store).await;
    let day = Duration::from_secs(26 * 3600);
    let assigned = bench.claim(&worker, Some(copying(&bench).await.id)).await.unwrap();
    let Task::Replicate { snapshot: key, .. } = &assigned.task else { panic!("{assigned:?}") };
    bench.hub.clock().advance(day);
    expire_due(&bench.hub, 10).await.unwrap();
    // While the snapshot is there, the part is swept, and the copy is left alone.
    let (job_id, task) = sweep(&bench, &worker).await;
    assert_eq!((task.prefix, task.deleted), (format!("tenants/{}", bench.tenant), vec![]));
    bench.complete_with(&worker, &job_id, TaskResult::SweepStore { report: SweepReport::default() }).await;
    let deletion = delete_snapshot(&bench.hub, &bench.who, &Scope::All, &id).await.unwrap();
    let assigned = bench.claim(&worker, Some(deletion.id)).await.unwrap();
    bench.complete_with(&worker, &assigned, TaskResult::DeleteSnapshot { copies_kept: vec![] }).await;
    // A worker that is thought to be dead may write it yet: it is looked for each day, for days.
    for days in 0..10 {
        let (job, task) = sweep(&bench, &worker).await;
        let expected = if days < 8 { vec![key.clone()] } else { vec![] };
        assert_eq!(task.deleted, expected, "after {days} days");
        let report = SweepReport { removed: vec![id.clone()], ..SweepReport::default() };
        bench.complete_with(&worker, &job, TaskResult::SweepStore { report }).await;
        bench.hub.clock().advance(day);
    }
}

/// A copy that is on record goes with the deletion itself, and what may lie where nobody may delete is asked of no worker.
async fn a_sweep_is_told_only_of_what_it_may_and_must_remove(bench: Bench) {
    let (worker, store, id) = with_copy(&bench).await;
    let deletion = delete_snapshot(&bench.hub, &bench.who, &Scope::All, &id).await.unwrap();
    let assigned = bench.claim(&worker, Some(deletion.id)).await.unwrap();
    bench.complete_with(&worker, &assigned, TaskResult::DeleteSnapshot { copies_kept: vec![] }).await;
    let other = snapshot(&bench, &worker, &store).await;
    make_missing(&bench.hub, None, 100).await.unwrap();
    let queued = copyings(&bench).await.into_iter().find(|job| job.status() == JobStatus::Queued).unwrap();
    let assigned = bench.claim(&worker, Some(queued.id)).await.unwrap();
    cancel(&bench.hub, &bench.who, &Scope::All, &assigned.job_id).await.unwrap();
    let deletion = delete_snapshot(&bench.hub, &bench.who, &Scope::All, &other).await.unwrap();
    let assigned = bench.claim(&worker, Some(deletion.id)).await.unwrap();
    bench.complete_with(&worker, &assigned, TaskResult::DeleteSnapshot { copies_kept: vec![] }).await;
    execute(&bench, "UPDATE stores SET may_delete = 0 WHERE id = $1", &store).await;
    let (job, task) = sweep(&bench, &worker).await;
    assert_eq!(task.deleted, []);
    bench.complete_with(&worker, &job, TaskResult::SweepStore { report: SweepReport::default() }).await;
    execute(&bench, "UPDATE stores SET may_delete = 1 WHERE id = $1", &store).await;
    bench.hub.clock().advance(Duration::from_secs(26 * 3600));
    let (_, task) = sweep(&bench, &worker).await;
    assert_eq!(task.deleted.iter().map(|key| &key.snapshot_id).collect::<Vec<_>>(), [&other]);
}

/// Stores of before that was asked.
async fn no_copy_goes_where_the_snapshot_lies_by_another_name(bench: Bench) {
    let (worker, first, second) =
        (worker(&bench, "w").await, store(&bench, "one").await, store(&bench, "one").await);
    let id = bench.backup().await;
    bench.back_up(&worker, &id, 0).await;
    execute(&bench, "UPDATE snapshots SET store_id = $1", &first).await;
    execute(&bench, "UPDATE sources SET replica_store_id = $1", &second).await;
    make_missing(&bench.hub, None, 100).await.unwrap();
    let all = copyings(&bench).await;
    let told = |job: &JobRow| (job.status(), job.life.error.as_ref().map(|error| error.code.clone()));
    assert_eq!(
        all.iter().map(told).collect::<Vec<_>>(),
        [(JobStatus::Canceled, Some("same_place".to_owned()))]
    );
    make_missing(&bench.hub, None, 100).await.unwrap();
    assert_eq!(copyings(&bench).await.len(), 1, "it is not told each minute");
}

async fn execute(bench: &Bench, sql: &'static str, store: &StoreId) {
    let mut conn = bench.hub.db().conn().await.unwrap();
    sqlx::query(sql).bind(store.as_str()).execute(&mut *conn).await.unwrap();
}

async fn a_copying_that_waits_holds_no_deletion_up(bench: Bench) {
    let (worker, store) = (worker(&bench, "w").await, store(&bench, "second").await);
    let id = snapshot(&bench, &worker, &store).await;
    let waiting = copying(&bench).await;
    let deletion = delete_snapshot(&bench.hub, &bench.who, &Scope::All, &id).await.unwrap();
    let assigned = bench.claim(&worker, Some(deletion.id)).await.unwrap();
    assert_eq!(bench.claim(&worker, Some(waiting.id.clone())).await, None);
    assert_eq!(job(&bench, &waiting.id).await.life.error.unwrap().code, "snapshot_gone");
    bench.complete_with(&worker, &assigned, TaskResult::DeleteSnapshot { copies_kept: vec![] }).await;
    let gone = snapshots::get(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, &id).await;
    assert!(matches!(gone, Err(crate::DbError::NotFound)));
}

async fn while_a_workers_disk_is_away_its_snapshots_are_read_from_their_copies(bench: Bench) {
    let (first, store, id) = with_copy(&bench).await;
    let new =
        Reading { kind: JobKind::Restore, snapshot_id: id.clone(), payload: json!({}), max_attempts: 1 };
    let read = async || {
        let mut conn = bench.hub.db().conn().await.unwrap();
        let snapshot = snapshots::get(&mut conn, &Scope::All, &id).await.unwrap();
        reading(&bench.hub, &reachable(&mut conn, snapshot).await.unwrap(), &new, None)
    };
    let there = read().await;
    assert_eq!((there.target_worker_id.as_ref(), there.store_id.as_ref()), (Some(&first), None));
    let (now, mut conn) = (bench.hub.clock().now(), bench.hub.db().conn().await.unwrap());
    workers::mark_offline(&mut conn, now + Duration::from_secs(1), now).await.unwrap();
    drop(conn);
    let away = read().await;
    assert_eq!((away.target_worker_id.as_ref(), away.store_id.as_ref()), (None, Some(&store)));
    assert_eq!(away.capability.as_deref(), Some("s3"));
}

/// As when a machine burns while restores wait for it.
async fn restores_of_a_worker_that_is_gone_are_done_from_the_copy(bench: Bench) {
    let (first, store, id) = with_copy(&bench).await;
    sqlx::query("UPDATE snapshots SET encryption_recipient = (SELECT MAX(public_key) FROM tenant_keys)")
        .execute(&mut *bench.hub.db().conn().await.unwrap())
        .await
        .unwrap();
    let wish = |from_store| RestoreWish {
        order: RestoreOrder::Download { format: ExportFormat::Tar, paths: vec![], single_use: false },
        accept_damaged: false,
        from_store,
    };
    let asked = async |wish| restore(&bench.hub, &bench.who, &Scope::All, &id, &wish).await.unwrap().job;
    let (waiting, running) = (asked(wish(None)).await, asked(wish(None)).await);
    bench.claim(&first, Some(running.id.clone())).await.unwrap();
    assert_eq!(reroute(&bench.hub, 10).await.unwrap(), 0, "its worker is there");
    let mut conn = bench.hub.db().conn().await.unwrap();
    workers::mark_offline(
        &mut conn,
        bench.hub.clock().now() + Duration::from_secs(1),
        bench.hub.clock().now(),
    )
    .await
    .unwrap();
    drop(conn);
    assert_eq!(reroute(&bench.hub, 10).await.unwrap(), 1);
    assert_eq!(reroute(&bench.hub, 10).await.unwrap(), 0);
    assert_eq!(
        job(&bench, &running.id).await.target_worker_id.as_ref(),
        Some(&first),
        "nobody takes it away"
    );
    let moved = job(&bench, &waiting.id).await;
    assert_eq!((&moved.target_worker_id, moved.store_id.as_ref()), (&None, Some(&store)));
    assert_eq!((moved.capability.as_deref(), moved.status()), (Some("s3"), JobStatus::Queued));
    let other = worker(&bench, "other").await;
    let assigned = bench.claim(&other, Some(waiting.id)).await.unwrap();
    let Task::Restore(task) = &assigned.task else { panic!("{assigned:?}") };
    assert!(matches!(task.store, StoreAccess::S3 { .. }), "{:?}", task.store);
    // The other one follows once its lease has run out.
    bench.hub.clock().advance(bench.hub.settings().lease + Duration::from_secs(1));
    expire_due(&bench.hub, 10).await.unwrap();
    assert_eq!(reroute(&bench.hub, 10).await.unwrap(), 1);
    assert_eq!(job(&bench, &running.id).await.target_worker_id, None);
}

on_both_engines!(
    restores_of_a_worker_that_is_gone_are_done_from_the_copy,
    a_snapshot_gets_one_copy_from_the_worker_that_has_it,
    what_could_not_be_copied_is_tried_anew_hours_later,
    what_has_its_copy_or_can_have_none_is_left_alone,
    a_deletion_takes_the_copies_and_shows_those_that_stay,
    a_refusal_that_no_test_explains_keeps_no_copy_for_good,
    a_test_that_was_overtaken_says_nothing_of_what_the_store_lets_do,
    a_copy_that_nobody_told_of_goes_with_its_snapshot,
    a_sweep_is_told_only_of_what_it_may_and_must_remove,
    no_copy_goes_where_the_snapshot_lies_by_another_name,
    a_copying_that_waits_holds_no_deletion_up,
    while_a_workers_disk_is_away_its_snapshots_are_read_from_their_copies,
);
