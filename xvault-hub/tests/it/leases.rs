//! Leases over HTTP: who may say what about a job, and what becomes of it when nobody does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xvault_core::LeaseToken;
use xvault_core::protocol::{Assignment, ClaimAnswer, Task};
use xvault_core::secret::ExposeSecret as _;

use crate::deadlocks::somebody_waits;
use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Answer, Caller, Dialect, World, WorldBuilder, text};

/// A hub whose clock stands still, with a tenant, a queued backup and two workers.
struct Scene {
    world: World,
    member: Caller,
    source: String,
    job: String,
    a: FakeWorker,
    b: FakeWorker,
}

impl Scene {
    async fn set(builder: WorldBuilder) -> Self {
        let world =
            builder.manual_clock().settings(|s| s.access_token = Duration::from_secs(1 << 30)).start().await;
        let acme = world.tenant("acme").await;
        let (_, source) = ssh_source(&acme.admin).await;
        let job = enqueue(&acme.member, &source).await;
        let (a, b) =
            (FakeWorker::join(&world, "a", &["ssh"]).await, FakeWorker::join(&world, "b", &["ssh"]).await);
        Self { member: acme.member, world, source, job, a, b }
    }

    async fn job(&self) -> Value {
        self.member.get(&format!("/api/v1/jobs/{}", self.job)).await.expect(200)
    }

    async fn cancel(&self) -> Value {
        self.member.post(&format!("/api/v1/jobs/{}/cancel", self.job), json!({})).await.expect(200)
    }

    async fn seconds(&self, seconds: u64) {
        self.world.clock.advance(Duration::from_secs(seconds));
    }

    /// Lets the hub's loops run until the job has this status.
    async fn until(&self, status: &str) -> Value {
        let reached = async || {
            let job = self.job().await;
            (job["status"] == status).then_some(job)
        };
        self.world.while_the_hub_runs(reached).await
    }

    async fn wait_for(&self, status: &str) -> Value {
        for _ in 0..400 {
            let job = self.job().await;
            if job["status"] == status {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the job never became {status}: {}", self.job().await);
    }
}

/// Every call about a job.
async fn all_calls(worker: &FakeWorker, job: &Assignment) -> Vec<Answer> {
    let progress = json!({ "phase": "backup", "bytes": 1, "total_bytes": null, "entries": 1, "warnings": 0 });
    vec![
        worker.say(job, "renew", json!({})).await,
        worker.say(job, "progress", json!({ "progress": progress })).await,
        worker.say(job, "logs", json!({ "lines": [] })).await,
        worker.say(job, "complete", json!({ "outcome": { "status": "released", "reason": "x" } })).await,
        worker.say(job, "complete", json!({ "outcome": completed(worker, job) })).await,
        worker.say(job, "complete", json!({ "outcome": failed("x", "permanent") })).await,
    ]
}

/// A backup's result as the hub wants it.
fn completed(worker: &FakeWorker, job: &Assignment) -> Value {
    let manifest = worker.manifest(job);
    let locator = json!({ "storage_backend": "local_fs", "worker_id": worker.id, "local_path": "/v/s" });
    json!({ "status": "completed", "result": { "type": "backup", "manifest": manifest, "locator": locator } })
}

fn failed(code: &str, disposition: &str) -> Value {
    let error = json!({ "code": code, "message": "a sentence" });
    json!({ "status": "failed", "error": error, "disposition": disposition })
}

/// The reason of a claim that gave nothing.
async fn nothing(worker: &FakeWorker, claim: Value) -> String {
    let answer = worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert_eq!(answer["outcome"], "nothing", "{answer}");
    text(&answer["reason"])
}

async fn only_the_holder_is_heard(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let job = scene.a.claim(&scene.job).await;
    // The right token from the wrong worker, and the wrong token from the right one.
    let forged = Assignment { lease_token: LeaseToken::generate(), ..job.clone() };
    for answer in all_calls(&scene.b, &job).await.into_iter().chain(all_calls(&scene.a, &forged).await) {
        answer.refused(409, "lease_lost");
    }
    // A second message about the same job.
    assert!(nothing(&scene.b, json!({ "job_id": scene.job })).await.contains("running"));
    assert!(nothing(&scene.a, json!({ "job_id": scene.job })).await.contains("running"));
    assert!(nothing(&scene.a, json!({})).await.contains("no job"));
    assert!(nothing(&scene.a, json!({ "job_id": "no-such-job" })).await.contains("no such job"));
    let path = format!("/internal/jobs/{}/renew", scene.job);
    let body = json!({ "lease_token": job.lease_token });
    scene.member.post(&path, body.clone()).await.refused(401, "unauthorized");
    scene.a.caller.post("/internal/jobs/no-such-job/renew", body).await.refused(404, "not_found");
    // It is still the holder's.
    scene.a.say(&job, "renew", json!({})).await.expect(200);
    scene.a.say(&job, "complete", json!({ "outcome": completed(&scene.a, &job) })).await.expect(200);
    assert_eq!(scene.job().await["status"], "completed");
}

async fn a_report_is_answered_again_when_its_answer_was_lost(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let job = scene.a.claim(&scene.job).await;
    let outcome = json!({ "outcome": completed(&scene.a, &job) });
    for _ in 0..2 {
        let answer = scene.a.say(&job, "complete", outcome.clone()).await.expect(200);
        assert_eq!(answer, json!({ "status": "completed" }));
    }
    scene.a.say(&job, "renew", json!({})).await.refused(409, "job_finished");
    let path = format!("/api/v1/snapshots?source_id={}", scene.source);
    let snapshots = scene.member.get(&path).await.expect(200);
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 1, "{snapshots}");
}

/// As when the worker's line breaks, or the request's time is up, while the database stalls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_is_brought_to_its_end_although_nobody_waits_for_it() {
    let scene = Scene::set(World::builder(Dialect::Postgres)).await;
    let job = scene.a.claim(&scene.job).await;
    let pool = scene.world.database.sql().await;
    let mut lock = pool.begin().await.unwrap();
    let held = sqlx::query("UPDATE jobs SET progress = progress WHERE id = $1").bind(&scene.job);
    held.execute(&mut *lock).await.unwrap();
    let outcome = json!({ "outcome": completed(&scene.a, &job) });
    tokio::select! {
        answer = scene.a.say(&job, "complete", outcome) => panic!("the row is locked: {answer:?}"),
        () = somebody_waits(&pool) => {}
    }
    // Long enough for the hub to see that the line is closed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    lock.rollback().await.unwrap();
    scene.wait_for("completed").await;
}

async fn a_silent_worker_loses_its_job_to_another(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let first = scene.a.claim(&scene.job).await;
    scene.seconds(59).await;
    // Each kind of call keeps the lease alive.
    scene.a.say(&first, "renew", json!({})).await.expect(200);
    scene.seconds(59).await;
    scene.a.progress(&first, "backup", 1).await;
    scene.seconds(59).await;
    scene.a.log(&first, 0..1).await;
    scene.seconds(59).await;
    scene.a.say(&first, "renew", json!({})).await.expect(200);
    scene.seconds(60).await;
    // It has run out, and nobody else has the job yet.
    scene.a.say(&first, "renew", json!({})).await.expect(200);
    scene.seconds(60).await;
    let job = scene.until("queued").await;
    scene.a.say(&first, "renew", json!({})).await.refused(409, "lease_lost");
    assert_eq!(job["error_code"], "lease_expired", "{job}");
    let second = scene.b.claim(&scene.job).await;
    assert_eq!(second.attempt, 2);
    let (Task::Backup(one), Task::Backup(two)) = (&first.task, &second.task) else { panic!("{second:?}") };
    assert_ne!(one.snapshot_id, two.snapshot_id, "each attempt makes a snapshot of its own");
    for answer in all_calls(&scene.a, &first).await {
        answer.refused(409, "lease_lost");
    }
    // What the first attempt stored may go; what the second stores may not; strangers stay.
    let key = |task: &xvault_core::protocol::BackupTask| json!({ "tenant_id": first.tenant_id, "source_id": task.source_id, "snapshot_id": task.snapshot_id });
    let mut foreign = key(one);
    foreign["tenant_id"] = json!("somebody");
    let stored = |key: &Value, job: &str| json!({ "key": key, "job_id": job });
    let asked = json!({ "snapshots": [
        stored(&key(one), &scene.job),
        stored(&key(two), &scene.job),
        stored(&foreign, &scene.job),
        stored(&key(one), "lost"),
    ] });
    let answer = scene.a.caller.post("/internal/workers/reconcile", asked.clone()).await.expect(200);
    assert_eq!(answer, json!({ "superseded": [key(one)], "unknown": [foreign, key(one)] }));
    scene.b.say(&second, "complete", json!({ "outcome": completed(&scene.b, &second) })).await.expect(200);
    let answer = scene.a.caller.post("/internal/workers/reconcile", asked).await.expect(200);
    assert_eq!(answer["superseded"], json!([key(one)]));
}

async fn silence_three_times_fails_the_job(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    for attempt in 1..=3 {
        assert_eq!(scene.a.claim(&scene.job).await.attempt, attempt);
        scene.seconds(61).await;
        scene.until(if attempt < 3 { "queued" } else { "failed" }).await;
    }
    let job = scene.job().await;
    assert_eq!((&job["error_code"], &job["attempt"]), (&json!("lease_expired"), &json!(3)));
    assert!(text(&job["error_message"]).contains("worker a"), "{job}");
    assert!(nothing(&scene.b, json!({ "job_id": scene.job })).await.contains("failed"));
    // A person may want it again, and it has all its attempts.
    scene.member.post(&format!("/api/v1/jobs/{}/retry", scene.job), json!({})).await.expect(200);
    assert_eq!(scene.b.claim(&scene.job).await.attempt, 1);
}

async fn what_time_heals_is_tried_again_after_a_pause(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    for pause in [10, 20] {
        let job = scene.a.claim(&scene.job).await;
        let outcome = json!({ "outcome": failed("connection_lost", "transient") });
        let answer = scene.a.say(&job, "complete", outcome.clone()).await.expect(200);
        assert_eq!(answer["status"], "queued");
        assert_eq!(scene.job().await["error_code"], "connection_lost");
        // Its answer was lost.
        scene.a.say(&job, "complete", outcome).await.expect(200);
        scene.seconds(pause - 1).await;
        assert!(nothing(&scene.a, json!({ "job_id": scene.job })).await.contains("waits until"));
        assert!(nothing(&scene.a, json!({})).await.contains("no job"));
        scene.seconds(1).await;
    }
    let job = scene.a.claim(&scene.job).await;
    let outcome = json!({ "outcome": failed("connection_lost", "transient") });
    let answer = scene.a.say(&job, "complete", outcome).await.expect(200);
    assert_eq!(answer["status"], "failed");
}

async fn what_time_does_not_heal_fails_at_once(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let job = scene.a.claim(&scene.job).await;
    let mut outcome = failed("unknown_host_key", "permanent");
    outcome["error"]["message"] = json!(format!("nul \0, escape \u{1b}[31m, {}", "x".repeat(10_000)));
    let answer = scene.a.say(&job, "complete", json!({ "outcome": outcome })).await.expect(200);
    assert_eq!(answer["status"], "failed");
    let job = scene.job().await;
    let message = text(&job["error_message"]);
    assert!(message.starts_with("nul \u{fffd}, escape \u{fffd}[31m") && message.len() <= 4096, "{message}");
    assert_eq!((&job["error_code"], &job["attempt"]), (&json!("unknown_host_key"), &json!(1)));
}

async fn a_job_can_be_canceled_wherever_it_stands(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    // Queued.
    assert_eq!(scene.cancel().await["status"], "canceled");
    assert!(nothing(&scene.a, json!({ "job_id": scene.job })).await.contains("canceled"));
    // Running, then finalizing.
    for phase in ["backup", "read_back"] {
        scene.member.post(&format!("/api/v1/jobs/{}/retry", scene.job), json!({})).await.expect(200);
        let job = scene.a.claim(&scene.job).await;
        scene.a.progress(&job, phase, 7).await;
        let status = if phase == "backup" { "running" } else { "finalizing" };
        assert_eq!(scene.job().await["status"], status);
        assert_eq!(scene.cancel().await["status"], "canceled");
        for answer in all_calls(&scene.a, &job).await {
            answer.refused(409, "job_finished");
        }
        scene.seconds(61).await;
        assert_eq!(scene.job().await["status"], "canceled");
    }
    // Over.
    let path = format!("/api/v1/jobs/{}/cancel", scene.job);
    scene.member.post(&path, json!({})).await.refused(409, "job_finished");
}

async fn a_job_that_is_handed_back_costs_no_attempt(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    for _ in 0..5 {
        let job = scene.a.claim(&scene.job).await;
        assert_eq!(job.attempt, 1);
        let outcome = json!({ "outcome": { "status": "released", "reason": "the worker is being stopped" } });
        let answer = scene.a.say(&job, "complete", outcome).await.expect(200);
        assert_eq!(answer["status"], "queued");
    }
}

async fn a_source_has_one_backup_at_a_time(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let ask = json!({ "source_id": scene.source });
    let busy = scene.member.post("/api/v1/jobs", ask.clone()).await.refused(409, "source_busy");
    assert_eq!(busy["details"]["job_id"], json!(scene.job));
    scene.cancel().await;
    let other = enqueue(&scene.member, &scene.source).await;
    // The first can't come back while the second waits.
    let path = format!("/api/v1/jobs/{}/retry", scene.job);
    let busy = scene.member.post(&path, json!({})).await.refused(409, "source_busy");
    assert_eq!(busy["details"]["job_id"], json!(other));
}

async fn a_result_must_be_that_of_the_assignment(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let job = scene.a.claim(&scene.job).await;
    let good = completed(&scene.a, &job);
    for field in ["tenant_id", "source_id", "snapshot_id", "job_id", "worker_id"] {
        let mut bad = good.clone();
        bad["result"]["manifest"][field] = json!("somebody-else");
        let refused =
            scene.a.say(&job, "complete", json!({ "outcome": bad })).await.refused(422, "invalid_field");
        assert_eq!(refused["details"]["field"], json!(format!("outcome.result.manifest.{field}")));
    }
    let bad_locators = [
        json!({ "storage_backend": "local_fs", "worker_id": "b", "local_path": "/v" }),
        json!({ "storage_backend": "local_fs", "worker_id": "a", "local_path": "v" }),
        json!({ "storage_backend": "local_fs", "worker_id": "a", "local_path": "/v\0" }),
    ];
    for locator in bad_locators {
        let mut bad = good.clone();
        bad["result"]["locator"] = locator;
        scene.a.say(&job, "complete", json!({ "outcome": bad })).await.refused(422, "invalid_field");
    }
    let other = json!({ "status": "completed", "result": { "type": "delete_snapshot" } });
    scene.a.say(&job, "complete", json!({ "outcome": other })).await.refused(422, "invalid_field");
    assert_eq!(scene.job().await["status"], "running", "what was refused changed nothing");
    // Warnings make it partial.
    let mut partial = good;
    partial["result"]["manifest"]["content_summary"]["warnings"] = json!(2);
    scene.a.say(&job, "complete", json!({ "outcome": partial })).await.expect(200);
    let snapshots = scene.member.get("/api/v1/snapshots").await.expect(200);
    assert_eq!(snapshots["snapshots"][0]["status"], "partial");
}

/// As its worker does: see `refused_by_hub` there.
async fn a_refused_result_can_be_reported_as_a_failure_and_a_taken_one_can_not(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let job = scene.a.claim(&scene.job).await;
    let mut bad = completed(&scene.a, &job);
    bad["result"]["locator"]["local_path"] = json!("v");
    scene.a.say(&job, "complete", json!({ "outcome": bad })).await.refused(422, "invalid_field");
    let gives_up = json!({ "outcome": failed("refused_by_hub", "permanent") });
    let answer = scene.a.say(&job, "complete", gives_up.clone()).await.expect(200);
    assert_eq!(answer["status"], "failed");
    assert_eq!(scene.job().await["error_code"], "refused_by_hub");
    // The same said of a result that the hub has: it has it still, and says so.
    scene.member.post(&format!("/api/v1/jobs/{}/retry", scene.job), json!({})).await.expect(200);
    let job = scene.a.claim(&scene.job).await;
    scene.a.say(&job, "complete", json!({ "outcome": completed(&scene.a, &job) })).await.expect(200);
    let answer = scene.a.say(&job, "complete", gives_up).await.expect(200);
    assert_eq!(answer["status"], "completed");
}

/// Claims as a worker does that can repeat it; the assignment, or the reason why there is none.
async fn claim_as(worker: &FakeWorker, job: &str, nonce: &str) -> Result<Assignment, String> {
    let claim = json!({ "job_id": job, "nonce": nonce });
    let answer = worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    match serde_json::from_value(answer).unwrap() {
        ClaimAnswer::Claimed(assignment) => Ok(*assignment),
        ClaimAnswer::Nothing { reason } => Err(reason),
    }
}

async fn a_claim_is_answered_again_when_its_answer_was_lost(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let first = claim_as(&scene.a, &scene.job, "n1").await.unwrap();
    scene.seconds(50).await;
    let again = claim_as(&scene.a, &scene.job, "n1").await.unwrap();
    // The credential is sealed anew; all else is the same, and the lease counts from now.
    let (Task::Backup(one), Task::Backup(two)) = (&first.task, &again.task) else { panic!("{again:?}") };
    assert_eq!((&one.snapshot_id, first.attempt), (&two.snapshot_id, again.attempt));
    assert_eq!((&first.lease_token, first.lease_ms), (&again.lease_token, again.lease_ms));
    let running = scene.job().await;
    assert_eq!((&running["attempt"], &running["status"]), (&json!(1), &json!("running")));
    scene.seconds(50).await;
    scene.a.say(&first, "renew", json!({})).await.expect(200);
    // Another claim of the same worker, the same one of another worker, and one that can't be repeated.
    assert!(claim_as(&scene.a, &scene.job, "n2").await.unwrap_err().contains("running"));
    assert!(claim_as(&scene.b, &scene.job, "n1").await.unwrap_err().contains("running"));
    assert!(nothing(&scene.a, json!({ "job_id": scene.job })).await.contains("running"));
    // A later attempt has another token, even if the worker says the same again.
    scene.seconds(61).await;
    scene.until("queued").await;
    let second = claim_as(&scene.a, &scene.job, "n1").await.unwrap();
    assert_eq!(second.attempt, 2);
    assert_ne!(second.lease_token, first.lease_token);
    scene
        .a
        .say(&first, "complete", json!({ "outcome": completed(&scene.a, &first) }))
        .await
        .refused(409, "lease_lost");
    scene.a.say(&second, "complete", json!({ "outcome": completed(&scene.a, &second) })).await.expect(200);
    assert!(claim_as(&scene.a, &scene.job, "n1").await.unwrap_err().contains("completed"));
}

async fn a_secret_is_told_to_the_holder_only(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let job = scene.a.claim(&scene.job).await;
    let Task::Backup(task) = &job.task else { panic!("{job:?}") };
    let sealed = task.credential.as_ref().unwrap();
    assert_eq!(sealed.open(&scene.a.identity).unwrap().expose_secret(), b"test-pass");
    assert!(sealed.open(&scene.b.identity).is_err(), "another worker reads the secret");
    assert_eq!(task.recipients.len(), 1);
    scene.a.log(&job, 0..3).await;
    scene.a.say(&job, "complete", json!({ "outcome": completed(&scene.a, &job) })).await.expect(200);
    let dump = scene.world.database.dump();
    for secret in ["test-pass", "dGVzdC1wYXNz", "AGE-SECRET-KEY-"] {
        assert!(!contains(&dump, secret.as_bytes()), "{secret} lies in the database");
    }
    assert!(contains(&dump, scene.job.as_bytes()), "the dump holds what it should");
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

async fn a_worker_speaks_for_itself_only(world: WorldBuilder) {
    let scene = Scene::set(world).await;
    let heartbeat = |id: &str| {
        json!({ "worker_id": id, "draining": false, "metrics": {
        "cpu_percent": 1.5, "memory_bytes": 1, "memory_total_bytes": 2, "disk_free_bytes": 3,
        "disk_total_bytes": 4, "active_jobs": 0 } })
    };
    let path = "/internal/workers/heartbeat";
    scene.a.caller.post(path, heartbeat("b")).await.refused(403, "forbidden");
    let answer = scene.a.caller.post(path, heartbeat("a")).await.expect(200);
    assert_eq!(answer, json!({ "drain": false, "register": false }));
    let stranger = scene.a.caller.with_token(&format!("xvw_{}", "A".repeat(43)));
    stranger.post(path, heartbeat("a")).await.refused(401, "unauthorized");
    // A worker that can't pull this type of source does not get the job; its message goes to one that can.
    let other = FakeWorker::join(&scene.world, "c", &["sftp"]).await;
    assert!(nothing(&other, json!({ "job_id": scene.job })).await.contains("type"));
    assert!(nothing(&other, json!({})).await.contains("no job"));
    // Silence makes it offline.
    scene.seconds(46).await;
    scene.b.caller.post(path, heartbeat("b")).await.expect(200);
    let stop = CancellationToken::new();
    let (hub, token) = (scene.world.hub.clone(), stop.clone());
    let loops = tokio::spawn(async move { hub.run_background(token).await });
    let mut status = Value::Null;
    for _ in 0..400 {
        status = scene.world.operator.get("/api/v1/workers/a").await.expect(200)["status"].clone();
        if status == "offline" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    stop.cancel();
    loops.await.unwrap();
    assert_eq!(status, "offline");
    assert_eq!(scene.world.operator.get("/api/v1/workers/b").await.expect(200)["status"], "online");
}

async fn a_message_finds_its_way(world: WorldBuilder) {
    use xvault_core::protocol::QueueName;
    let scene = Scene::set(world).await;
    let mut shared = scene.world.queue.receiver(&QueueName::Shared).unwrap();
    let mut own = scene.world.queue.receiver(&QueueName::Worker("b".parse().unwrap())).unwrap();
    let wait = Duration::from_secs(10);
    let message = tokio::time::timeout(wait, shared.recv()).await.unwrap().unwrap();
    assert_eq!(message.job_id.as_str(), scene.job);
    // Taken by one that can't: the hub sends another to one that can.
    scene.world.operator.post("/api/v1/workers/a/drain", json!({})).await.expect(200);
    let other = FakeWorker::join(&scene.world, "c", &["sftp"]).await;
    nothing(&other, json!({ "job_id": scene.job })).await;
    let message = tokio::time::timeout(wait, own.recv()).await.unwrap().unwrap();
    assert_eq!(message.job_id.as_str(), scene.job);
    // Lost altogether: sent again when a minute has passed, and not before.
    let stop = CancellationToken::new();
    let (hub, token) = (scene.world.hub.clone(), stop.clone());
    let loops = tokio::spawn(async move { hub.run_background(token).await });
    assert!(tokio::time::timeout(Duration::from_millis(600), shared.recv()).await.is_err());
    stop.cancel();
    loops.await.unwrap();
    scene.seconds(60).await;
    let stop = CancellationToken::new();
    let (hub, token) = (scene.world.hub.clone(), stop.clone());
    let loops = tokio::spawn(async move { hub.run_background(token).await });
    let message = tokio::time::timeout(wait, shared.recv()).await.unwrap().unwrap();
    assert_eq!(message.job_id.as_str(), scene.job);
    stop.cancel();
    loops.await.unwrap();
}

on_both_engines!(
    crate::world::World::unstarted =>
    only_the_holder_is_heard,
    a_report_is_answered_again_when_its_answer_was_lost,
    a_claim_is_answered_again_when_its_answer_was_lost,
    a_silent_worker_loses_its_job_to_another,
    silence_three_times_fails_the_job,
    what_time_heals_is_tried_again_after_a_pause,
    what_time_does_not_heal_fails_at_once,
    a_job_can_be_canceled_wherever_it_stands,
    a_job_that_is_handed_back_costs_no_attempt,
    a_source_has_one_backup_at_a_time,
    a_result_must_be_that_of_the_assignment,
    a_refused_result_can_be_reported_as_a_failure_and_a_taken_one_can_not,
    a_secret_is_told_to_the_holder_only,
    a_worker_speaks_for_itself_only,
    a_message_finds_its_way,
);
