//! Verifications that the hub makes by itself.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use xvault_core::protocol::{Finding, TaskResult, VerifyDepth};
use xvault_core::{Identity, JobKind, SnapshotId, WorkerId};

use super::{run_due, tell};
use crate::Hub;
use crate::app::bench::{Bench, on_both_engines};
use crate::app::tenant_settings;
use crate::db::jobs::{Filter, JobRow};
use crate::db::snapshots::{self, Due};
use crate::db::tenant_keys::{self, TenantKey};
use crate::db::{Page, Scope, jobs};
use crate::logged::Logged;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn want(bench: &Bench, settings: serde_json::Value) {
    let settings = settings.as_object().unwrap();
    tenant_settings::set(&bench.hub, &bench.who, &bench.tenant, settings).await.unwrap();
}

/// Verifications, oldest first.
async fn made(hub: &Hub) -> Vec<JobRow> {
    let page = Page { limit: 200, before: None };
    let filter = Filter { kind: Some(JobKind::Verify), ..Filter::default() };
    let mut rows =
        jobs::list(&mut hub.db().conn().await.unwrap(), &Scope::All, &filter, &page).await.unwrap();
    rows.reverse();
    rows
}

/// A snapshot, made now. Gives its id.
async fn snapshot(bench: &Bench, worker: &WorkerId) -> SnapshotId {
    let id = bench.backup().await;
    bench.back_up(worker, &id, 0).await;
    jobs::get(&mut bench.hub.db().conn().await.unwrap(), &Scope::All, &id).await.unwrap().snapshot_id.unwrap()
}

/// The sample manifest says that a snapshot was read back in 2026; on the bench it is 2030. So that a snapshot is as old as it is:
async fn forget_read_back(bench: &Bench) {
    sqlx::query("UPDATE snapshots SET verified_at = created_at, fully_verified_at = NULL")
        .execute(&mut *bench.hub.db().conn().await.unwrap())
        .await
        .unwrap();
}

/// What waits for this worker is done.
async fn do_all(bench: &Bench, worker: &WorkerId) {
    let waits = |row: &&JobRow| !row.status().is_finished() && row.target_worker_id.as_ref() == Some(worker);
    for row in made(&bench.hub).await.iter().filter(waits) {
        let job = bench.claim(worker, Some(row.id.clone())).await.unwrap();
        let depth = super::depth(row).unwrap();
        let finding = Finding::Ok { entries: 0, bytes: 1, databases: None };
        bench.complete_with(worker, &job, TaskResult::Verify { depth, finding }).await;
    }
}

async fn the_one_that_was_looked_at_longest_ago_comes_first_and_few_at_a_time(bench: Bench) {
    let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(snapshot(&bench, &worker).await);
        clock.advance(Duration::from_secs(3600));
    }
    forget_read_back(&bench).await;
    clock.advance(40 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 0, "nobody has asked for it");
    want(&bench, json!({ "verify_interval_days": 30 })).await;
    let other = bench.another_hub().await;
    let (one, two) = tokio::join!(run_due(&bench.hub), run_due(&other));
    assert_eq!(one.unwrap() + two.unwrap(), 2, "a worker has two at a time, however many hubs there are");
    let ids_of =
        |rows: &[JobRow]| rows.iter().map(|row| row.snapshot_id.clone().unwrap()).collect::<Vec<_>>();
    let mut first = ids_of(&made(&bench.hub).await);
    first.sort_by_key(|id| ids.iter().position(|other| other == id));
    assert_eq!(first, ids[..2]);
    assert!(made(&bench.hub).await.iter().all(|row| row.priority < 0 && row.created_by.is_none()));
    assert_eq!(run_due(&bench.hub).await.unwrap(), 0, "both are under way");
    do_all(&bench, &worker).await;
    assert_eq!(run_due(&bench.hub).await.unwrap(), 2);
    do_all(&bench, &worker).await;
    assert_eq!(run_due(&bench.hub).await.unwrap(), 0, "all are verified");
    clock.advance(30 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 2);
}

/// Bytes of each of the bench's snapshots, which all have the same size.
async fn size(bench: &Bench) -> u64 {
    use sqlx::Row as _;
    let row = sqlx::query("SELECT DISTINCT size_bytes FROM snapshots");
    let row = row.fetch_one(&mut *bench.hub.db().conn().await.unwrap()).await.unwrap();
    u64::try_from(row.get::<i64, _>("size_bytes")).unwrap()
}

async fn no_more_is_read_of_a_place_within_a_day_than_is_allowed(bench: Bench) {
    let (worker, other) = (bench.worker("w").await, bench.worker("w2").await);
    let clock = bench.hub.clock().clone();
    let mut ids = Vec::new();
    for worker in [&worker, &worker, &worker, &worker, &other] {
        ids.push(snapshot(&bench, worker).await);
        clock.advance(Duration::from_secs(60));
    }
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 1 })).await;
    clock.advance(30 * DAY);
    // The second goes beyond, and is the last.
    let mut settings = bench.hub.settings().clone();
    settings.verify_bytes_per_day = size(&bench).await + 1;
    let hub = bench.hub_with(settings.clone()).await;
    assert_eq!(run_due(&hub).await.unwrap(), 3, "two of one disk, and what lies on the other");
    let mut asked: Vec<_> = made(&hub).await.into_iter().map(|row| row.snapshot_id.unwrap()).collect();
    asked.sort_by_key(|id| ids.iter().position(|other| other == id));
    assert_eq!(asked, [ids[0].clone(), ids[1].clone(), ids[4].clone()]);
    do_all(&bench, &worker).await;
    do_all(&bench, &other).await;
    clock.advance(DAY - Duration::from_secs(60));
    assert_eq!(run_due(&hub).await.unwrap(), 0, "the day is not over");
    // In a bucket they are of another place, which has been left alone so far.
    let sql = [
        "INSERT INTO stores (id, name, kind, config, created_at, updated_at) VALUES ('s1', 'b', 's3', '{}', 0, 0)",
        "UPDATE snapshots SET store_id = 's1' WHERE check_asked_at IS NULL",
    ];
    for sql in sql {
        sqlx::query(sql).execute(&mut *bench.hub.db().conn().await.unwrap()).await.unwrap();
    }
    settings.verify_bytes_per_day = 1;
    let strict = bench.hub_with(settings.clone()).await;
    assert_eq!(run_due(&strict).await.unwrap(), 1, "one of two in the bucket");
    settings.verify_bytes_per_day = 0;
    let free = bench.hub_with(settings).await;
    assert_eq!(run_due(&free).await.unwrap(), 1, "the other one");
    clock.advance(Duration::from_secs(120));
    // The first worker has two to do still.
    assert_eq!(run_due(&strict).await.unwrap(), 1, "another day for the other disk");
}

async fn a_disk_that_is_behind_hides_no_other(bench: Bench) {
    let (behind, other) = (bench.worker("w").await, bench.worker("w2").await);
    for _ in 0..70 {
        snapshot(&bench, &behind).await;
    }
    bench.hub.clock().advance(Duration::from_secs(60));
    let newest = snapshot(&bench, &other).await;
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 1 })).await;
    bench.hub.clock().advance(2 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 3);
    assert!(made(&bench.hub).await.iter().any(|row| row.snapshot_id.as_ref() == Some(&newest)));
}

/// Not as many as there are: what waits for a place that is full or away must not be all that is looked at.
async fn some_of_each_place_are_picked(bench: Bench) {
    let (full, other) = (bench.worker("w").await, bench.worker("w2").await);
    let mut picked = Vec::new();
    for _ in 0..9 {
        picked.push(snapshot(&bench, &full).await);
        bench.hub.clock().advance(Duration::from_secs(60));
    }
    picked[8] = snapshot(&bench, &other).await;
    forget_read_back(&bench).await;
    bench.hub.clock().advance(DAY);
    let now = bench.hub.clock().now();
    let due = Due { since: now, asked_before: now, inside: false };
    let mut conn = bench.hub.db().conn().await.unwrap();
    let found = snapshots::due(&mut conn, &bench.tenant, due, 9).await.unwrap();
    assert_eq!(found.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), picked);
}

async fn one_that_fails_is_tried_again_the_next_day(bench: Bench) {
    let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
    snapshot(&bench, &worker).await;
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 1 })).await;
    clock.advance(DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
    let id = made(&bench.hub).await.remove(0).id;
    crate::app::jobs::cancel(&bench.hub, &bench.who, &Scope::All, &id).await.unwrap();
    assert_eq!(run_due(&bench.hub).await.unwrap(), 0);
    clock.advance(DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
}

async fn nothing_of_a_disabled_source_or_tenant_is_verified(bench: Bench) {
    let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
    snapshot(&bench, &worker).await;
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 1 })).await;
    clock.advance(2 * DAY);
    let set = async |text: &'static str| {
        sqlx::query(text).execute(&mut *bench.hub.db().conn().await.unwrap()).await.unwrap();
    };
    for (off, on) in [
        ("UPDATE sources SET status = 'disabled'", "UPDATE sources SET status = 'active'"),
        ("UPDATE tenants SET status = 'disabled'", "UPDATE tenants SET status = 'active'"),
        ("UPDATE snapshots SET status = 'deleting'", "UPDATE snapshots SET status = 'completed'"),
    ] {
        set(off).await;
        assert_eq!(run_due(&bench.hub).await.unwrap(), 0, "{off}");
        set(on).await;
    }
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
}

async fn a_look_inside_is_due_although_hashes_were_compared(bench: Bench) {
    let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
    snapshot(&bench, &worker).await;
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 7 })).await;
    clock.advance(8 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
    do_all(&bench, &worker).await;
    want(&bench, json!({ "verify_depth": "deep" })).await;
    clock.advance(DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
    assert_eq!(super::depth(&made(&bench.hub).await[1]), Some(VerifyDepth::Deep));
    do_all(&bench, &worker).await;
    assert_eq!(run_due(&bench.hub).await.unwrap(), 0);
    // Where only the tenant can look inside, the hashes are compared.
    let taken = "UPDATE tenant_keys SET encrypted_private_key = NULL, kek_id = NULL";
    sqlx::query(taken).execute(&mut *bench.hub.db().conn().await.unwrap()).await.unwrap();
    clock.advance(8 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
    assert_eq!(super::depth(&made(&bench.hub).await[2]), Some(VerifyDepth::Quick));
}

/// As after the tenant has brought a key of its own: the platform's identity stays for what was encrypted to it.
async fn bring_a_key(bench: &Bench) {
    let mut conn = bench.hub.db().conn().await.unwrap();
    tenant_keys::rotate(&mut conn, &bench.tenant, bench.hub.clock().now()).await.unwrap();
    for purpose in ["data", "index"] {
        let key = TenantKey {
            id: xvault_core::clock::new_id(),
            tenant_id: bench.tenant.clone(),
            public_key: Identity::generate().recipient(),
            encrypted_private_key: None,
            kek_id: None,
            purpose: purpose.to_owned(),
        };
        tenant_keys::insert(&mut conn, &key, bench.hub.clock().now()).await.unwrap();
    }
}

async fn how_far_a_look_goes_depends_on_the_key_of_that_snapshot(bench: Bench) {
    let (worker, clock) = (bench.worker("w").await, bench.hub.clock().clone());
    let old = snapshot(&bench, &worker).await;
    bring_a_key(&bench).await;
    clock.advance(Duration::from_secs(3600));
    let new = snapshot(&bench, &worker).await;
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 7, "verify_depth": "deep" })).await;
    clock.advance(8 * DAY);
    let wish = super::Wish { snapshot_id: new.clone(), depth: VerifyDepth::Deep, from_store: None };
    let refused = super::verify(&bench.hub, &bench.who, &Scope::All, &wish).await.unwrap_err();
    assert!(refused.is("no_identity"), "{refused:?}");
    assert_eq!(run_due(&bench.hub).await.unwrap(), 2);
    let depths: HashMap<_, _> = made(&bench.hub)
        .await
        .iter()
        .map(|row| (row.snapshot_id.clone().unwrap(), super::depth(row).unwrap()))
        .collect();
    assert_eq!(depths, HashMap::from([(old, VerifyDepth::Deep), (new, VerifyDepth::Quick)]));
    do_all(&bench, &worker).await;
    clock.advance(2 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 0, "both were looked at, as far as they can be");
}

async fn set_offline(bench: &Bench, worker: &str) {
    sqlx::query("UPDATE workers SET status = 'offline' WHERE id = $1")
        .bind(worker)
        .execute(&mut *bench.hub.db().conn().await.unwrap())
        .await
        .unwrap();
}

async fn what_waits_for_dead_workers_keeps_nobody_else_waiting(bench: Bench) {
    let names = ["w1", "w2", "w3", "w4"];
    for name in names {
        let worker = bench.worker(name).await;
        for _ in 0..3 {
            snapshot(&bench, &worker).await;
        }
    }
    let alive = bench.worker("alive").await;
    bench.hub.clock().advance(Duration::from_secs(60));
    let newest = snapshot(&bench, &alive).await;
    forget_read_back(&bench).await;
    want(&bench, json!({ "verify_interval_days": 1 })).await;
    bench.hub.clock().advance(2 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 8, "two of each, and that is enough for a tenant");
    set_offline(&bench, "w1").await;
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1);
    assert_eq!(made(&bench.hub).await.last().unwrap().snapshot_id.as_ref(), Some(&newest));
    for name in names {
        set_offline(&bench, name).await;
    }
    cancel_all(&bench).await;
    bench.hub.clock().advance(2 * DAY);
    assert_eq!(run_due(&bench.hub).await.unwrap(), 1, "nothing is made for workers that are away");
}

async fn cancel_all(bench: &Bench) {
    for row in made(&bench.hub).await {
        crate::app::jobs::cancel(&bench.hub, &bench.who, &Scope::All, &row.id).await.unwrap();
    }
}

async fn damage_stands_in_the_log_as_an_error(bench: Bench) {
    let worker = bench.worker("worker-1").await;
    let id = snapshot(&bench, &worker).await;
    let wish = super::Wish { snapshot_id: id.clone(), depth: VerifyDepth::Quick, from_store: None };
    let job = super::verify(&bench.hub, &bench.who, &Scope::All, &wish).await.unwrap();
    let finding = Finding::Damaged { damage: "index.zst.enc: it is missing".to_owned() };
    let logged = Logged::default();
    let guard = logged.listen();
    tell(&bench.hub, &job, &TaskResult::Verify { depth: VerifyDepth::Quick, finding }).await;
    drop(guard);
    let text = logged.text();
    for part in ["ERROR", "a snapshot is damaged", id.as_str(), "index.zst.enc: it is missing"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

on_both_engines!(
    the_one_that_was_looked_at_longest_ago_comes_first_and_few_at_a_time,
    no_more_is_read_of_a_place_within_a_day_than_is_allowed,
    a_disk_that_is_behind_hides_no_other,
    some_of_each_place_are_picked,
    one_that_fails_is_tried_again_the_next_day,
    nothing_of_a_disabled_source_or_tenant_is_verified,
    a_look_inside_is_due_although_hashes_were_compared,
    how_far_a_look_goes_depends_on_the_key_of_that_snapshot,
    what_waits_for_dead_workers_keeps_nobody_else_waiting,
    damage_stands_in_the_log_as_an_error,
);
