//! `/api/v1/workers`, as operators use it.

use std::time::Duration;

use serde_json::{Value, json};
use xvault_core::protocol::QueueName;

use crate::fake_worker::{FakeWorker, enqueue, local_source, ssh_source};
use crate::world::{World, text};

async fn a_worker_is_made_with_a_token_that_is_shown_once(world: World) {
    let body = json!({ "id": "worker-1", "name": "the first" });
    let made = world.operator.post("/api/v1/workers", body.clone()).await.expect(201);
    let token = text(&made["token"]);
    assert!(token.starts_with("xvw_") && token.len() == 47, "{token}");
    let worker = &made["worker"];
    assert_eq!(
        (&worker["id"], &worker["name"], &worker["status"], &worker["drain"], &worker["recipient"]),
        (&json!("worker-1"), &json!("the first"), &json!("offline"), &json!(false), &Value::Null)
    );
    let seen = world.operator.get("/api/v1/workers/worker-1").await.expect(200);
    assert_eq!(&seen, worker);
    let list = world.operator.get("/api/v1/workers").await.expect(200);
    assert_eq!(list, json!({ "workers": [seen], "next_cursor": null }));
    let dump = world.database.dump();
    assert!(
        !dump.windows(token.len()).any(|window| window == token.as_bytes()),
        "the token lies in the database"
    );
    world.operator.post("/api/v1/workers", body).await.refused(409, "duplicate");
    for bad in [json!({ "id": "a/b" }), json!({ "id": "" }), json!({}), json!({ "id": "x".repeat(65) })] {
        let error = world.operator.post("/api/v1/workers", bad).await.refused(422, "invalid_field");
        assert_eq!(error["details"]["field"], "id");
    }
}

async fn a_worker_keeps_the_name_it_was_given(world: World) {
    let body = json!({ "id": "w1", "name": "basement" });
    let made = world.operator.post("/api/v1/workers", body).await.expect(201);
    let caller = world.nobody().with_token(&text(&made["token"]));
    let named = async || text(&world.operator.get("/api/v1/workers/w1").await.expect(200)["name"]);
    // As `xvault-worker` does: it knows no name.
    caller.post("/internal/workers/register", registration("w1", &Value::Null)).await.expect(200);
    assert_eq!(named().await, "basement");
    caller.post("/internal/workers/register", registration("w1", &json!("attic"))).await.expect(200);
    assert_eq!(named().await, "attic");
    let unnamed = FakeWorker::join(&world, "w2", &["ssh"]).await;
    let seen = world.operator.get("/api/v1/workers/w2").await.expect(200);
    assert_eq!(seen["name"], json!(unnamed.id));
}

fn registration(id: &str, name: &Value) -> Value {
    json!({
        "worker_id": id,
        "name": name,
        "recipient": xvault_core::Identity::generate().recipient(),
        "version": "0.1.0",
        "capabilities": ["ssh"],
        "storage_base_path": "/var/lib/xvault/backups",
        "concurrency": 2,
    })
}

async fn a_new_token_voids_the_old(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let claim = json!({});
    worker.caller.post("/internal/jobs/claim", claim.clone()).await.expect(200);
    let made = world.operator.post("/api/v1/workers/w1/token", json!({})).await.expect(200);
    worker.caller.post("/internal/jobs/claim", claim.clone()).await.refused(401, "unauthorized");
    let caller = world.nobody().with_token(&text(&made["token"]));
    caller.post("/internal/jobs/claim", claim.clone()).await.expect(200);
    // Registered as before: the token is all that has changed.
    assert_eq!(made["worker"]["recipient"], json!(worker.identity.recipient()));
    // A worker's token is good for nothing else.
    caller.get("/api/v1/workers").await.refused(401, "unauthorized");
    world.operator.post("/internal/jobs/claim", claim).await.refused(401, "unauthorized");
}

async fn a_drained_worker_takes_nothing_until_undrained(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let job = enqueue(&acme.member, &source).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let drained = world.operator.post("/api/v1/workers/w1/drain", json!({})).await.expect(200);
    assert_eq!(drained["drain"], true);
    let answer = worker.caller.post("/internal/jobs/claim", json!({ "job_id": job })).await.expect(200);
    assert_eq!(answer["outcome"], "nothing", "{answer}");
    let back = world.operator.post("/api/v1/workers/w1/undrain", json!({})).await.expect(200);
    assert_eq!(back["drain"], false);
    worker.claim(&job).await;
}

/// What a claim gave.
async fn claimed(worker: &FakeWorker, job_id: Option<&str>) -> Value {
    worker.caller.post("/internal/jobs/claim", json!({ "job_id": job_id })).await.expect(200)
}

/// A backup that only a drained worker can do waits; what it must do for the snapshots that lie on it, it does.
async fn a_drained_worker_begins_no_backup_of_its_own_disk(world: World) {
    let acme = world.tenant("acme").await;
    let worker = FakeWorker::join(&world, "w1", &["local", "ssh"]).await;
    let (_, remote) = ssh_source(&acme.admin).await;
    let snapshot = worker.back_up(&enqueue(&acme.member, &remote).await).await;
    let source = local_source(&world, &acme).await;
    let job = enqueue(&acme.member, &source).await;
    let mut own = world.queue.receiver(&QueueName::Worker("w1".parse().unwrap())).unwrap();
    let wait = Duration::from_secs(10);
    tokio::time::timeout(wait, own.recv()).await.unwrap().unwrap();
    world.operator.post("/api/v1/workers/w1/drain", json!({})).await.expect(200);
    for job_id in [Some(job.as_str()), None] {
        let answer = claimed(&worker, job_id).await;
        assert_eq!(answer["outcome"], "nothing", "{answer}");
    }
    // Its message is not sent back to it in a circle.
    assert!(tokio::time::timeout(Duration::from_millis(300), own.recv()).await.is_err());
    let deletion = world.operator.delete(&format!("/api/v1/snapshots/{snapshot}")).await.expect(202);
    let answer = claimed(&worker, None).await;
    assert_eq!((&answer["outcome"], &answer["job_id"]), (&json!("claimed"), &deletion["id"]), "{answer}");
    world.operator.post("/api/v1/workers/w1/undrain", json!({})).await.expect(200);
    worker.claim(&job).await;
}

async fn a_worker_is_deleted_when_nothing_depends_on_it(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let keeper = FakeWorker::join(&world, "keeper", &["ssh"]).await;
    let other = FakeWorker::join(&world, "other", &["ssh"]).await;
    keeper.back_up(&enqueue(&acme.member, &source).await).await;
    world.operator.delete("/api/v1/workers/keeper").await.refused(409, "in_use");
    keeper.caller.post("/internal/jobs/claim", json!({})).await.expect(200);

    let job = other.claim(&enqueue(&acme.member, &source).await).await;
    let error = world.operator.delete("/api/v1/workers/other").await.refused(409, "in_use");
    assert_eq!(error["details"]["job_id"], json!(job.job_id));
    other.fail(&job, "x", "y").await;
    world.operator.delete("/api/v1/workers/other").await.expect(204);
    other.caller.post("/internal/jobs/claim", json!({})).await.refused(401, "unauthorized");
    let gone = "/api/v1/workers/other";
    world.operator.get(gone).await.refused(404, "not_found");
    world.operator.delete(gone).await.refused(404, "not_found");
    for what in ["token", "drain", "undrain"] {
        world.operator.post(&format!("{gone}/{what}"), json!({})).await.refused(404, "not_found");
    }
    let list = world.operator.get("/api/v1/workers").await.expect(200);
    assert_eq!(list["workers"].as_array().unwrap().len(), 1);
    // The id may be used again.
    world.operator.post("/api/v1/workers", json!({ "id": "other" })).await.expect(201);
}

async fn workers_of_any_name_are_on_the_first_page(world: World) {
    let names = ["z".repeat(64), "Z".repeat(64), "_".to_owned(), "0".to_owned()];
    for name in &names {
        world.operator.post("/api/v1/workers", json!({ "id": name })).await.expect(201);
    }
    let list = world.operator.get("/api/v1/workers").await.expect(200);
    let mut seen: Vec<_> = list["workers"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
    seen.sort();
    let mut names = names.to_vec();
    names.sort();
    assert_eq!(seen, names);
}

on_both_engines!(
    a_worker_is_made_with_a_token_that_is_shown_once,
    a_worker_keeps_the_name_it_was_given,
    a_new_token_voids_the_old,
    a_drained_worker_takes_nothing_until_undrained,
    a_drained_worker_begins_no_backup_of_its_own_disk,
    a_worker_is_deleted_when_nothing_depends_on_it,
    workers_of_any_name_are_on_the_first_page,
);
