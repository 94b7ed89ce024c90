//! A place is lost, and the database is not: what has a copy lies there from then on, and whose worker is gone is done with.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Row as _;
use xvault_core::protocol::Task;
use xvault_core::{Manifest, SnapshotId};
use xvault_hub::recovery::{Orphans, Place, RecoveryError, forget_record, move_damaged};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::recovery::{bucket, manifest, orphans, rebuild, second, sound};
use crate::world::{Tenant, World, text};

/// The empty directory of a worker that was on fire.
fn lost_disk() -> Place {
    Place::of_store("/var/lib/xvault/backups", Some("w1".parse().unwrap()))
}

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
        bucket(&world, "s2", None).await;
        Self { world, acme, source, worker }
    }

    async fn backed_up(&self) -> Manifest {
        let of_ssh = |manifest: &mut Manifest| manifest.source_type = "ssh".into();
        let id = self.worker.back_up_as(&enqueue(&self.acme.admin, &self.source).await, of_ssh).await;
        manifest(&self.world, &id).await
    }

    async fn copied(&self) -> Manifest {
        let manifest = self.backed_up().await;
        let done = rebuild(&self.world.db, &self.world.keys, &[sound(&manifest)], &second()).await.unwrap();
        assert_eq!(done.copies, 1);
        manifest
    }

    /// Every snapshot has another copy, in the store `s3`.
    async fn copied_into_a_third_place(&self) -> sqlx::AnyPool {
        let sql = self.world.database.sql().await;
        let copy = "INSERT INTO snapshot_copies
                (snapshot_id, store_id, tenant_id, source_id, bucket, object_key, job_id, copied_at, updated_at)
            SELECT id, 's3', tenant_id, source_id, 'third', 'copies/x', job_id, 0, 0 FROM snapshots";
        sqlx::query(copy).execute(&sql).await.unwrap();
        sql
    }

    /// A worker began to copy what is there.
    async fn copying_died(&self) -> sqlx::AnyPool {
        let sql = self.world.database.sql().await;
        let begun = "INSERT INTO copy_attempts (snapshot_id, store_id, tenant_id, source_id, begun_at)
            SELECT id, 's2', tenant_id, source_id, 0 FROM snapshots";
        sqlx::query(begun).execute(&sql).await.unwrap();
        sql
    }

    async fn lost(&self) -> Orphans {
        orphans(&self.world.db, &[], &lost_disk()).await.unwrap()
    }

    async fn forget(&self, id: &SnapshotId) {
        forget_record(&self.world.db, id).await.unwrap();
    }

    /// What a worker must be able to for the job, the store that it reads, and whose job it is.
    async fn needs(&self, id: &str) -> (Option<String>, Option<String>, Option<String>) {
        let job = "SELECT capability, store_id, target_worker_id FROM jobs WHERE id = $1";
        let row = sqlx::query(job).bind(id).fetch_one(&self.world.database.sql().await).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    async fn job(&self, id: &str) -> Value {
        self.world.operator.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
    }
}

fn path(manifest: &Manifest) -> String {
    format!("/api/v1/snapshots/{}", manifest.snapshot_id)
}

async fn what_has_a_copy_lies_there_once_its_disk_is_lost(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let (path, id) = (path(&manifest), manifest.snapshot_id.clone());
    let hold = json!({ "reason": "a lawsuit" });
    scene.acme.admin.put(&format!("{path}/hold"), hold).await.expect(200);
    assert_eq!(scene.lost().await.without_bytes, std::slice::from_ref(&id));
    scene.forget(&id).await;
    assert_eq!(scene.lost().await, Orphans::default());
    let shown = scene.acme.member.get(&path).await.expect(200);
    assert_eq!((&shown["storage_backend"], &shown["store_id"]), (&json!("s3"), &json!("s2")), "{shown}");
    assert_eq!((&shown["worker_id"], &shown["hold_reason"]), (&json!(null), &json!("a lawsuit")));
    let key = format!("copies/{}", manifest.key().prefix());
    assert_eq!((&shown["bucket"], &shown["object_key"]), (&json!("second"), &json!(key)));
    assert_eq!(shown["locators"].as_array().unwrap().len(), 1, "{shown}");
    let found = orphans(&scene.world.db, &[sound(&manifest)], &second()).await.unwrap();
    assert_eq!(found, Orphans { matching: 1, ..Orphans::default() });
    let done = rebuild(&scene.world.db, &scene.world.keys, &[sound(&manifest)], &second()).await.unwrap();
    assert_eq!((done.known, done.snapshots, done.copies), (1, 0, 0));
    let event = scene.acme.admin.get("/api/v1/audit-events?action=snapshot.move_record").await.expect(200);
    assert_eq!(event["audit_events"][0]["details"]["store_id"], json!("s2"));
    // Nothing needs the worker any more, and any other one deletes it where it lies now.
    scene.world.operator.delete("/api/v1/workers/w1").await.expect(204);
    scene.acme.admin.delete(&format!("{path}/hold")).await.expect(204);
    let job = scene.acme.owner.delete(&path).await.expect(202);
    assert_eq!((&job["target_worker_id"], &job["status"]), (&json!(null), &json!("queued")), "{job}");
}

/// What verifications found was of the bytes that are lost.
async fn what_lies_in_its_copy_is_neither_damaged_nor_proven_by_what_lay_elsewhere(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let path = path(&manifest);
    let verify = text(&scene.acme.admin.post(&format!("{path}/verify"), json!({})).await.expect(202)["id"]);
    let job = scene.worker.claim(&verify).await;
    let Task::Verify(task) = &job.task else { panic!("{job:?}") };
    let finding = json!({ "result": "damaged", "damage": "it is cut" });
    scene.worker.complete(&job, json!({ "type": "verify", "depth": task.depth, "finding": finding })).await;
    scene.acme.member.post(&format!("{path}/restore"), json!({})).await.refused(409, "damaged");
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE snapshots SET check_asked_at = 1").execute(&sql).await.unwrap();
    scene.forget(&manifest.snapshot_id).await;
    let asked = "SELECT COUNT(*) FROM snapshots WHERE check_asked_at IS NOT NULL";
    let asked: i64 = sqlx::query_scalar(asked).fetch_one(&sql).await.unwrap();
    assert_eq!(asked, 0, "the copy may be verified as soon as the snapshot is due");
    let shown = scene.acme.member.get(&path).await.expect(200);
    for field in ["verified_at", "fully_verified_at", "checked_at", "damaged_at", "damage"] {
        assert_eq!(shown[field], Value::Null, "{field}: {shown}");
    }
    assert!(!shown.to_string().contains("it is cut"), "{shown}");
    scene.acme.member.post(&format!("{path}/restore"), json!({})).await.expect(201);
}

/// Once it is known to be sound as far as the damage goes, the copy is the snapshot.
async fn what_is_damaged_where_it_lies_moves_to_a_copy_that_was_verified(world: World) {
    let scene = Scene::set(world).await;
    let alone = scene.backed_up().await.snapshot_id;
    let manifest = scene.copied().await;
    let id = &manifest.snapshot_id;
    let other = FakeWorker::join(&scene.world, "w2", &["ssh", "s3"]).await;
    let key = json!({ "credential": { "access_key_id": "AK", "secret_access_key": "s" } });
    scene.world.operator.send(Method::PATCH, "/api/v1/stores/s2", Some(key)).await.expect(200);
    let db = &scene.world.db;
    let stays = async |id: &SnapshotId, place: &Place, told: &str| {
        let refused = move_damaged(db, id, place, false).await.unwrap_err();
        assert!(matches!(refused, RecoveryError::Kept { .. }), "{refused:?}");
        assert!(refused.to_string().contains(told), "{refused}");
    };
    let verified = async |by: &FakeWorker, id: &SnapshotId, body: Value, finding: Value| {
        let path = format!("/api/v1/snapshots/{id}/verify");
        let job = by.claim(&text(&scene.acme.admin.post(&path, body).await.expect(202)["id"])).await;
        stays(id, &lost_disk(), "works on it").await;
        let Task::Verify(task) = &job.task else { panic!("{job:?}") };
        by.complete(&job, json!({ "type": "verify", "depth": task.depth, "finding": finding })).await;
    };
    let (cut, sound_there) = (
        json!({ "result": "damaged", "damage": "it is cut" }),
        json!({ "result": "ok", "entries": 3, "bytes": 100 }),
    );
    stays(id, &lost_disk(), "no verification has found it damaged").await;
    for id in [id, &alone] {
        verified(&scene.worker, id, json!({ "depth": "deep" }), cut.clone()).await;
    }
    stays(&alone, &lost_disk(), "it has no copy").await;
    stays(id, &Place::of_store("/srv/elsewhere", Some("w1".parse().unwrap())), "elsewhere").await;
    stays(id, &Place::of_store("/var/lib/xvault/backups", Some("w2".parse().unwrap())), "elsewhere").await;
    stays(id, &second(), "elsewhere").await;
    stays(id, &lost_disk(), r#"{"depth": "deep", "from_store": "s2"}"#).await;
    verified(&other, id, json!({ "from_store": "s2" }), sound_there.clone()).await;
    stays(id, &lost_disk(), "no copy of it was verified").await;
    verified(&other, id, json!({ "depth": "deep", "from_store": "s2" }), cut).await;
    stays(id, &lost_disk(), "no copy of it was verified").await;
    verified(&other, id, json!({ "depth": "deep", "from_store": "s2" }), sound_there).await;

    let told = orphans(db, &[sound(&manifest)], &lost_disk()).await.unwrap();
    assert_eq!(told.known_damaged, [(id.clone(), "it is cut".to_owned())]);
    assert_eq!((told.matching, &told.without_bytes), (1, &vec![alone]));
    assert_eq!(move_damaged(db, id, &lost_disk(), false).await.unwrap().as_str(), "s2");
    let shown = scene.acme.member.get(&path(&manifest)).await.expect(200);
    assert_eq!((&shown["store_id"], &shown["damaged_at"]), (&json!("s2"), &Value::Null), "{shown}");
    assert_eq!((&shown["verify_result"], &shown["verified_depth"]), (&json!("ok"), &json!("deep")));
    assert_eq!(shown["locators"].as_array().unwrap().len(), 1, "{shown}");
    let events = scene.acme.admin.get("/api/v1/audit-events?action=snapshot.move_record").await.expect(200);
    assert_eq!(events["audit_events"][0]["details"]["why"], json!("it is damaged there"), "{events}");
    let restore = format!("{}/restore", path(&manifest));
    scene.acme.member.post(&restore, json!({})).await.expect(201);
    stays(id, &lost_disk(), "elsewhere").await;
}

async fn of_two_copies_the_one_that_is_not_known_to_be_damaged_becomes_the_snapshot(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    bucket(&scene.world, "s3", None).await;
    let sql = scene.copied_into_a_third_place().await;
    sqlx::query("UPDATE snapshot_copies SET damaged_at = 1, damage = 'torn', damage_depth = 'deep' WHERE store_id = 's3'")
        .execute(&sql)
        .await
        .unwrap();
    scene.forget(&manifest.snapshot_id).await;
    let shown = scene.acme.member.get(&path(&manifest)).await.expect(200);
    assert_eq!((&shown["store_id"], &shown["damaged_at"]), (&json!("s2"), &Value::Null), "{shown}");
}

async fn of_two_verified_copies_the_one_that_can_be_deleted_some_day_becomes_the_snapshot(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    bucket(&scene.world, "s3", None).await;
    let sql = scene.copied_into_a_third_place().await;
    for change in [
        "UPDATE snapshot_copies SET checked_at = 1, checked_depth = 'deep'",
        "UPDATE stores SET may_delete = 0 WHERE id = 's2'",
    ] {
        sqlx::query(change).execute(&sql).await.unwrap();
    }
    let moved = move_damaged(&scene.world.db, &manifest.snapshot_id, &lost_disk(), true).await.unwrap();
    assert_eq!(moved.as_str(), "s3");
}

async fn what_lies_in_a_locked_copy_is_locked_as_long(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE snapshot_copies SET locked_until = 4102444800000").execute(&sql).await.unwrap();
    scene.forget(&manifest.snapshot_id).await;
    let shown = scene.acme.member.get(&path(&manifest)).await.expect(200);
    assert_eq!(shown["locked_until"], json!("2100-01-01T00:00:00Z"), "{shown}");
    scene.acme.owner.delete(&path(&manifest)).await.refused(409, "locked");
}

/// Nothing needs to have looked at it when its manifest can't be read.
async fn what_a_listing_shows_to_be_damaged_moves_to_a_verified_copy(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE snapshot_copies SET checked_at = 1, checked_depth = 'quick'")
        .execute(&sql)
        .await
        .unwrap();
    let (db, id) = (&scene.world.db, &manifest.snapshot_id);
    move_damaged(db, id, &lost_disk(), false).await.unwrap_err();
    assert_eq!(move_damaged(db, id, &lost_disk(), true).await.unwrap().as_str(), "s2");
}

/// Its tools are needed wherever it reads, and the store that somebody chose is another one, or is lost.
async fn a_restore_that_waits_for_a_lost_place_goes_on_in_the_copy_with_the_same_tools(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    bucket(&scene.world, "s3", None).await;
    let config = json!({
        "host": "h.example", "port": 22, "username": "web", "paths": ["/home/web"], "use_password": true,
        "host_key": format!("SHA256:{}", "a".repeat(43)),
    });
    scene
        .acme
        .admin
        .put(&format!("/api/v1/sources/{}", scene.source), json!({ "config": config }))
        .await
        .expect(200);
    let asked = async |body: Value| {
        let path = format!("{}/restore", path(&manifest));
        text(&scene.acme.member.post(&path, body).await.expect(201)["id"])
    };
    let back = json!({ "type": "server", "path": "/home/web/back" });
    let [server, download] = [asked(json!({ "target": back })).await, asked(json!({})).await];
    let chosen = asked(json!({ "from_store": "s2", "target": back })).await;
    let before = scene.needs(&chosen).await;
    scene.forget(&manifest.snapshot_id).await;
    let needs = |tools: &str| (Some(tools.to_owned()), Some("s2".to_owned()), None);
    assert_eq!(scene.needs(&server).await, needs("ssh+s3"));
    assert_eq!(scene.needs(&download).await, needs("s3"));
    assert_eq!(scene.needs(&chosen).await, before, "it reads the copy as it did");
    // The bucket is lost, too, and there is another one.
    let sql = scene.copied_into_a_third_place().await;
    scene.forget(&manifest.snapshot_id).await;
    for (id, tools) in [(&server, "ssh+s3"), (&download, "s3"), (&chosen, "ssh+s3")] {
        let moved = (Some(tools.to_owned()), Some("s3".to_owned()), None);
        assert_eq!(scene.needs(id).await, moved, "{tools}");
    }
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE payload LIKE '%from_store%'")
        .fetch_one(&sql)
        .await
        .unwrap();
    assert_eq!(left, 0, "nobody looks any more where it was chosen");
}

async fn what_was_under_way_on_the_lost_disk_goes_on_in_the_copy(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let deletion = text(&scene.acme.owner.delete(&path(&manifest)).await.expect(202)["id"]);
    assert_eq!(scene.lost().await.deleting_without_bytes, std::slice::from_ref(&manifest.snapshot_id));
    scene.forget(&manifest.snapshot_id).await;
    let job = scene.job(&deletion).await;
    assert_eq!((&job["status"], &job["target_worker_id"]), (&json!("queued"), &json!(null)), "{job}");
    scene.world.operator.delete("/api/v1/workers/w1").await.expect(204);
    let shown = scene.acme.member.get(&path(&manifest)).await.expect(200);
    assert_eq!((&shown["status"], &shown["store_id"]), (&json!("deleting"), &json!("s2")));
}

async fn what_has_no_copy_is_gone_with_all_that_waits_for_it(world: World) {
    let scene = Scene::set(world).await;
    let [deleted, other] = [scene.backed_up().await, scene.backed_up().await];
    let deletion = text(&scene.acme.owner.delete(&path(&deleted)).await.expect(202)["id"]);
    let verify = scene.acme.admin.post(&format!("{}/verify", path(&other)), json!({})).await.expect(202);
    for manifest in [&deleted, &other] {
        scene.forget(&manifest.snapshot_id).await;
        scene.acme.member.get(&path(manifest)).await.refused(404, "not_found");
    }
    for id in [deletion, text(&verify["id"])] {
        let job = scene.job(&id).await;
        assert_eq!((&job["status"], &job["error_code"]), (&json!("canceled"), &json!("snapshot_gone")));
    }
    scene.world.operator.delete("/api/v1/workers/w1").await.expect(204);
}

async fn what_is_held_or_worked_on_keeps_its_record(world: World) {
    let scene = Scene::set(world).await;
    let [held, deleted] = [scene.backed_up().await, scene.backed_up().await];
    let hold = json!({ "reason": "a lawsuit" });
    scene.acme.admin.put(&format!("{}/hold", path(&held)), hold).await.expect(200);
    let deletion = text(&scene.acme.owner.delete(&path(&deleted)).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    assert!(matches!(job.task, Task::DeleteSnapshot { .. }));
    assert_eq!(scene.lost().await.deleting_without_bytes, [], "its worker is at it");
    for (manifest, told) in [(&held, "a lawsuit"), (&deleted, deletion.as_str())] {
        let refused = forget_record(&scene.world.db, &manifest.snapshot_id).await.unwrap_err();
        assert!(matches!(refused, RecoveryError::Kept { .. }), "{refused:?}");
        assert!(refused.to_string().contains(told), "{refused}");
        scene.acme.member.get(&path(manifest)).await.expect(200);
    }
}

/// Its row of a copy was left behind, as it was before.
async fn a_copy_whose_record_was_lost_is_told_and_comes_back_once(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let sql = scene.world.database.sql().await;
    sqlx::query("DELETE FROM snapshots").execute(&sql).await.unwrap();
    let found = [sound(&manifest)];
    let told = orphans(&scene.world.db, &found, &second()).await.unwrap();
    assert_eq!((told.without_record, told.matching), (vec![manifest.snapshot_id.clone()], 0));
    sqlx::query("UPDATE stores SET may_delete = 0").execute(&sql).await.unwrap();
    sqlx::query("DELETE FROM store_sweeps").execute(&sql).await.unwrap();
    let done = rebuild(&scene.world.db, &scene.world.keys, &found, &second()).await.unwrap();
    assert!(done.undeletable, "whoever puts it back is told that it stays");
    let swept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM store_sweeps").fetch_one(&sql).await.unwrap();
    assert_eq!(swept, 1, "the part of the store is swept from now on");
    let shown = scene.acme.member.get(&path(&manifest)).await.expect(200);
    assert_eq!((&shown["store_id"], shown["locators"].as_array().unwrap().len()), (&json!("s2"), 1));
}

/// Somebody deleted it, and its store kept the copy: it is no snapshot again.
async fn a_copy_that_stayed_when_its_snapshot_was_deleted_does_not_come_back(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.copied().await;
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE stores SET may_delete = 0").execute(&sql).await.unwrap();
    let deletion = text(&scene.acme.owner.delete(&path(&manifest)).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    let Task::DeleteSnapshot { copies_kept, .. } = &job.task else { panic!("{job:?}") };
    let result = json!({ "type": "delete_snapshot", "copies_kept": copies_kept });
    scene.worker.complete(&job, result).await;
    scene.acme.member.get(&path(&manifest)).await.refused(404, "not_found");
    let found = [sound(&manifest)];
    let done = rebuild(&scene.world.db, &scene.world.keys, &found, &second()).await.unwrap();
    assert_eq!((done.snapshots, done.known, done.left_out), (0, 1, vec![]));
    scene.acme.member.get(&path(&manifest)).await.refused(404, "not_found");
    assert_eq!(orphans(&scene.world.db, &found, &second()).await.unwrap().matching, 1);
}

/// As one that a worker made and never told of.
async fn a_copy_that_waits_for_a_sweep_does_not_come_back(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.backed_up().await;
    scene.copying_died().await;
    let deletion = text(&scene.acme.owner.delete(&path(&manifest)).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    scene.worker.complete(&job, json!({ "type": "delete_snapshot" })).await;
    let found = [sound(&manifest)];
    assert_eq!(orphans(&scene.world.db, &found, &second()).await.unwrap(), Orphans::default());
    let done = rebuild(&scene.world.db, &scene.world.keys, &found, &second()).await.unwrap();
    assert_eq!((done.snapshots, done.known), (0, 1));
}

/// Only a deletion that was asked for takes what a copying may have left.
async fn what_is_lost_takes_no_copy_with_it_that_nobody_told_of(world: World) {
    let scene = Scene::set(world).await;
    let manifest = scene.backed_up().await;
    let sql = scene.copying_died().await;
    scene.forget(&manifest.snapshot_id).await;
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM copy_attempts").fetch_one(&sql).await.unwrap();
    assert_eq!(left, 0, "a sweep would be told to remove the only copy");
    let found = [sound(&manifest)];
    assert_eq!(orphans(&scene.world.db, &found, &second()).await.unwrap().without_record.len(), 1);
    let done = rebuild(&scene.world.db, &scene.world.keys, &found, &second()).await.unwrap();
    assert_eq!((done.snapshots, done.undeletable), (1, false));
}

on_both_engines!(
    what_has_a_copy_lies_there_once_its_disk_is_lost,
    what_is_damaged_where_it_lies_moves_to_a_copy_that_was_verified,
    of_two_copies_the_one_that_is_not_known_to_be_damaged_becomes_the_snapshot,
    of_two_verified_copies_the_one_that_can_be_deleted_some_day_becomes_the_snapshot,
    what_a_listing_shows_to_be_damaged_moves_to_a_verified_copy,
    what_lies_in_its_copy_is_neither_damaged_nor_proven_by_what_lay_elsewhere,
    what_lies_in_a_locked_copy_is_locked_as_long,
    a_restore_that_waits_for_a_lost_place_goes_on_in_the_copy_with_the_same_tools,
    what_was_under_way_on_the_lost_disk_goes_on_in_the_copy,
    what_has_no_copy_is_gone_with_all_that_waits_for_it,
    what_is_held_or_worked_on_keeps_its_record,
    a_copy_whose_record_was_lost_is_told_and_comes_back_once,
    a_copy_that_stayed_when_its_snapshot_was_deleted_does_not_come_back,
    a_copy_that_waits_for_a_sweep_does_not_come_back,
    what_is_lost_takes_no_copy_with_it_that_nobody_told_of,
);
