//! Verifications over HTTP: what they find is in the job and in the snapshot, and nothing relies on a damaged one.

use serde_json::{Value, json};
use xvault_core::protocol::{Assignment, Task};

use crate::scene::Scene;
use crate::world::{Answer, text};

impl Scene {
    async fn ask(&self, snapshot: &str, depth: &str) -> Answer {
        self.acme
            .member
            .post(&format!("/api/v1/snapshots/{snapshot}/verify"), json!({ "depth": depth }))
            .await
    }

    /// Asks for a verification, which the worker takes.
    async fn begin(&self, snapshot: &str, depth: &str) -> Assignment {
        let job = self.ask(snapshot, depth).await.expect(202);
        assert_eq!((&job["type"], &job["snapshot_id"]), (&json!("verify"), &json!(snapshot)));
        self.worker.claim(&text(&job["id"])).await
    }

    /// Verifies a snapshot, which turns out so. Gives the job's id.
    async fn found(&self, snapshot: &str, depth: &str, finding: Value) -> String {
        let job = self.begin(snapshot, depth).await;
        let result = json!({ "type": "verify", "depth": depth, "finding": finding });
        self.worker.complete(&job, result).await;
        job.job_id.to_string()
    }

    async fn snapshot(&self, id: &str) -> Value {
        self.acme.member.get(&format!("/api/v1/snapshots/{id}")).await.expect(200)
    }

    async fn retain(&self) -> Value {
        let path = format!("/api/v1/admin/retention/run/{}", self.source);
        self.world.operator.post(&path, json!({})).await.expect(200)["summary"].clone()
    }

    async fn audited(&self, action: &str) -> Vec<Value> {
        let path = format!("/api/v1/audit-events?action={action}");
        let list = self.acme.admin.get(&path).await.expect(200);
        list["audit_events"].as_array().unwrap().clone()
    }

    async fn damaged_list(&self, damaged: bool) -> Vec<String> {
        let path = format!("/api/v1/snapshots?damaged={damaged}");
        let list = self.acme.member.get(&path).await.expect(200);
        list["snapshots"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
    }

    async fn metric(&self, name: &str) -> String {
        let page = text(&self.world.nobody().get("/metrics").await.expect(200));
        let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in:\n{page}")).rsplit(' ').next().unwrap().to_owned()
    }
}

fn sound() -> Value {
    json!({ "result": "ok", "entries": 3, "bytes": 100 })
}

fn damaged() -> Value {
    json!({ "result": "damaged", "damage": "backup.tar.zst.enc is damaged: entry `srv/a`: its hash\u{0} is another" })
}

async fn a_sound_snapshot_shows_when_and_how_far_it_was_verified(scene: Scene) {
    let id = scene.aged(2).await;
    let before = scene.snapshot(&id).await;
    assert_eq!((&before["last_verified_at"], &before["verify_result"]), (&Value::Null, &Value::Null));
    let job = scene.found(&id, "quick", sound()).await;
    let (after, now) = (scene.snapshot(&id).await, json!(scene.world.clock.now()));
    assert_eq!((&after["last_verified_at"], &after["verified_at"]), (&now, &now));
    assert_eq!((&after["verified_depth"], &after["verify_result"]), (&json!("quick"), &json!("ok")));
    assert_eq!(after["verify_job_id"], json!(job));
    let job = scene.acme.member.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
    assert_eq!(job["status"], "completed");
    assert_eq!(job["verification"], json!({ "depth": "quick", "finding": sound() }));
    assert_eq!(scene.metric("xvault_snapshots_damaged").await, "0");
}

async fn damage_is_a_finding_and_is_shouted_about(scene: Scene) {
    let (old, id) = (scene.aged(4).await, scene.aged(2).await);
    let job = scene.found(&id, "deep", damaged()).await;
    let job = scene.acme.member.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
    assert_eq!(job["status"], "completed", "a verification that finds damage has done what it is for");
    let after = scene.snapshot(&id).await;
    assert_eq!((&after["verify_result"], &after["status"]), (&json!("damaged"), &json!("completed")));
    assert_eq!(after["damaged_at"], json!(scene.world.clock.now()));
    let what = "backup.tar.zst.enc is damaged: entry `srv/a`: its hash\u{fffd} is another";
    assert_eq!(after["damage"], what, "as it can be stored");
    assert_ne!(after["verified_at"], after["last_verified_at"], "it was not proven sound");
    assert_eq!(scene.damaged_list(true).await, std::slice::from_ref(&id));
    assert_eq!(scene.damaged_list(false).await, [old]);
    assert_eq!(scene.metric("xvault_snapshots_damaged").await, "1");
    assert_eq!(scene.metric("xvault_damage_found_total").await, "1");
    let event = scene.audited("snapshot.damaged").await.remove(0);
    assert_eq!((&event["target_id"], &event["details"]["damage"]), (&json!(id), &json!(what)));
    // What only a look inside has shown, hashes don't take back; another look inside does.
    scene.found(&id, "quick", sound()).await;
    assert_eq!(scene.snapshot(&id).await["verify_result"], "damaged");
    scene.found(&id, "deep", sound()).await;
    let healed = scene.snapshot(&id).await;
    assert_eq!((&healed["verify_result"], &healed["damage"]), (&json!("ok"), &Value::Null));
    assert_eq!(scene.audited("snapshot.sound").await[0]["target_id"], json!(id));
    assert_eq!(scene.metric("xvault_snapshots_damaged").await, "0");
}

async fn retention_gives_up_no_sound_snapshot_for_a_damaged_one(scene: Scene) {
    let (old, new) = (scene.aged(48).await, scene.aged(2).await);
    scene.found(&new, "quick", damaged()).await;
    scene.keep(json!({ "keep_last_n": 1 })).await;
    let plan = scene.plan().await;
    assert_eq!(plan["damaged"], 1);
    let decisions = plan["decisions"].as_array().unwrap();
    assert_eq!((decisions.len(), &decisions[0]["id"]), (1, &json!(old)));
    assert!(text(&decisions[0]["reasons"][0]).contains("only good"), "{plan}");
    assert_eq!(scene.retain().await["total_to_delete"], 0);
    assert_eq!(scene.snapshot(&new).await["status"], "completed", "no rule deletes a damaged one");
    let newer = scene.aged(1).await;
    // A sound one is newer now: the rule has its way with the old one, and with no other.
    scene.retain().await;
    assert_eq!(scene.snapshot(&old).await["status"], "deleting");
    assert_eq!(scene.snapshot(&new).await["status"], "completed");
    assert_eq!(scene.snapshot(&newer).await["status"], "completed");
}

async fn a_deletion_that_counted_on_a_damaged_snapshot_is_called_off(scene: Scene) {
    let (old, new) = (scene.aged(48).await, scene.aged(2).await);
    scene.keep(json!({ "keep_last_n": 1 })).await;
    scene.retain().await;
    assert_eq!(scene.snapshot(&old).await["status"], "deleting");
    scene.found(&new, "quick", damaged()).await;
    assert_eq!(scene.snapshot(&old).await["status"], "completed");
    let kept = scene.audited("snapshot.keep").await.remove(0);
    assert_eq!(kept["target_id"], json!(old));
}

async fn a_store_that_can_not_be_asked_marks_nothing(scene: Scene) {
    let id = scene.aged(2).await;
    let job = scene.begin(&id, "quick").await;
    scene.worker.fail(&job, "store", "the disk is away").await;
    let after = scene.snapshot(&id).await;
    assert_eq!((&after["verify_result"], &after["last_verified_at"]), (&Value::Null, &Value::Null));
    assert_eq!(scene.metric("xvault_snapshots_damaged").await, "0");
}

async fn a_verification_under_way_is_the_one_that_is_asked_for(scene: Scene) {
    let id = scene.aged(2).await;
    let quick = text(&scene.ask(&id, "quick").await.expect(202)["id"]);
    assert_eq!(scene.ask(&id, "quick").await.expect(202)["id"], json!(quick));
    let busy = scene.ask(&id, "deep").await.refused(409, "verify_running");
    assert_eq!(busy["details"]["job_id"], json!(quick));
    scene.acme.member.post(&format!("/api/v1/jobs/{quick}/cancel"), json!({})).await.expect(200);
    let deep = text(&scene.ask(&id, "deep").await.expect(202)["id"]);
    assert_eq!(
        scene.ask(&id, "quick").await.expect(202)["id"],
        json!(deep),
        "it finds all that a quick one finds"
    );
    let retry = format!("/api/v1/jobs/{quick}/retry");
    scene.acme.member.post(&retry, json!({})).await.refused(409, "verify_running");
    let answer = scene.ask(&id, "thorough").await;
    assert_eq!(answer.status, 422, "{answer:?}");
}

async fn what_is_being_deleted_is_not_verified(scene: Scene) {
    let id = scene.aged(2).await;
    let failed = scene.begin(&id, "quick").await;
    scene.worker.fail(&failed, "store", "away").await;
    scene.acme.admin.delete(&format!("/api/v1/snapshots/{id}")).await.expect(202);
    scene.ask(&id, "quick").await.refused(409, "deleting");
    let retry = format!("/api/v1/jobs/{}/retry", failed.job_id);
    scene.acme.member.post(&retry, json!({})).await.refused(409, "deleting");
}

async fn only_a_look_inside_takes_the_tenants_identity(scene: Scene) {
    let id = scene.aged(2).await;
    for (depth, sealed) in [("quick", 0), ("deep", 1), ("restore_test", 1)] {
        let job = scene.begin(&id, depth).await;
        let Task::Verify(task) = &job.task else { panic!("{job:?}") };
        assert_eq!((task.depth.as_str(), task.identities.len()), (depth, sealed));
        for identities in &task.identities {
            let opened = identities.open(&scene.worker.identity).unwrap();
            let opened = xvault_core::secret::ExposeSecret::expose_secret(&opened);
            let identity: xvault_core::Identity =
                std::str::from_utf8(opened).unwrap().trim().parse().unwrap();
            assert_eq!(identity.recipient().to_string(), scene.acme.public_key);
        }
        let result = json!({ "type": "verify", "depth": depth, "finding": sound() });
        scene.worker.complete(&job, result).await;
    }
    assert_eq!(scene.audited("identity.release").await.len(), 2);
}

async fn without_the_tenants_identity_only_hashes_are_compared(scene: Scene) {
    let id = scene.aged(2).await;
    let earlier = text(&scene.ask(&id, "deep").await.expect(202)["id"]);
    scene.acme.member.post(&format!("/api/v1/jobs/{earlier}/cancel"), json!({})).await.expect(200);
    let taken = "UPDATE tenant_keys SET encrypted_private_key = NULL, kek_id = NULL";
    sqlx::query(taken).execute(&scene.world.database.sql().await).await.unwrap();
    let refusal = scene.ask(&id, "deep").await.refused(409, "no_identity");
    let command = format!("xvault verify {id} --store STORE --identity FILE");
    assert_eq!(refusal["details"]["command"], json!(command));
    let retry = format!("/api/v1/jobs/{earlier}/retry");
    scene.acme.member.post(&retry, json!({})).await.refused(409, "no_identity");
    scene.found(&id, "quick", sound()).await;
}

/// The identity of the platform's key stays here for old snapshots: it opens none of those that are encrypted to the tenant's own.
async fn what_opens_a_snapshot_is_asked_of_that_snapshot(scene: Scene) {
    let old = scene.aged(4).await;
    let own = xvault_core::Identity::generate().recipient();
    let new = scene.backed_up(2, |manifest| manifest.encryption_recipient = own).await;
    scene.ask(&new, "deep").await.refused(409, "no_identity");
    scene.ask(&new, "restore_test").await.refused(409, "no_identity");
    scene.ask(&old, "deep").await.expect(202);
    scene.ask(&new, "quick").await.expect(202);
}

async fn a_worker_can_not_do_something_else_than_it_was_told(scene: Scene) {
    let id = scene.aged(2).await;
    let job = scene.begin(&id, "quick").await;
    for result in [
        json!({ "type": "verify", "depth": "deep", "finding": sound() }),
        json!({ "type": "delete_snapshot" }),
    ] {
        let outcome = json!({ "status": "completed", "result": result });
        scene.worker.say(&job, "complete", json!({ "outcome": outcome })).await.refused(422, "invalid_field");
    }
    assert_eq!(scene.snapshot(&id).await["verify_result"], Value::Null);
}

on_both_engines!(super::Scene::set =>
    a_sound_snapshot_shows_when_and_how_far_it_was_verified,
    damage_is_a_finding_and_is_shouted_about,
    retention_gives_up_no_sound_snapshot_for_a_damaged_one,
    a_deletion_that_counted_on_a_damaged_snapshot_is_called_off,
    a_store_that_can_not_be_asked_marks_nothing,
    a_verification_under_way_is_the_one_that_is_asked_for,
    what_is_being_deleted_is_not_verified,
    only_a_look_inside_takes_the_tenants_identity,
    without_the_tenants_identity_only_hashes_are_compared,
    what_opens_a_snapshot_is_asked_of_that_snapshot,
    a_worker_can_not_do_something_else_than_it_was_told,
);
