//! Stores whose credential may not delete: what lies there stays, nothing is tried in vain, and everybody is told.

use std::time::Duration;

use serde_json::{Value, json};
use xvault_core::protocol::Task;

use crate::locks::Scene;
use crate::world::text;

const KEPT: &str = "its store lets nobody delete";

/// Two snapshots of which the policy keeps one; the paths of both.
async fn two(scene: &Scene) -> (String, String) {
    let older = scene.backed_up().await;
    scene.world.clock.advance(Duration::from_secs(3600));
    let newer = scene.backed_up().await;
    let path = format!("/api/v1/sources/{}/retention", scene.source);
    scene.acme.admin.put(&path, json!({ "retention_policy": { "keep_last_n": 1 } })).await.expect(200);
    (older, newer)
}

async fn run(scene: &Scene) -> Value {
    scene.world.operator.post("/api/v1/admin/retention/run", json!({})).await.expect(200)
}

async fn deletions(scene: &Scene) -> Vec<String> {
    let path = "/api/v1/admin/jobs?type=delete_snapshot&status=queued";
    let list = scene.world.operator.get(path).await.expect(200);
    list["jobs"].as_array().unwrap().iter().map(|job| text(&job["id"])).collect()
}

/// Asks for a test, and has a worker see this.
async fn seen(scene: &Scene, found: &[(&str, &str)]) {
    // It says nothing of its own accord, while hours go by.
    scene.world.execute("UPDATE workers SET status = 'online'").await;
    let path = format!("/api/v1/stores/{}/test?wait_seconds=0", scene.store);
    let asked = scene.acme.admin.post(&path, json!({})).await;
    assert!(asked.status < 300, "{}", asked.body);
    scene.tested(found).await;
}

/// Why the plan keeps the older one.
async fn reasons(scene: &Scene) -> Value {
    let path = format!("/api/v1/sources/{}/retention/plan", scene.source);
    let plan = scene.acme.admin.get(&path).await.expect(200);
    plan["decisions"][1]["reasons"].clone()
}

async fn nothing_is_deleted_where_the_credential_may_not_and_the_plan_says_so(scene: Scene) {
    let (older, _) = two(&scene).await;
    seen(&scene, &[("write", "yes"), ("delete", "no")]).await;
    assert_eq!(run(&scene).await["summary"]["total_to_delete"], json!(0));
    assert_eq!((reasons(&scene).await, deletions(&scene).await), (json!([KEPT]), vec![]));
    scene.acme.owner.delete(&older).await.refused(409, "store_keeps");
    let shown = scene.snapshot(&older).await;
    assert_eq!((&shown["status"], &shown["locators"][0]["may_delete"]), (&json!("completed"), &json!(false)));
    seen(&scene, &[("write", "yes"), ("delete", "yes")]).await;
    run(&scene).await;
    assert_eq!(deletions(&scene).await.len(), 1);
}

async fn a_deletion_that_fails_has_its_store_tested_and_is_called_off_with_the_reason(scene: Scene) {
    let (older, newer) = two(&scene).await;
    run(&scene).await;
    let by_hand = text(&scene.acme.owner.delete(&newer).await.expect(202)["id"]);
    // The older one is the only one now.
    assert_eq!(deletions(&scene).await, std::slice::from_ref(&by_hand));
    assert_eq!(scene.snapshot(&older).await["status"], json!("completed"));
    let job = scene.worker.claim(&by_hand).await;
    let error = json!({ "code": "store_denied", "message": "the store refuses to delete" });
    let failed = json!({ "status": "failed", "error": error, "disposition": "transient" });
    scene.worker.say(&job, "complete", json!({ "outcome": failed })).await.expect(200);
    let wanted = scene.world.while_the_hub_runs(async || scene.tests().await.pop()).await;
    let test = scene.worker.claim(&wanted).await;
    let Task::TestStore(_) = &test.task else { panic!("{test:?}") };
    let report = json!({ "observations": [{ "ability": "delete", "found": "no", "seen": "HTTP 403" }] });
    scene.worker.complete(&test, json!({ "type": "test_store", "report": report })).await;
    scene.world.clock.advance(Duration::from_secs(3600));
    let claim = json!({ "job_id": by_hand });
    let answer = scene.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert!(text(&answer["reason"]).contains("may not delete"), "{answer}");
    let job = scene.acme.admin.get(&format!("/api/v1/jobs/{by_hand}")).await.expect(200);
    assert_eq!((&job["status"], &job["error_code"]), (&json!("canceled"), &json!("store_keeps")));
    // It has begun, so it is no snapshot any more; and it waits, without a job, until the store lets it go.
    run(&scene).await;
    assert_eq!(
        (&scene.snapshot(&newer).await["status"], deletions(&scene).await),
        (&json!("deleting"), vec![])
    );
    seen(&scene, &[("write", "yes"), ("delete", "yes")]).await;
    run(&scene).await;
    let again = deletions(&scene).await.pop().unwrap();
    let job = scene.worker.claim(&again).await;
    scene.worker.complete(&job, json!({ "type": "delete_snapshot" })).await;
    scene.acme.member.get(&newer).await.refused(404, "not_found");
}

async fn what_retention_queued_is_called_off_when_the_store_is_seen_to_keep_all(scene: Scene) {
    let (older, _) = two(&scene).await;
    run(&scene).await;
    let queued = deletions(&scene).await.pop().unwrap();
    seen(&scene, &[("write", "yes"), ("delete", "no")]).await;
    let claim = json!({ "job_id": queued });
    let answer = scene.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert!(text(&answer["reason"]).contains("may not delete"), "{answer}");
    assert_eq!(scene.snapshot(&older).await["status"], json!("completed"));
    assert_eq!((reasons(&scene).await, deletions(&scene).await), (json!([KEPT]), vec![]));
}

on_both_engines!(crate::locks::Scene::set =>
    nothing_is_deleted_where_the_credential_may_not_and_the_plan_says_so,
    a_deletion_that_fails_has_its_store_tested_and_is_called_off_with_the_reason,
    what_retention_queued_is_called_off_when_the_store_is_seen_to_keep_all,
);
