//! Retention over HTTP: policies, plans, runs, and what becomes of the snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xvault_core::{Manifest, ReadBack};
use xvault_hub::queue::LocalQueue;
use xvault_hub::{Hub, HubParts, Settings};

use crate::fake_worker::ssh_source;
use crate::scene::Scene;
use crate::world::{JWT_SECRET, serve, text};

impl Scene {
    async fn try_policy(&self, policy: Value) -> Value {
        let body = json!({ "retention_policy": policy });
        self.acme.member.post(&format!("{}/plan", self.path()), body).await.expect(200)
    }

    /// Runs retention of the source. Gives the answer's summary.
    async fn run(&self) -> Value {
        let path = format!("/api/v1/admin/retention/run/{}", self.source);
        self.world.operator.post(&path, json!({})).await.expect(200)["summary"].clone()
    }

    /// The snapshots of all sources by status: `completed`, `partial`, `deleting`.
    async fn statuses(&self) -> BTreeMap<String, String> {
        let list = self.world.operator.get("/api/v1/admin/snapshots?limit=200").await.expect(200);
        let list = list["snapshots"].as_array().unwrap();
        list.iter().map(|one| (text(&one["id"]), text(&one["status"]))).collect()
    }

    async fn deleting(&self) -> BTreeSet<String> {
        self.statuses()
            .await
            .into_iter()
            .filter(|(_, status)| status == "deleting")
            .map(|(id, _)| id)
            .collect()
    }

    /// The queued deletions, oldest first.
    async fn deletions(&self) -> Vec<Value> {
        let path = "/api/v1/admin/jobs?type=delete_snapshot&status=queued&limit=200";
        let list = self.world.operator.get(path).await.expect(200);
        list["jobs"].as_array().unwrap().iter().rev().cloned().collect()
    }

    /// The worker does all that is queued.
    async fn delete_all(&self) {
        for job in self.deletions().await {
            let job = self.worker.claim(&text(&job["id"])).await;
            self.worker.complete(&job, json!({ "type": "delete_snapshot" })).await;
        }
    }

    /// Waits until so many snapshots are to be deleted: evaluations after a backup run beside it.
    async fn until_deleting(&self, count: usize) -> BTreeSet<String> {
        for _ in 0..400 {
            let found = self.deleting().await;
            if found.len() == count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} are being deleted, not {count}", self.deleting().await);
    }
}

/// Snapshot → whether it is kept, and the reasons.
fn decisions(plan: &Value) -> BTreeMap<String, (bool, String)> {
    let reasons = |decision: &Value| {
        decision["reasons"].as_array().unwrap().iter().map(text).collect::<Vec<_>>().join("; ")
    };
    let decisions = plan["decisions"].as_array().unwrap();
    decisions.iter().map(|d| (text(&d["id"]), (d["keep"].as_bool().unwrap(), reasons(d)))).collect()
}

fn set<const N: usize>(ids: [&String; N]) -> BTreeSet<String> {
    ids.into_iter().cloned().collect()
}

async fn a_policy_is_kept_as_it_is_meant(scene: Scene) {
    let empty =
        json!({ "source_id": scene.source, "retention_policy": null, "timezone": "UTC", "paused": null });
    assert_eq!(scene.acme.member.get(&scene.path()).await.expect(200), empty);
    let saved = scene.keep(json!({ "keep_last_n": 14, "keep_weekly": 8 })).await;
    let expected = json!({
        "source_id": scene.source, "retention_policy": { "keep_last_n": 14, "keep_weekly": 8 }, "timezone": "UTC",
        "paused": null,
    });
    assert_eq!(saved, expected);
    assert_eq!(scene.acme.member.get(&scene.path()).await.expect(200), expected);
    let events = scene.acme.admin.get("/api/v1/audit-events?limit=1").await.expect(200);
    let event = &events["audit_events"][0];
    assert_eq!((&event["action"], &event["target_id"]), (&json!("retention.update"), &json!(scene.source)));
    assert_eq!(
        event["details"],
        json!({ "retention_policy": { "keep_last_n": 14, "keep_weekly": 8 }, "before": null })
    );

    let meant = scene.keep(json!({ "mode": "within_duration", "keep_within_duration": "30d" })).await;
    assert_eq!(meant["retention_policy"], json!({ "keep_within": "30d" }));
    let bad = [
        ("retention_policy", json!({ "retention_policy": {} })),
        ("retention_policy", json!({ "retention_policy": { "keep_daily": 0 } })),
        ("retention_policy", json!({ "retention_policy": 7 })),
        ("retention_policy", json!({})),
        ("retention_policy.keep_last_n", json!({ "retention_policy": { "keep_last_n": -1 } })),
        ("retention_policy.keep_lots", json!({ "retention_policy": { "keep_lots": 1 } })),
        (
            "retention_policy.max_age_days",
            json!({ "retention_policy": { "keep_daily": 1, "max_age_days": 0 } }),
        ),
        (
            "retention_policy.keep_tags",
            json!({ "retention_policy": { "keep_last_n": 1, "keep_tags": ["x"] } }),
        ),
        ("policy", json!({ "retention_policy": { "keep_last_n": 1 }, "policy": 1 })),
    ];
    for (field, body) in bad {
        let put = scene.acme.admin.put(&scene.path(), body.clone()).await.refused(422, "invalid_field");
        assert_eq!(put["details"]["field"], field, "{put}");
        let tried = scene.acme.member.post(&format!("{}/plan", scene.path()), body).await;
        assert_eq!(tried.refused(422, "invalid_field")["details"]["field"], field);
    }
    let nothing = json!({ "retention_policy": null });
    scene.acme.member.post(&format!("{}/plan", scene.path()), nothing).await.refused(422, "invalid_field");
    assert_eq!(scene.acme.member.get(&scene.path()).await.expect(200), meant);
    assert_eq!(scene.keep(Value::Null).await, empty);
    scene.acme.admin.delete(&format!("/api/v1/sources/{}", scene.source)).await.expect(204);
    scene.acme.admin.get(&scene.path()).await.refused(404, "not_found");
    scene.acme.admin.put(&scene.path(), json!({ "retention_policy": null })).await.refused(404, "not_found");
}

async fn a_plan_gives_every_reason_and_changes_nothing(scene: Scene) {
    let [a, b, c, d] =
        [scene.aged(100 * 24).await, scene.aged(50).await, scene.aged(3).await, scene.aged(1).await];
    let future = scene.aged(-5).await;
    let before = scene.statuses().await;
    let none = scene.plan().await;
    assert_eq!((&none["retention_policy"], &none["decisions"]), (&Value::Null, &json!([])));
    let hold = json!({ "reason": "court" });
    scene.acme.admin.put(&format!("/api/v1/snapshots/{b}/hold"), hold).await.expect(200);
    let policy = json!({ "keep_last_n": 1, "max_age_days": 90, "min_age_hours": 2 });
    let plan = scene.try_policy(policy.clone()).await;
    let expected = BTreeMap::from([
        (a.clone(), (false, "older than 90 days; no rule keeps it".to_owned())),
        (b.clone(), (true, "on hold: court".to_owned())),
        (c.clone(), (false, "no rule keeps it".to_owned())),
        (d.clone(), (true, "the last good snapshot; younger than 2 h; 1st of 1 last".to_owned())),
        (future.clone(), (true, "dated in the future".to_owned())),
    ]);
    assert_eq!(decisions(&plan), expected);
    assert_eq!(plan["summary"], json!({ "total_snapshots": 5, "total_to_keep": 3, "total_to_delete": 2 }));
    assert_eq!((&plan["evaluated_at"], &plan["timezone"]), (&json!(scene.now()), &json!("UTC")));
    assert_eq!((&plan["decisions_left_out"], &plan["already_deleting"]), (&json!(0), &json!(0)));
    assert_eq!(plan["retention_policy"], policy);
    let order: Vec<_> = plan["decisions"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
    assert_eq!(order, [future, d, c.clone(), b, a.clone()]);
    // Trying saves nothing, and nothing goes by being looked at.
    assert_eq!(scene.plan().await["retention_policy"], Value::Null);
    scene.keep(policy).await;
    assert_eq!(decisions(&scene.plan().await), expected);
    assert_eq!(scene.statuses().await, before);
    // What somebody deletes by hand is no part of it; what retention has queued still is.
    assert_eq!(scene.run().await["jobs_enqueued"], 2);
    assert_eq!(scene.deleting().await, set([&a, &c]));
    assert_eq!(decisions(&scene.plan().await), expected);
    scene.acme.admin.delete(&format!("/api/v1/snapshots/{a}")).await.expect(202);
    let plan = scene.plan().await;
    assert_eq!((&plan["already_deleting"], &plan["summary"]["total_to_delete"]), (&json!(1), &json!(1)));
}

async fn after_each_backup_the_policy_applies(scene: Scene) {
    scene.keep(json!({ "keep_last_n": 2 })).await;
    let [a, b, c] = [scene.aged(4).await, scene.aged(3).await, scene.aged(2).await];
    assert_eq!(scene.until_deleting(1).await, set([&a]));
    let job = scene.deletions().await.remove(0);
    assert_eq!((&job["target_worker_id"], &job["snapshot_id"]), (&json!("w1"), &json!(a)));
    let events = scene.acme.admin.get("/api/v1/audit-events?limit=1").await.expect(200);
    let event = &events["audit_events"][0];
    assert_eq!(
        (&event["actor_type"], &event["action"], &event["target_id"]),
        (&json!("system"), &json!("snapshot.delete"), &json!(a))
    );
    let details = json!({ "source_id": scene.source, "job_id": job["id"], "reasons": ["no rule keeps it"] });
    assert_eq!(event["details"], details);
    let d = scene.aged(1).await;
    assert_eq!(scene.until_deleting(2).await, set([&a, &b]));
    scene.delete_all().await;
    let left = scene.statuses().await;
    assert_eq!(left.into_keys().collect::<BTreeSet<_>>(), set([&c, &d]));
    let metrics = scene.world.nobody().get("/metrics").await.expect(200);
    assert!(text(&metrics).contains("xvault_retention_deletions_total 2"), "{metrics}");
}

async fn a_run_answers_what_it_did_and_does_it_once(scene: Scene) {
    for hours in 1..=10 {
        scene.aged(hours).await;
    }
    let (_, second) = ssh_source(&scene.acme.admin).await;
    for hours in 1..=3 {
        scene.backed_up_at(&second, scene.now() - SignedDuration::from_hours(hours), |_| {}).await;
    }
    let (_, without) = ssh_source(&scene.acme.admin).await;
    scene.backed_up_at(&without, "2001-01-01T00:00:00Z".parse().unwrap(), |_| {}).await;
    scene.keep(json!({ "keep_last_n": 7 })).await;
    let run = "/api/v1/admin/retention/run";
    let first = scene.world.operator.post(run, json!({})).await.expect(200);
    let expected = json!({
        "results": [{
            "source_id": scene.source, "total_snapshots": 10, "total_to_keep": 7, "total_to_delete": 3,
            "jobs_enqueued": 3, "jobs_canceled": 0, "error": null,
        }],
        "results_left_out": 0,
        "summary": {
            "sources_evaluated": 1, "sources_failed": 0, "total_snapshots": 10, "total_to_keep": 7, "total_to_delete": 3,
            "jobs_enqueued": 3, "jobs_canceled": 0,
        },
    });
    assert_eq!(first, expected);
    let keep_one = json!({ "retention_policy": { "keep_last_n": 1 } });
    let path = format!("/api/v1/sources/{second}/retention");
    scene.acme.admin.put(&path, keep_one.clone()).await.expect(200);
    let one = scene.world.operator.post(&format!("{run}/{second}"), json!({})).await.expect(200);
    assert_eq!(
        (&one["results"][0]["source_id"], &one["summary"]["jobs_enqueued"]),
        (&json!(second), &json!(2))
    );
    let again = scene.world.operator.post(run, json!({})).await.expect(200)["summary"].clone();
    let counts = ["sources_evaluated", "total_snapshots", "total_to_delete", "jobs_enqueued"];
    assert_eq!(counts.map(|count| again[count].as_u64().unwrap()), [2, 13, 5, 0]);
    scene.delete_all().await;
    assert_eq!(scene.statuses().await.len(), 7 + 1 + 1);
    // What has no policy, and what is disabled, is left alone.
    scene.world.operator.post(&format!("{run}/{without}"), json!({})).await.refused(409, "no_policy");
    scene.world.operator.post(&format!("{run}/none"), json!({})).await.refused(404, "not_found");
    scene.keep(json!({ "keep_last_n": 2 })).await;
    let source = format!("/api/v1/sources/{}", scene.source);
    scene.acme.admin.post(&format!("{source}/disable"), json!({})).await.expect(200);
    let of_source = format!("{run}/{}", scene.source);
    scene.world.operator.post(&of_source, json!({})).await.refused(409, "source_disabled");
    assert_eq!(scene.plan().await["paused"], "source_disabled");
    let all = scene.world.operator.post(run, json!({})).await.expect(200);
    assert_eq!(
        (&all["summary"]["sources_evaluated"], &all["summary"]["jobs_enqueued"]),
        (&json!(1), &json!(0))
    );
    scene.acme.admin.post(&format!("{source}/enable"), json!({})).await.expect(200);
    let tenant = format!("/api/v1/tenants/{}", scene.acme.id);
    scene.world.operator.put(&tenant, json!({ "status": "disabled" })).await.expect(200);
    scene.world.operator.post(&of_source, json!({})).await.refused(409, "tenant_disabled");
    let shown = scene.world.operator.get(&scene.path()).await.expect(200);
    assert_eq!(shown["paused"], "tenant_disabled");
    let all = scene.world.operator.post(run, json!({})).await.expect(200);
    assert_eq!((&all["summary"]["sources_evaluated"], &all["results"]), (&json!(0), &json!([])));
    assert_eq!(scene.deleting().await, BTreeSet::new());
}

/// Two hubs, and several requests at each, apply the same policies at once.
async fn at_once_each_snapshot_is_deleted_once(scene: Scene) {
    let stop = CancellationToken::new();
    let other = Hub::new(HubParts {
        db: scene.world.database.connect().await,
        clock: scene.world.clock.clone(),
        keys: scene.world.keys.clone(),
        queue: Arc::new(LocalQueue::default()),
        settings: Settings::with_jwt_secret(JWT_SECRET).unwrap(),
    });
    let base = serve(&other.await.unwrap(), stop.clone()).await;
    for round in 0..5 {
        for hours in 0..12 {
            scene.aged(hours).await;
        }
        scene.keep(json!({ "keep_last_n": 1 })).await;
        let operator = &scene.world.operator;
        let run = |caller: crate::world::Caller| async move {
            caller.post("/api/v1/admin/retention/run", json!({})).await.expect(200)
        };
        let (a, b) = (operator.clone(), operator.at(&base));
        let answers = tokio::join!(run(a.clone()), run(b.clone()), run(a.clone()), run(b.clone()));
        let answers = [answers.0, answers.1, answers.2, answers.3];
        let queued: u64 = answers.iter().map(|a| a["summary"]["jobs_enqueued"].as_u64().unwrap()).sum();
        assert!(answers.iter().all(|answer| answer["summary"]["sources_failed"] == 0), "{answers:?}");
        let jobs = scene.deletions().await;
        let snapshots: BTreeSet<_> = jobs.iter().map(|job| text(&job["snapshot_id"])).collect();
        let expected = if round == 0 { 11 } else { 12 };
        assert_eq!(
            (jobs.len(), snapshots.len(), usize::try_from(queued)),
            (expected, expected, Ok(expected))
        );
        scene.keep(Value::Null).await;
        assert_eq!(scene.deletions().await, Vec::<Value>::new());
        scene.keep(json!({ "keep_last_n": 1 })).await;
        scene.run().await;
        scene.delete_all().await;
        scene.keep(Value::Null).await;
    }
    stop.cancel();
}

async fn the_last_good_snapshot_stays(scene: Scene) {
    let [a, b] = [scene.aged(900 * 24).await, scene.aged(800 * 24).await];
    let broken = scene.backed_up(1, |manifest| manifest.content_summary.warnings = 3).await;
    assert_eq!(scene.statuses().await[&broken], "partial");
    scene.keep(json!({ "keep_last_n": 1, "max_age_days": 30 })).await;
    assert_eq!(scene.run().await["total_to_delete"], 1);
    assert_eq!(scene.deleting().await, set([&a]));
    let plan = decisions(&scene.plan().await);
    assert_eq!(plan[&b].1, "the last good snapshot");
    // Unless the policy says so.
    let policy = json!({ "keep_last_n": 1, "max_age_days": 30, "may_delete_last": true });
    scene.keep(policy).await;
    scene.run().await;
    assert_eq!(scene.deleting().await, set([&a, &b]));
}

async fn proof_is_a_full_read_back(scene: Scene) {
    let old = scene.aged(50).await;
    let sampled = scene.backed_up(40, |manifest| manifest.read_back.mode = ReadBack::Sample).await;
    let unread = scene.backed_up(30, |manifest| manifest.read_back.mode = ReadBack::Off).await;
    scene.keep(json!({ "keep_last_n": 1, "require_verified": true })).await;
    let plan = decisions(&scene.plan().await);
    assert!(plan.values().all(|(keep, _)| *keep), "{plan:?}");
    assert_eq!(plan[&old].1, "no newer one is verified");
    let proven = scene.aged(20).await;
    let plan = decisions(&scene.plan().await);
    let kept: BTreeSet<_> = plan.into_iter().filter(|(_, (keep, _))| *keep).map(|(id, _)| id).collect();
    assert_eq!(kept, set([&proven]));
    assert_eq!(scene.until_deleting(3).await, set([&old, &sampled, &unread]));
}

async fn what_is_queued_is_called_off_when_it_is_to_stay(scene: Scene) {
    let [a, b, c] = [scene.aged(3).await, scene.aged(2).await, scene.aged(1).await];
    scene.keep(json!({ "keep_last_n": 1 })).await;
    assert_eq!(scene.run().await["jobs_enqueued"], 2);
    let first = text(&scene.deletions().await[0]["id"]);
    // A wider policy, at once.
    scene.keep(json!({ "keep_last_n": 2 })).await;
    assert_eq!(scene.deleting().await, set([&a]));
    let events = scene.acme.admin.get("/api/v1/audit-events?limit=2").await.expect(200);
    let event = &events["audit_events"][1];
    assert_eq!((&event["action"], &event["target_id"]), (&json!("snapshot.keep"), &json!(b)));
    assert_eq!(event["details"]["reasons"], json!(["2nd of 2 last"]));
    // Somebody deletes a newer one by hand: the older one is needed again.
    let by_hand = text(&scene.acme.admin.delete(&format!("/api/v1/snapshots/{c}")).await.expect(202)["id"]);
    assert_eq!(scene.deleting().await, set([&c]));
    let canceled = scene.acme.member.get(&format!("/api/v1/jobs/{first}")).await.expect(200);
    assert_eq!((&canceled["status"], &canceled["error_code"]), (&json!("canceled"), &json!("kept")));
    assert!(text(&canceled["error_message"]).contains("2nd of 2 last"), "{canceled}");
    // Neither a policy nor its absence calls off what a person wants.
    scene.keep(Value::Null).await;
    scene.keep(json!({ "keep_all": true })).await;
    scene.run().await;
    assert_eq!(scene.deletions().await[0]["id"], json!(by_hand));
    scene.keep(json!({ "keep_last_n": 1 })).await;
    assert_eq!(scene.run().await["jobs_enqueued"], 1);
    assert_eq!(scene.deleting().await, set([&a, &c]));
    // What a person asks for is theirs, although retention had asked before.
    let queued = scene.deletions().await.into_iter().find(|job| job["snapshot_id"] == json!(a)).unwrap();
    let theirs = scene.acme.admin.delete(&format!("/api/v1/snapshots/{a}")).await.expect(202);
    assert_eq!(theirs["id"], queued["id"]);
    scene.keep(Value::Null).await;
    assert_eq!(scene.deleting().await, set([&a, &c]));
    scene.delete_all().await;
    assert_eq!(scene.statuses().await.into_keys().collect::<BTreeSet<_>>(), set([&b]));
}

/// Who queues a deletion again takes a snapshot away, too.
async fn a_deletion_that_is_tried_again_spares_what_is_needed_then(scene: Scene) {
    let [a, b] = [scene.aged(2).await, scene.aged(1).await];
    let job = text(&scene.acme.admin.delete(&format!("/api/v1/snapshots/{b}")).await.expect(202)["id"]);
    scene.acme.member.post(&format!("/api/v1/jobs/{job}/cancel"), json!({})).await.expect(200);
    scene.keep(json!({ "keep_last_n": 1 })).await;
    assert_eq!(scene.run().await["jobs_enqueued"], 1);
    assert_eq!(scene.deleting().await, set([&a]));
    scene.acme.admin.post(&format!("/api/v1/jobs/{job}/retry"), json!({})).await.expect(200);
    assert_eq!(scene.deleting().await, set([&b]));
    scene.delete_all().await;
    assert_eq!(scene.statuses().await, BTreeMap::from([(a.clone(), "completed".to_owned())]));
    // What retention had asked for, and a person asks for again, is theirs.
    let [c, d] = [scene.aged(3).await, scene.aged(1).await];
    assert_eq!(scene.until_deleting(2).await, set([&a, &c]));
    let queued = scene.deletions().await.into_iter().find(|job| job["snapshot_id"] == json!(c)).unwrap();
    let path = format!("/api/v1/jobs/{}", text(&queued["id"]));
    scene.acme.member.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    scene.acme.admin.post(&format!("{path}/retry"), json!({})).await.expect(200);
    scene.keep(Value::Null).await;
    assert_eq!(scene.deleting().await, set([&c]));
    scene.delete_all().await;
    assert_eq!(scene.statuses().await.into_keys().collect::<BTreeSet<_>>(), set([&a, &d]));
}

/// Whatever it is told by: its mark of being deleted does not make it whole.
async fn a_partial_snapshot_stays_partial_while_its_deletion_waits(scene: Scene) {
    let old = scene.aged(3).await;
    let partial =
        |manifest: &mut Manifest| manifest.completeness = xvault_core::snapshot::Completeness::Partial;
    let [broken, new] = [scene.backed_up(2, partial).await, scene.backed_up(1, partial).await];
    assert_eq!(scene.statuses().await[&broken], "partial");
    scene.keep(json!({ "keep_last_n": 1 })).await;
    assert_eq!(scene.run().await["jobs_enqueued"], 1);
    assert_eq!(scene.deleting().await, set([&broken]));
    let plan = decisions(&scene.plan().await);
    assert_eq!((plan[&old].1.as_str(), plan[&broken].0), ("the last good snapshot; 1st of 1 last", false));
    scene.keep(json!({ "keep_last_n": 2 })).await;
    let left = BTreeMap::from([(old, "completed"), (broken, "partial"), (new, "partial")]);
    assert_eq!(
        scene.statuses().await,
        left.into_iter().map(|(id, status)| (id, status.to_owned())).collect()
    );
}

async fn a_plan_of_many_snapshots_comes_in_pages(scene: Scene) {
    let mut ids = Vec::new();
    for hours in 1..=5 {
        ids.push(scene.aged(hours).await);
    }
    scene.keep(json!({ "keep_last_n": 3 })).await;
    let path = format!("{}/plan", scene.path());
    let whole = scene.plan().await;
    assert_eq!((&whole["decisions_left_out"], &whole["next_cursor"]), (&json!(0), &Value::Null));
    let mut told = Vec::new();
    let mut query = "?limit=2".to_owned();
    for left in [3, 1, 0] {
        let page = scene.acme.member.get(&format!("{path}{query}")).await.expect(200);
        assert_eq!((&page["decisions_left_out"], &page["summary"]), (&json!(left), &whole["summary"]));
        told.extend(page["decisions"].as_array().unwrap().clone());
        query = format!("?limit=2&cursor={}", page["next_cursor"].as_str().unwrap_or_default());
    }
    assert_eq!(json!(told), whole["decisions"]);
    assert_eq!(told.iter().map(|one| text(&one["id"])).collect::<Vec<_>>(), ids);
    let body = json!({ "retention_policy": { "keep_last_n": 1 } });
    let tried = scene.acme.member.post(&format!("{path}?limit=1"), body).await.expect(200);
    assert_eq!((&tried["decisions"][0]["id"], &tried["decisions_left_out"]), (&json!(ids[0]), &json!(4)));
    for bad in ["limit=0", "limit=10001", "limit=x", "cursor=x", "cursor=JyBPUiAx"] {
        scene.acme.member.get(&format!("{path}?{bad}")).await.refused(400, "bad_request");
    }
}

async fn a_source_that_is_disabled_meanwhile_loses_nothing(scene: Scene) {
    let [a, _] = [scene.aged(3).await, scene.aged(2).await];
    scene.keep(json!({ "keep_last_n": 1 })).await;
    scene.run().await;
    let source = format!("/api/v1/sources/{}", scene.source);
    scene.acme.admin.post(&format!("{source}/disable"), json!({})).await.expect(200);
    let job = text(&scene.deletions().await[0]["id"]);
    let answer = scene.worker.caller.post("/internal/jobs/claim", json!({ "job_id": job })).await.expect(200);
    assert_eq!(answer["outcome"], "nothing", "{answer}");
    let canceled = scene.acme.member.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
    assert_eq!(
        (&canceled["status"], &canceled["error_code"]),
        (&json!("canceled"), &json!("source_disabled"))
    );
    assert_eq!(scene.statuses().await[&a], "completed");
}

async fn a_deletion_that_broke_off_is_taken_up_again(scene: Scene) {
    let [a, b, c] = [scene.aged(3).await, scene.aged(2).await, scene.aged(1).await];
    let mut jobs = Vec::new();
    for id in [&a, &b] {
        let job = scene.acme.admin.delete(&format!("/api/v1/snapshots/{id}")).await.expect(202);
        jobs.push(scene.worker.claim(&text(&job["id"])).await);
    }
    scene.worker.fail(&jobs[0], "store", "read-only file system").await;
    scene.acme.member.post(&format!("/api/v1/jobs/{}/cancel", jobs[1].job_id), json!({})).await.expect(200);
    assert_eq!(scene.deletions().await, Vec::<Value>::new());
    // Of a source without a policy, and disabled: what has begun is finished all the same.
    let source = format!("/api/v1/sources/{}", scene.source);
    scene.acme.admin.post(&format!("{source}/disable"), json!({})).await.expect(200);
    for _ in 0..2 {
        scene.world.operator.post("/api/v1/admin/retention/run", json!({})).await.expect(200);
    }
    assert_eq!(scene.deletions().await.len(), 2);
    scene.delete_all().await;
    assert_eq!(scene.statuses().await.into_keys().collect::<BTreeSet<_>>(), set([&c]));
}

async fn days_are_those_of_the_schedules_zone(scene: Scene) {
    let path = format!("/api/v1/sources/{}/retention", scene.source);
    // 2030-03-17 17:46:40 in UTC: the clock of these tests. In Auckland it is the 18th since 11:00 UTC.
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let a = scene.backed_up_at(&scene.source, at("2030-03-17T09:00:00Z"), |_| {}).await;
    let b = scene.backed_up_at(&scene.source, at("2030-03-17T15:00:00Z"), |_| {}).await;
    scene.keep(json!({ "keep_daily": 2 })).await;
    let kept = |plan: &Value| decisions(plan).into_iter().filter(|(_, (keep, _))| *keep).count();
    assert_eq!(kept(&scene.plan().await), 1);
    let schedule =
        json!({ "source_id": scene.source, "interval_minutes": 60, "timezone": "Pacific/Auckland" });
    scene.acme.admin.post("/api/v1/schedules", schedule).await.expect(201);
    assert_eq!(scene.acme.member.get(&path).await.expect(200)["timezone"], "Pacific/Auckland");
    let plan = scene.plan().await;
    assert_eq!(kept(&plan), 2);
    assert_eq!(decisions(&plan)[&a].1, "newest of day 2030-03-17");
    assert!(decisions(&plan)[&b].1.ends_with("newest of day 2030-03-18"), "{plan}");
    // A zone that nobody knows stops this source, and no other.
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE schedules SET timezone = 'Mars/Olympus'").execute(&sql).await.unwrap();
    scene.acme.member.get(&format!("{path}/plan")).await.refused(409, "unknown_timezone");
    let (_, second) = ssh_source(&scene.acme.admin).await;
    let second_path = format!("/api/v1/sources/{second}/retention");
    scene.acme.admin.put(&second_path, json!({ "retention_policy": { "keep_last_n": 1 } })).await.expect(200);
    let run = scene.world.operator.post("/api/v1/admin/retention/run", json!({})).await.expect(200);
    assert_eq!(
        (&run["summary"]["sources_evaluated"], &run["summary"]["sources_failed"]),
        (&json!(1), &json!(1))
    );
    let failed =
        run["results"].as_array().unwrap().iter().find(|one| one["source_id"] == json!(scene.source));
    assert!(text(&failed.unwrap()["error"]).contains("timezone"), "{run}");
}

async fn a_schedule_and_its_source_have_one_policy(scene: Scene) {
    for hours in 1..=4 {
        scene.aged(hours).await;
    }
    // As the seed's curl lines make and change it.
    let policy = json!({ "keep_last_n": 7, "keep_daily": 30, "min_age_hours": 24 });
    let body = json!({
        "tenant_id": scene.acme.id, "source_id": scene.source, "interval_minutes": 60, "retention_policy": policy,
    });
    let schedule = scene.acme.admin.post("/api/v1/schedules", body).await.expect(201);
    assert_eq!(schedule["retention_policy"], policy);
    assert_eq!(scene.acme.member.get(&scene.path()).await.expect(200)["retention_policy"], policy);
    let schedules = format!("/api/v1/schedules/{}", text(&schedule["id"]));
    let changed = json!({ "keep_last_n": 2 });
    scene.keep(changed.clone()).await;
    assert_eq!(scene.acme.member.get(&schedules).await.expect(200)["retention_policy"], changed);
    let list = scene.acme.member.get("/api/v1/schedules").await.expect(200);
    assert_eq!(list["schedules"][0]["retention_policy"], changed);
    assert_eq!(scene.run().await["jobs_enqueued"], 2);
    // Other times leave it alone; another policy calls off what it does not want.
    let slower = json!({ "interval_minutes": 120 });
    assert_eq!(scene.acme.admin.put(&schedules, slower).await.expect(200)["retention_policy"], changed);
    assert_eq!(scene.deleting().await.len(), 2);
    let wider = json!({ "retention_policy": { "keep_last_n": 3 } });
    scene.acme.admin.put(&schedules, wider).await.expect(200);
    assert_eq!(scene.deleting().await.len(), 1);
    let tags = json!({ "retention_policy": { "keep_last_n": 1, "keep_tags": ["x"] } });
    scene.acme.admin.put(&schedules, tags).await.refused(422, "invalid_field");
    // While it is disabled nothing goes by itself, not even what is queued.
    scene.acme.admin.put(&schedules, json!({ "enabled": false })).await.expect(200);
    let run = format!("/api/v1/admin/retention/run/{}", scene.source);
    scene.world.operator.post(&run, json!({})).await.refused(409, "schedule_disabled");
    assert_eq!(scene.plan().await["paused"], "schedule_disabled");
    let all = scene.world.operator.post("/api/v1/admin/retention/run", json!({})).await.expect(200);
    assert_eq!(all["summary"]["sources_evaluated"], 0);
    let job = text(&scene.deletions().await[0]["id"]);
    let answer = scene.worker.caller.post("/internal/jobs/claim", json!({ "job_id": job })).await.expect(200);
    assert_eq!(answer["outcome"], "nothing", "{answer}");
    assert_eq!(scene.deleting().await, BTreeSet::new());
    // With the schedule the policy goes: where no snapshots come, none shall go.
    scene.acme.admin.put(&schedules, json!({ "enabled": true })).await.expect(200);
    assert_eq!(scene.run().await["jobs_enqueued"], 1);
    scene.acme.admin.delete(&schedules).await.expect(204);
    assert_eq!(scene.deleting().await, BTreeSet::new());
    assert_eq!(scene.acme.member.get(&scene.path()).await.expect(200)["retention_policy"], Value::Null);
    // A new one takes what its source has, unless it says otherwise.
    scene.keep(changed.clone()).await;
    let body = json!({ "source_id": scene.source, "cron": "@daily" });
    let schedule = scene.acme.admin.post("/api/v1/schedules", body).await.expect(201);
    assert_eq!(schedule["retention_policy"], changed);
}

on_both_engines!(
    super::Scene::set =>
    a_policy_is_kept_as_it_is_meant,
    a_plan_gives_every_reason_and_changes_nothing,
    after_each_backup_the_policy_applies,
    a_run_answers_what_it_did_and_does_it_once,
    at_once_each_snapshot_is_deleted_once,
    the_last_good_snapshot_stays,
    proof_is_a_full_read_back,
    what_is_queued_is_called_off_when_it_is_to_stay,
    a_deletion_that_is_tried_again_spares_what_is_needed_then,
    a_partial_snapshot_stays_partial_while_its_deletion_waits,
    a_plan_of_many_snapshots_comes_in_pages,
    a_source_that_is_disabled_meanwhile_loses_nothing,
    a_deletion_that_broke_off_is_taken_up_again,
    days_are_those_of_the_schedules_zone,
    a_schedule_and_its_source_have_one_policy,
);
