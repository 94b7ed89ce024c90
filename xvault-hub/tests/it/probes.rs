//! Tests of sources: one of a source and a few of a tenant at a time, and never before everybody's backups.

use futures::future::join_all;
use serde_json::{Value, json};
use xvault_core::protocol::Assignment;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Caller, Dialect, World, text};

fn test_path(source: &str, wait_seconds: u32) -> String {
    format!("/api/v1/sources/{source}/test?wait_seconds={wait_seconds}")
}

/// Asks for a test without waiting for it. Gives the job's id.
async fn begin(caller: &Caller, source: &str) -> String {
    text(&caller.post(&test_path(source, 0), json!({})).await.expect(200)["job_id"])
}

async fn see(worker: &FakeWorker, job: &Assignment, server: &str) {
    let probe =
        json!({ "server": server, "host_key": "SHA256:abc", "logged_in": true, "paths": [], "notes": [] });
    worker.complete(job, json!({ "type": "probe", "probe": probe })).await;
}

async fn jobs(caller: &Caller, query: &str) -> Vec<Value> {
    let list = caller.get(&format!("/api/v1/jobs?type=probe&{query}")).await.expect(200);
    list["jobs"].as_array().unwrap().clone()
}

async fn whoever_asks_gets_the_result_of_the_one_under_way(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let answers = join_all((0..20).map(|_| begin(&acme.member, &source))).await;
    assert!(answers.iter().all(|job| *job == answers[0]), "{answers:?}");
    let again = json!({ "source_id": source, "type": "probe" });
    let busy = acme.member.post("/api/v1/jobs", again.clone()).await.refused(409, "source_busy");
    assert_eq!(busy["details"]["job_id"], json!(answers[0]));
    let job = worker.claim(&answers[0]).await;
    assert_eq!(begin(&acme.admin, &source).await, answers[0]);
    let path = test_path(&source, 20);
    let (one, other, ()) =
        tokio::join!(acme.member.post(&path, json!({})), acme.admin.post(&path, json!({})), async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            see(&worker, &job, "SSH-2.0-seen").await;
        });
    for answer in [one.expect(200), other.expect(200)] {
        assert_eq!(answer["job_id"], json!(answers[0]));
        assert_eq!(answer["probe"]["server"], "SSH-2.0-seen", "{answer}");
    }
    assert_eq!(jobs(&acme.member, "status=completed").await.len(), 1);
    let next = begin(&acme.member, &source).await;
    assert_ne!(next, answers[0]);
    // A failed one may be tried again, unless there is another by then.
    let job = worker.claim(&next).await;
    worker.fail(&job, "unreachable", "no answer").await;
    let another = begin(&acme.member, &source).await;
    let retry = format!("/api/v1/jobs/{next}/retry");
    let busy = acme.member.post(&retry, json!({})).await.refused(409, "source_busy");
    assert_eq!(busy["details"]["job_id"], json!(another));
}

async fn a_test_of_settings_that_were_changed_meanwhile_is_no_answer(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    for round in 0..2 {
        let old = worker.claim(&begin(&acme.member, &source).await).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        if round == 0 {
            let config = json!({ "host": "other.example", "username": "web", "paths": ["/home/web"] });
            acme.admin
                .put(&format!("/api/v1/sources/{source}"), json!({ "config": config }))
                .await
                .expect(200);
        } else {
            let secret = json!({ "plaintext": "b3RoZXItcGFzcw==" });
            acme.admin.post(&format!("/api/v1/credentials/{credential}/rotate"), secret).await.expect(200);
        }
        let path = test_path(&source, 20);
        let (answer, ()) = tokio::join!(acme.member.post(&path, json!({})), async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            see(&worker, &old, "SSH-2.0-old").await;
            let new = loop {
                if let Some(job) = jobs(&acme.member, "status=queued").await.first() {
                    break text(&job["id"]);
                }
            };
            let new = worker.claim(&new).await;
            see(&worker, &new, "SSH-2.0-new").await;
        });
        let answer = answer.expect(200);
        assert_eq!(answer["probe"]["server"], "SSH-2.0-new", "{answer}");
    }
}

async fn a_tenant_has_a_few_at_a_time(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let mut sources = Vec::new();
    for _ in 0..10 {
        sources.push(ssh_source(&acme.admin).await.1);
    }
    let answers =
        join_all(sources.iter().map(async |source| acme.member.post(&test_path(source, 0), json!({})).await))
            .await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((made.len(), refused.len()), (4, 6));
    for answer in refused {
        assert!(answer.headers.contains_key("retry-after"));
        answer.refused(429, "rate_limited");
    }
    let unfinished = jobs(&acme.member, "status=queued").await;
    assert_eq!(unfinished.len(), 4);
    let free: Vec<_> = sources
        .iter()
        .filter(|source| unfinished.iter().all(|job| job["source_id"] != json!(source)))
        .collect();
    let by_job = json!({ "source_id": free[0], "type": "probe" });
    acme.member.post("/api/v1/jobs", by_job).await.refused(429, "rate_limited");
    // Nobody else is held up, and backups aren't at all.
    begin(&umbrella.member, &ssh_source(&umbrella.admin).await.1).await;
    enqueue(&acme.member, free[0]).await;

    let job = worker.claim(&text(&unfinished[0]["id"])).await;
    worker.fail(&job, "unreachable", "no answer").await;
    begin(&acme.member, free[0]).await;
    let retry = format!("/api/v1/jobs/{}/retry", job.job_id);
    acme.member.post(&retry, json!({})).await.refused(429, "rate_limited");
    let failed = acme.member.get(&format!("/api/v1/jobs/{}", job.job_id)).await.expect(200);
    assert_eq!(failed["status"], "failed");
}

async fn backups_take_their_turn(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let backup = enqueue(&acme.member, &ssh_source(&acme.admin).await.1).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    begin(&umbrella.member, &ssh_source(&umbrella.admin).await.1).await;
    let first = worker.caller.post("/internal/jobs/claim", json!({})).await.expect(200);
    assert_eq!(first["job_id"], json!(backup), "{first}");
}

/// A database from before has several: the newest of each source goes on.
async fn old_tests_make_room(engine: Dialect) {
    let world = World::start(engine).await;
    let acme = world.tenant("acme").await;
    let (_, first) = ssh_source(&acme.admin).await;
    let (_, second) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let sql = world.database.sql().await;
    for text in [
        "DROP INDEX jobs_one_probe_per_source",
        "DROP INDEX jobs_unfinished_probes",
        "DELETE FROM xvault_migrations WHERE version = 5",
    ] {
        sqlx::query(text).execute(&sql).await.unwrap();
    }
    let body = json!({ "source_id": first, "type": "probe" });
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(text(&acme.member.post("/api/v1/jobs", body.clone()).await.expect(201)["id"]));
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let running = worker.claim(&made[1]).await;
    let other = begin(&acme.member, &second).await;
    world.db.migrate().await.unwrap();
    let statuses =
        join_all(made.iter().chain([&other]).map(async |id| {
            text(&acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200)["status"])
        }))
        .await;
    assert_eq!(statuses, ["canceled", "canceled", "queued", "queued"]);
    worker.say(&running, "renew", json!({})).await.refused(409, "job_finished");
    worker.claim(&made[2]).await;
}

on_both_engines!(
    whoever_asks_gets_the_result_of_the_one_under_way,
    a_test_of_settings_that_were_changed_meanwhile_is_no_answer,
    a_tenant_has_a_few_at_a_time,
    backups_take_their_turn,
);

on_both_engines!(std::future::ready => old_tests_make_room);
