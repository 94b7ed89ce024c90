//! Verifications that the hub makes by itself.

use std::time::Duration;

use serde_json::json;
use xvault_core::protocol::{Finding, TaskResult, VerifyDepth};
use xvault_core::{JobKind, SnapshotId, WorkerId};

use super::{run_due, tell};
use crate::Hub;
use crate::app::bench::{Bench, on_both_engines};
use crate::app::tenant_settings;
use crate::db::jobs::{Filter, JobRow};
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

async fn do_all(bench: &Bench, worker: &WorkerId) {
    for row in made(&bench.hub).await.iter().filter(|row| !row.status().is_finished()) {
        let job = bench.claim(worker, Some(row.id.clone())).await.unwrap();
        let depth = super::depth(row).unwrap();
        let finding = Finding::Ok { entries: 0, bytes: 1 };
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
    let snapshots =
        |rows: &[JobRow]| rows.iter().map(|row| row.snapshot_id.clone().unwrap()).collect::<Vec<_>>();
    let mut first = snapshots(&made(&bench.hub).await);
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

async fn damage_stands_in_the_log_as_an_error(bench: Bench) {
    let worker = bench.worker("worker-1").await;
    let id = snapshot(&bench, &worker).await;
    let wish = super::Wish { snapshot_id: id.clone(), depth: VerifyDepth::Quick };
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
    one_that_fails_is_tried_again_the_next_day,
    nothing_of_a_disabled_source_or_tenant_is_verified,
    a_look_inside_is_due_although_hashes_were_compared,
    damage_stands_in_the_log_as_an_error,
);
