//! Snapshots that are to go, and holds: what may be deleted, when its record goes, and how a deletion is called off.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xvault_core::protocol::Assignment;
use xvault_hub::queue::LocalQueue;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Tenant, World, serve, text};

/// A tenant with a source, and its worker.
struct Scene {
    world: World,
    acme: Tenant,
    source: String,
    worker: FakeWorker,
}

impl Scene {
    async fn set(world: World) -> Self {
        let acme = world.tenant("acme").await;
        let (_, source) = ssh_source(&acme.admin).await;
        let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
        Self { world, acme, source, worker }
    }

    /// A new snapshot's path.
    async fn snapshot(&self) -> String {
        let job = enqueue(&self.acme.member, &self.source).await;
        format!("/api/v1/snapshots/{}", self.worker.back_up(&job).await)
    }

    async fn get(&self, path: &str) -> Value {
        self.acme.member.get(path).await.expect(200)
    }

    /// Asks for a deletion; the job's id.
    async fn delete(&self, path: &str) -> String {
        text(&self.acme.admin.delete(path).await.expect(202)["id"])
    }

    async fn hold(&self, path: &str, reason: &str) -> Value {
        self.acme.admin.put(&format!("{path}/hold"), json!({ "reason": reason })).await.expect(200)
    }

    async fn release(&self, path: &str) {
        self.acme.admin.delete(&format!("{path}/hold")).await.expect(204);
    }

    async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).await
    }

    /// Why the worker does not get the job.
    async fn not_claimed(&self, id: &str) -> String {
        let answer =
            self.worker.caller.post("/internal/jobs/claim", json!({ "job_id": id })).await.expect(200);
        assert_eq!(answer["outcome"], "nothing", "{answer}");
        text(&answer["reason"])
    }

    async fn remove(&self, job: &Assignment) {
        self.worker.complete(job, json!({ "type": "delete_snapshot" })).await;
    }

    /// Action, target and details of the newest audit events, newest first.
    async fn deeds(&self, count: usize) -> Vec<(String, String, Value)> {
        let events = self.acme.admin.get(&format!("/api/v1/audit-events?limit={count}")).await.expect(200);
        let events = events["audit_events"].as_array().unwrap().clone();
        events.iter().map(|e| (text(&e["action"]), text(&e["target_id"]), e["details"].clone())).collect()
    }
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn a_held_snapshot_stays_until_it_is_released(world: World) {
    let scene = Scene::set(world).await;
    let path = scene.snapshot().await;
    let held = scene.hold(&path, " the auditors look at it ").await;
    assert_eq!(
        (&held["hold_reason"], &held["status"]),
        (&json!("the auditors look at it"), &json!("completed"))
    );
    assert!(held["held_at"].is_string(), "{held}");
    let refused = scene.acme.owner.delete(&path).await.refused(409, "held");
    assert_eq!(refused["details"]["hold_reason"], "the auditors look at it");
    assert!(text(&refused["error"]).contains("the auditors look at it"), "{refused}");

    // Again: the same, or another reason; the hold goes on from its beginning.
    assert_eq!(scene.hold(&path, "the auditors look at it").await, held);
    let changed = scene.hold(&path, "still").await;
    assert_eq!((&changed["hold_reason"], &changed["held_at"]), (&json!("still"), &held["held_at"]));
    let (action, target, details) = scene.deeds(2).await.remove(0);
    assert_eq!((action.as_str(), target.as_str()), ("snapshot.hold", id_of(&path)));
    assert_eq!(details, json!({ "reason": "still", "canceled_job_id": null }));
    assert_eq!(scene.deeds(2).await[1].2["reason"], "the auditors look at it");

    scene.release(&path).await;
    scene.release(&path).await;
    let released = scene.get(&path).await;
    assert_eq!((&released["held_at"], &released["hold_reason"]), (&Value::Null, &Value::Null));
    let deeds = scene.deeds(2).await;
    assert_eq!((deeds[0].0.as_str(), &deeds[0].2["reason"]), ("snapshot.release", &json!("still")));
    assert_eq!(deeds[1].0, "snapshot.hold");
    scene.delete(&path).await;

    for reason in ["", "  ", "a\u{0}b", &"x".repeat(201)] {
        let answer = scene.acme.admin.put(&format!("{path}/hold"), json!({ "reason": reason })).await;
        assert_eq!(answer.refused(422, "invalid_field")["details"]["field"], "reason");
    }
}

async fn a_hold_calls_off_a_deletion_that_nobody_has_begun(world: World) {
    let scene = Scene::set(world).await;
    let path = scene.snapshot().await;
    let job = scene.delete(&path).await;
    assert_eq!(scene.get(&path).await["status"], "deleting");
    let held = scene.hold(&path, "wait").await;
    assert_eq!((&held["status"], &held["hold_reason"]), (&json!("completed"), &json!("wait")));
    assert_eq!(scene.deeds(1).await[0].2["canceled_job_id"], json!(job));
    let canceled = scene.job(&job).await;
    assert_eq!((&canceled["status"], &canceled["error_code"]), (&json!("canceled"), &json!("held")));
    assert!(scene.not_claimed(&job).await.contains("canceled"));
    // The job can't be woken up while the hold lasts, and never by somebody who may not delete.
    let retry = format!("/api/v1/jobs/{job}/retry");
    scene.acme.admin.post(&retry, json!({})).await.refused(409, "held");
    assert_eq!(scene.job(&job).await["status"], "canceled");
    scene.release(&path).await;
    scene.acme.member.post(&retry, json!({})).await.refused(403, "forbidden");
    scene.acme.admin.post(&retry, json!({})).await.expect(200);
    assert_eq!(scene.get(&path).await["status"], "deleting");
    let claimed = scene.worker.claim(&job).await;
    scene.remove(&claimed).await;
    scene.acme.member.get(&path).await.refused(404, "not_found");
    // Of what is gone nothing is left to be tried again.
    let other = scene.snapshot().await;
    let first = scene.delete(&other).await;
    scene.acme.member.post(&format!("/api/v1/jobs/{first}/cancel"), json!({})).await.expect(200);
    assert_eq!(scene.get(&other).await["status"], "completed");
    let second = scene.delete(&other).await;
    assert_ne!(first, second);
    let claimed = scene.worker.claim(&second).await;
    scene.remove(&claimed).await;
    let gone = scene.acme.admin.post(&format!("/api/v1/jobs/{first}/retry"), json!({})).await;
    gone.refused(404, "not_found");
    assert_eq!(scene.job(&first).await["status"], "canceled");
}

/// However the hold came about: a worker is not told to remove the bytes of a snapshot that has one.
async fn a_worker_is_never_given_a_held_snapshot(world: World) {
    let scene = Scene::set(world).await;
    let path = scene.snapshot().await;
    let job = scene.delete(&path).await;
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE snapshots SET held_at = 1, hold_reason = 'past the API' WHERE id = $1")
        .bind(id_of(&path))
        .execute(&sql)
        .await
        .unwrap();
    assert!(scene.not_claimed(&job).await.contains("past the API"));
    assert_eq!(scene.job(&job).await["error_code"], "held");
    assert_eq!(scene.get(&path).await["status"], "completed");
}

/// Two hubs: whoever is first, either it is held or its bytes go.
async fn a_hold_and_a_worker_never_both_win(world: World) {
    let scene = Scene::set(world).await;
    let stop = CancellationToken::new();
    let base = serve(&scene.world.another_hub(Arc::new(LocalQueue::default())).await, stop.clone()).await;
    let (admin, worker) = (scene.acme.admin.at(&base), &scene.worker.caller);
    for round in 0..30_u64 {
        let path = scene.snapshot().await;
        let job = scene.delete(&path).await;
        // Now the one is a little later, now the other.
        let [first, second] =
            [round % 6 * (round % 2), round % 6 * ((round + 1) % 2)].map(Duration::from_millis);
        let hold = async {
            tokio::time::sleep(first).await;
            admin.put(&format!("{path}/hold"), json!({ "reason": "race" })).await
        };
        let claim = async {
            tokio::time::sleep(second).await;
            worker.post("/internal/jobs/claim", json!({ "job_id": job })).await.expect(200)
        };
        let (hold, claim) = tokio::join!(hold, claim);
        let snapshot = scene.get(&path).await;
        if hold.status == 200 {
            assert_eq!((&claim["outcome"], &snapshot["status"]), (&json!("nothing"), &json!("completed")));
            assert_eq!(snapshot["deletion_began_at"], Value::Null, "{claim}");
        } else {
            assert_eq!(hold.body["code"], "deletion_running", "{}", hold.body);
            assert_eq!((&claim["outcome"], &snapshot["held_at"]), (&json!("claimed"), &Value::Null));
        }
    }
    stop.cancel();
}

/// 2100, in milliseconds.
const FAR: i64 = 4_102_444_800_000;

/// No route makes a restore yet: its row is written past the API.
async fn a_snapshot_that_is_being_read_keeps_its_bytes(world: World) {
    let scene = Scene::set(world).await;
    let [path, other] = [scene.snapshot().await, scene.snapshot().await];
    let sql = scene.world.database.sql().await;
    let readers =
        [("restore", "queued"), ("restore", "completed"), ("verify", "finalizing"), ("verify", "failed")];
    for (number, (kind, status)) in readers.into_iter().enumerate() {
        let lease = if status == "finalizing" { format!("'token', {FAR}") } else { "NULL, NULL".to_owned() };
        let (tenant, source, snapshot) = (&scene.acme.id, &scene.source, id_of(&path));
        let insert = format!(
            "INSERT INTO jobs (id, tenant_id, source_id, snapshot_id, type, status, target_worker_id, lease_token,
                 lease_expires_at, not_before, push_at, created_at, updated_at)
             VALUES ('reader-{number}', '{tenant}', '{source}', '{snapshot}', '{kind}', '{status}', 'w1', {lease}, {FAR}, {FAR}, 0, 0)"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&sql).await.unwrap();
    }
    let job = scene.delete(&path).await;
    let ends = [
        ("reader-0", "UPDATE jobs SET status = 'canceled' WHERE id = 'reader-0'"),
        (
            "reader-2",
            "UPDATE jobs SET status = 'completed', lease_token = NULL, lease_expires_at = NULL WHERE id = 'reader-2'",
        ),
    ];
    for (reader, end) in ends {
        assert!(scene.not_claimed(&job).await.contains(reader));
        let waiting = scene.job(&job).await;
        assert_eq!((&waiting["status"], &waiting["attempt"]), (&json!("queued"), &json!(0)));
        let snapshot = scene.get(&path).await;
        assert_eq!((&snapshot["status"], &snapshot["deletion_began_at"]), (&json!("deleting"), &Value::Null));
        sqlx::query(end).execute(&sql).await.unwrap();
    }
    // Others are not kept waiting by it, and it goes as soon as nobody reads.
    sqlx::query("UPDATE jobs SET status = 'queued' WHERE id = 'reader-1'").execute(&sql).await.unwrap();
    let free = scene.delete(&other).await;
    let taken = scene.worker.caller.post("/internal/jobs/claim", json!({})).await.expect(200);
    assert_eq!(taken["job_id"], json!(free), "{taken}");
    let nothing = scene.worker.caller.post("/internal/jobs/claim", json!({})).await.expect(200);
    assert_eq!(nothing["reason"], "there is no job for this worker", "{nothing}");
    sqlx::query("UPDATE jobs SET status = 'failed' WHERE id = 'reader-1'").execute(&sql).await.unwrap();
    let claimed = scene.worker.claim(&job).await;
    scene.remove(&claimed).await;
    scene.acme.member.get(&path).await.refused(404, "not_found");
}

async fn a_deletion_that_has_begun_is_finished(world: World) {
    let scene = Scene::set(world).await;
    let path = scene.snapshot().await;
    let job = scene.delete(&path).await;
    let claimed = scene.worker.claim(&job).await;
    assert!(scene.get(&path).await["deletion_began_at"].is_string());
    let hold = format!("{path}/hold");
    let body = json!({ "reason": "too late" });
    let refused = scene.acme.admin.put(&hold, body.clone()).await.refused(409, "deletion_running");
    assert_eq!(refused["details"]["job_id"], Value::Null);
    // Neither a worker that hands it back, nor a person who stops it, makes a backup of it again.
    let released = json!({ "outcome": { "status": "released", "reason": "stop" } });
    scene.worker.say(&claimed, "complete", released).await.expect(200);
    scene.acme.admin.put(&hold, body.clone()).await.refused(409, "deletion_running");
    scene.acme.member.post(&format!("/api/v1/jobs/{job}/cancel"), json!({})).await.expect(200);
    assert_eq!(scene.get(&path).await["status"], "deleting");
    scene.acme.admin.put(&hold, body).await.refused(409, "deletion_running");
    let again = scene.delete(&path).await;
    assert_ne!(again, job);
    scene.acme.member.post(&format!("/api/v1/jobs/{again}/cancel"), json!({})).await.expect(200);
    assert_eq!(scene.get(&path).await["status"], "deleting");
    let claimed = scene.worker.claim(&scene.delete(&path).await).await;
    scene.remove(&claimed).await;
    scene.acme.member.get(&path).await.refused(404, "not_found");
}

async fn a_record_goes_when_the_bytes_are_gone_and_not_before(world: World) {
    let scene = Scene::set(world).await;
    let path = scene.snapshot().await;
    let job = scene.delete(&path).await;
    // Asked for again, it is the same job, whether it waits or runs.
    assert_eq!(scene.delete(&path).await, job);
    let claimed = scene.worker.claim(&job).await;
    assert_eq!(scene.delete(&path).await, job);
    let deeds = scene.deeds(3).await;
    assert!(deeds.iter().all(|(action, target, details)| {
        action == "snapshot.delete" && target == id_of(&path) && details["job_id"] == json!(job)
    }));
    let error = json!({ "code": "io", "message": "read-only file system" });
    let failed = json!({ "status": "failed", "error": error, "disposition": "permanent" });
    scene.worker.say(&claimed, "complete", json!({ "outcome": failed })).await.expect(200);
    let list = scene.get("/api/v1/snapshots?status=deleting").await;
    assert_eq!(
        (list["snapshots"][0]["id"].as_str(), list["snapshots"].as_array().unwrap().len()),
        (Some(id_of(&path)), 1)
    );
    let again = scene.delete(&path).await;
    assert_ne!(again, job);
    let claimed = scene.worker.claim(&again).await;
    assert_eq!(scene.get(&path).await["status"], "deleting");
    scene.remove(&claimed).await;
    scene.acme.member.get(&path).await.refused(404, "not_found");
    scene.acme.admin.delete(&path).await.refused(404, "not_found");
}

async fn a_worker_that_is_away_or_dies_keeps_its_deletions(world: World) {
    let dialect = world.db.dialect();
    drop(world);
    let long = |settings: &mut xvault_hub::Settings| settings.access_token = Duration::from_secs(1 << 30);
    let scene = Scene::set(World::builder(dialect).manual_clock().settings(long).start().await).await;
    let path = scene.snapshot().await;
    let job = scene.delete(&path).await;
    // It dies in the middle, again and again; then it is away for a month.
    for run in 1..=9 {
        scene.worker.claim(&job).await;
        scene.world.clock.advance(Duration::from_secs(120));
        let queued = scene.while_the_hub_runs(&job, |job| job["status"] == "queued").await;
        assert_eq!((&queued["attempt"], &queued["max_attempts"]), (&json!(run), &Value::Null));
    }
    scene.world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    scene.while_the_hub_runs(&job, |_| true).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        (&scene.job(&job).await["status"], &scene.get(&path).await["status"]),
        (&json!("queued"), &json!("deleting"))
    );
    let claimed = scene.worker.claim(&job).await;
    scene.remove(&claimed).await;
    scene.acme.member.get(&path).await.refused(404, "not_found");
}

impl Scene {
    /// Lets the hub's loops run until the job is so.
    async fn while_the_hub_runs(&self, job: &str, so: impl Fn(&Value) -> bool) -> Value {
        let asked = async || {
            let job = self.job(job).await;
            so(&job).then_some(job)
        };
        self.world.while_the_hub_runs(asked).await
    }
}

async fn nothing_of_a_disabled_tenant_is_deleted(world: World) {
    let scene = Scene::set(world).await;
    let path = scene.snapshot().await;
    let job = scene.delete(&path).await;
    let tenant = format!("/api/v1/tenants/{}", scene.acme.id);
    scene.world.operator.put(&tenant, json!({ "status": "disabled" })).await.expect(200);
    assert!(scene.not_claimed(&job).await.contains("tenant is disabled"));
    let operator = &scene.world.operator;
    let canceled = operator.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
    assert_eq!(
        (&canceled["status"], &canceled["error_code"]),
        (&json!("canceled"), &json!("tenant_disabled"))
    );
    assert_eq!(operator.get(&path).await.expect(200)["status"], "completed");
    operator.delete(&path).await.refused(409, "tenant_disabled");
    operator.put(&tenant, json!({ "status": "active" })).await.expect(200);
    // A source that is gone or disabled is another matter: its snapshots can be deleted by hand.
    let source = format!("/api/v1/sources/{}", scene.source);
    operator.post(&format!("{source}/disable"), json!({})).await.expect(200);
    let job = text(&operator.delete(&path).await.expect(202)["id"]);
    operator.delete(&source).await.expect(204);
    let claimed = scene.worker.claim(&job).await;
    scene.remove(&claimed).await;
    operator.get(&path).await.refused(404, "not_found");
}

on_both_engines!(
    a_held_snapshot_stays_until_it_is_released,
    a_hold_calls_off_a_deletion_that_nobody_has_begun,
    a_worker_is_never_given_a_held_snapshot,
    a_hold_and_a_worker_never_both_win,
    a_snapshot_that_is_being_read_keeps_its_bytes,
    a_deletion_that_has_begun_is_finished,
    a_record_goes_when_the_bytes_are_gone_and_not_before,
    a_worker_that_is_away_or_dies_keeps_its_deletions,
    nothing_of_a_disabled_tenant_is_deleted,
);
