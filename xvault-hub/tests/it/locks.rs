//! Object lock over HTTP: proven before it is set, put on what is written, waited for by everything that deletes; and second
//! stores that let nobody delete.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use xvault_core::protocol::{Assignment, StoreAccess, Task};
use xvault_core::{LockMode, ObjectLock};
use xvault_hub::Settings;

use crate::fake_worker::{FakeWorker, enqueue, key, ssh_source};
use crate::stores::new_store;
use crate::world::{Answer, Caller, Dialect, Tenant, World, text};

/// A tenant with a source whose snapshots go into a bucket of its own, and a worker; the hub's clock stands still.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) acme: Tenant,
    pub(crate) source: String,
    pub(crate) store: String,
    pub(crate) worker: FakeWorker,
}

/// What a worker says that saw all of this.
fn report(found: &[(&str, &str)]) -> Value {
    let seen = |(ability, found): &(&str, &str)| json!({ "ability": ability, "found": found, "seen": format!("{ability}: {found} was seen") });
    json!({ "observations": found.iter().map(seen).collect::<Vec<_>>() })
}

const ALL: &[(&str, &str)] = &[
    ("versioning", "yes"),
    ("delete_version", "yes"),
    ("object_lock", "yes"),
    ("governance_lock", "yes"),
    ("delete", "yes"),
];

fn days(days: u32) -> Value {
    json!({ "mode": "compliance", "span": { "kind": "days", "days": days } })
}

async fn saved(admin: &Caller, bucket: &str) -> String {
    let mut store = new_store(bucket);
    store["config"]["bucket"] = json!(bucket);
    text(&admin.post("/api/v1/stores", store).await.expect(201)["id"])
}

impl Scene {
    pub(crate) async fn set(dialect: Dialect) -> Self {
        let long = |settings: &mut Settings| settings.access_token = Duration::from_secs(1 << 30);
        let world = World::builder(dialect).manual_clock().settings(long).start().await;
        let acme = world.tenant("acme").await;
        let (_, source) = ssh_source(&acme.admin).await;
        let store = saved(&acme.admin, "first").await;
        acme.admin.put(&format!("/api/v1/sources/{source}"), json!({ "store_id": store })).await.expect(200);
        let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
        Self { world, acme, source, store, worker }
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn path(store: &str) -> String {
        format!("/api/v1/stores/{store}/object-lock")
    }

    /// Waits for the store's test, and does it.
    pub(crate) async fn tested(&self, found: &[(&str, &str)]) {
        let job = self.until_test().await;
        let job = self.worker.claim(&job).await;
        self.worker.complete(&job, json!({ "type": "test_store", "report": report(found) })).await;
    }

    pub(crate) async fn tests(&self) -> Vec<String> {
        let list =
            self.world.operator.get("/api/v1/admin/jobs?type=test_store&status=queued").await.expect(200);
        list["jobs"].as_array().unwrap().iter().map(|job| text(&job["id"])).collect()
    }

    async fn until_test(&self) -> String {
        for _ in 0..400 {
            if let Some(id) = self.tests().await.pop() {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody wants a store to be tested");
    }

    /// Asks for the lock, while a worker sees this of the store.
    async fn lock(&self, store: &str, lock: Value, found: &[(&str, &str)]) -> Answer {
        let path = Self::path(store);
        tokio::join!(self.acme.admin.put(&path, lock), self.tested(found)).0
    }

    async fn locked(&self, store: &str, lock: Value) {
        let shown = self.lock(store, lock.clone(), ALL).await.expect(200);
        assert_eq!(shown["object_lock"], lock);
    }

    async fn store(&self, id: &str) -> Value {
        self.acme.admin.get(&format!("/api/v1/stores/{id}")).await.expect(200)
    }

    /// A backup that is claimed, with what its objects are to be locked with.
    async fn begun(&self) -> (Assignment, Option<ObjectLock>) {
        let job = self.worker.claim(&enqueue(&self.acme.admin, &self.source).await).await;
        let Task::Backup(task) = &job.task else { panic!("{job:?}") };
        let StoreAccess::S3 { lock, all_versions, .. } = &task.store else { panic!("{task:?}") };
        assert_eq!(*all_versions, lock.is_some());
        let lock = *lock;
        (job, lock)
    }

    async fn report(&self, job: &Assignment, locked_until: Value) -> Answer {
        let (key, mut manifest) = (key(job), self.worker.manifest(job));
        (manifest.started_at, manifest.finished_at) = (self.now(), self.now());
        let object_key = format!("x/y/{}", key.prefix());
        let locator = json!({ "storage_backend": "s3", "bucket": "first", "object_key": object_key });
        let mut result = json!({ "type": "backup", "manifest": manifest, "locator": locator });
        if !locked_until.is_null() {
            result["locked_until"] = locked_until;
        }
        self.worker
            .say(job, "complete", json!({ "outcome": { "status": "completed", "result": result } }))
            .await
    }

    /// The path of a snapshot that is locked or not, as its store is.
    pub(crate) async fn backed_up(&self) -> String {
        let (job, lock) = self.begun().await;
        self.report(&job, json!(lock.map(|lock| lock.until))).await.expect(200);
        let Task::Backup(task) = &job.task else { panic!() };
        format!("/api/v1/snapshots/{}", task.snapshot_id)
    }

    pub(crate) async fn snapshot(&self, path: &str) -> Value {
        self.acme.member.get(path).await.expect(200)
    }

    /// Sets the second store; gives the job that copies the snapshot there, with what the copy is to be locked with.
    async fn copying(&self, path: &str, store: &str) -> (Assignment, Option<ObjectLock>) {
        let source = format!("/api/v1/sources/{}", self.source);
        self.acme.admin.put(&source, json!({ "replica_store_id": store })).await.expect(200);
        let list = async || {
            let list =
                self.world.operator.get("/api/v1/admin/jobs?type=replicate&status=queued").await.expect(200);
            list["jobs"].as_array().unwrap().first().map(|job| text(&job["id"]))
        };
        let job = self.worker.claim(&self.world.while_the_hub_runs(list).await).await;
        let Task::Replicate { snapshot, to: StoreAccess::S3 { lock, .. }, .. } = &job.task else {
            panic!("{job:?}")
        };
        assert!(path.ends_with(snapshot.snapshot_id.as_str()));
        let lock = *lock;
        (job, lock)
    }

    /// Reports a copy in `bucket`, which is locked until then.
    async fn tell_copy(&self, job: &Assignment, bucket: &str, until: Option<Timestamp>) -> Answer {
        let Task::Replicate { snapshot, .. } = &job.task else { panic!("{job:?}") };
        let object_key = format!("x/y/{}", snapshot.prefix());
        let locator = json!({ "storage_backend": "s3", "bucket": bucket, "object_key": object_key });
        let mut result = json!({ "type": "replicate", "locator": locator, "bytes": 7 });
        if let Some(until) = until {
            result["locked_until"] = json!(until);
        }
        let outcome = json!({ "status": "completed", "result": result });
        self.worker.say(job, "complete", json!({ "outcome": outcome })).await
    }

    /// Sets the second store, and copies the snapshot there, locked or not as that store is; the copy is reported to be in `bucket`.
    async fn copied(&self, path: &str, store: &str, bucket: &str) -> Option<ObjectLock> {
        let (job, lock) = self.copying(path, store).await;
        self.tell_copy(&job, bucket, lock.map(|lock| lock.until)).await.expect(200);
        lock
    }
}

/// So long that a request which was sent before has joined the test that is under way.
async fn moment() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn after(now: Timestamp, days: i64) -> Timestamp {
    let end = now + SignedDuration::from_hours(24 * days);
    Timestamp::from_second(end.as_second() + 1).unwrap()
}

async fn only_a_store_that_was_seen_to_keep_what_is_locked_is_set_to_lock(scene: Scene) {
    let (path, store) = (Scene::path(&scene.store), scene.store.as_str());
    let seen = |ability: &'static str, found: &'static str| {
        ALL.iter()
            .map(move |seen| if seen.0 == ability { (ability, found) } else { *seen })
            .collect::<Vec<_>>()
    };
    for (lock, found, words) in [
        (
            days(1),
            seen("object_lock", "no"),
            "the store does not keep what is locked: object_lock: no was seen",
        ),
        (days(1), seen("object_lock", "unknown"), "it could not be proven that the store keeps"),
        (days(1), vec![("delete", "yes")], "the worker is too old"),
        (days(1), vec![("versioning", "yes"), ("object_lock", "yes")], "the worker is too old"),
        (
            json!({ "mode": "governance", "span": { "kind": "policy" } }),
            seen("governance_lock", "no"),
            "governance_lock: no was seen",
        ),
    ] {
        let refused = scene.lock(store, lock, &found).await.refused(409, "lock_not_proven");
        let message = text(&refused["error"]);
        assert!(message.contains(words) && message.contains("Nothing was saved"), "{message}");
        assert_eq!(scene.store(store).await["object_lock"], json!(null));
    }
    let refused =
        scene.lock(store, days(1), &seen("object_lock", "no")).await.refused(409, "lock_not_proven");
    let observations = refused["details"]["observations"].as_array().unwrap();
    let told: Vec<_> = observations.iter().map(|one| (text(&one["ability"]), text(&one["found"]))).collect();
    let expected = [("versioning", "yes"), ("delete_version", "yes"), ("object_lock", "no")];
    assert_eq!(told, expected.map(|(ability, found)| (ability.to_owned(), found.to_owned())));
    // A mode is proven by itself.
    scene.lock(store, days(3), &seen("governance_lock", "no")).await.expect(200);
    let by_policy = json!({ "mode": "governance", "span": { "kind": "policy" } });
    let shown = scene.lock(store, by_policy, &seen("object_lock", "no")).await.expect(200);
    let span = json!({ "kind": "policy", "at_least_days": 1, "at_most_days": 365 });
    assert_eq!(shown["object_lock"], json!({ "mode": "governance", "span": span }));
    // A test that fails, one that takes longer, and nobody who could make one.
    let quick = format!("{path}?wait_seconds=0");
    let running = scene.acme.admin.put(&quick, days(1)).await.refused(409, "test_running");
    let job = scene.worker.claim(&text(&running["details"]["job_id"])).await;
    let failing = async {
        moment().await;
        scene.worker.fail(&job, "store_unreachable", "nobody answers").await;
    };
    let (refused, ()) = tokio::join!(scene.acme.admin.put(&path, days(1)), failing);
    let refused = refused.refused(409, "not_tested");
    assert!(text(&refused["error"]).contains("nobody answers"), "{refused}");
    assert_eq!(scene.store(store).await["object_lock"]["mode"], json!("governance"));
    scene.acme.admin.delete(&path).await.expect(204);
    scene.acme.admin.delete(&path).await.expect(204);
    assert_eq!(scene.store(store).await["object_lock"], json!(null));
    let events = scene.acme.admin.get("/api/v1/audit-events").await.expect(200)["audit_events"].clone();
    let deeds: Vec<_> = events.as_array().unwrap().iter().map(|event| text(&event["action"])).collect();
    let locks: Vec<_> = deeds.iter().filter(|deed| deed.ends_with("lock")).collect();
    assert_eq!(locks, ["store.unlock", "store.lock", "store.lock"]);
}

async fn what_a_lock_can_not_be_is_said_before_anything_is_tested(scene: Scene) {
    let path = Scene::path(&scene.store);
    for (span, field) in [
        (json!({ "kind": "days", "days": 0 }), "span.days"),
        (json!({ "kind": "days", "days": 36501 }), "span.days"),
        (json!({ "kind": "policy", "at_least_days": 0 }), "span.at_least_days"),
        (json!({ "kind": "policy", "at_most_days": 36501 }), "span.at_most_days"),
        (json!({ "kind": "policy", "at_least_days": 9, "at_most_days": 8 }), "span.at_most_days"),
    ] {
        let body = json!({ "mode": "compliance", "span": span });
        let refused = scene.acme.admin.put(&path, body).await.refused(422, "invalid_field");
        assert_eq!(refused["details"]["field"], json!(field), "{refused}");
    }
    let unknown = json!({ "mode": "compliance", "span": { "kind": "days", "days": 1, "hours": 2 } });
    scene.acme.admin.put(&path, unknown).await.refused(422, "invalid_field");
    scene.acme.member.put(&path, days(1)).await.refused(403, "forbidden");
    let shared =
        text(&scene.world.operator.post("/api/v1/stores", new_store("shared")).await.expect(201)["id"]);
    scene.acme.admin.put(&Scene::path(&shared), days(1)).await.refused(403, "forbidden");
    scene.acme.admin.delete(&Scene::path(&shared)).await.refused(403, "forbidden");
    assert_eq!(scene.tests().await, Vec::<String>::new());
    let path = Scene::path(&shared);
    let (set, ()) = tokio::join!(scene.world.operator.put(&path, days(1)), scene.tested(ALL));
    assert_eq!(set.expect(200)["object_lock"], days(1), "tested for one of the platform's tenants");
}

async fn a_store_with_a_lock_stays_where_that_was_proven(scene: Scene) {
    let path = format!("/api/v1/stores/{}", scene.store);
    let patch = async |body| scene.acme.admin.send(Method::PATCH, &path, Some(body)).await;
    scene.locked(&scene.store, days(1)).await;
    let config = |change: fn(&mut Value)| {
        let mut config = new_store("x")["config"].clone();
        config["bucket"] = json!("first");
        change(&mut config);
        json!({ "config": config })
    };
    let elsewhere = config(|config| config["endpoint"] = json!("https://s3.elsewhere.example"));
    patch(elsewhere.clone()).await.refused(409, "object_lock_set");
    patch(config(|config| config["bucket"] = json!("another"))).await.refused(409, "object_lock_set");
    patch(config(|config| config["prefix"] = json!("another"))).await.expect(200);
    let key = json!({ "access_key_id": "AK2", "secret_access_key": "less" });
    let shown = patch(json!({ "credential": key })).await.expect(200);
    assert_eq!((shown["object_lock"].clone(), shown["may_delete"].clone()), (days(1), json!(null)));
    scene.acme.admin.delete(&Scene::path(&scene.store)).await.expect(204);
    patch(elsewhere).await.expect(200);
    // Changed while it was tested: what was seen was perhaps another one.
    let running =
        scene.acme.admin.put(&format!("{}?wait_seconds=0", Scene::path(&scene.store)), days(1)).await;
    let job = scene.worker.claim(&text(&running.refused(409, "test_running")["details"]["job_id"])).await;
    scene.world.clock.advance(Duration::from_secs(1));
    patch(json!({ "name": "renamed" })).await.expect(200);
    let seen = async {
        moment().await;
        scene.worker.complete(&job, json!({ "type": "test_store", "report": report(ALL) })).await;
    };
    let lock_path = Scene::path(&scene.store);
    let (refused, ()) = tokio::join!(scene.acme.admin.put(&lock_path, days(1)), seen);
    refused.refused(409, "store_changed");
}

async fn a_snapshot_is_locked_as_long_as_its_policy_promises_and_stays(scene: Scene) {
    let span = json!({ "kind": "policy", "at_least_days": 2, "at_most_days": 30 });
    scene.locked(&scene.store, json!({ "mode": "governance", "span": span })).await;
    let path = format!("/api/v1/sources/{}/retention", scene.source);
    let keep = async |policy: Value| {
        scene.acme.admin.put(&path, json!({ "retention_policy": policy })).await.expect(200);
    };
    for (policy, long) in [
        (json!(null), 30),
        (json!({ "keep_last_n": 5 }), 2),
        (json!({ "keep_within": "7d", "keep_last_n": 1 }), 7),
    ] {
        keep(policy).await;
        let (job, lock) = scene.begun().await;
        let lock = lock.unwrap();
        assert_eq!((lock.mode, lock.until), (LockMode::Governance, after(scene.now(), long)));
        scene.worker.fail(&job, "store", "it broke").await;
    }
    let locked = scene.backed_up().await;
    let until = json!(after(scene.now(), 7));
    let shown = scene.snapshot(&locked).await;
    assert_eq!((&shown["locked_until"], &shown["locators"][0]["locked_until"]), (&until, &until));
    scene.acme.admin.delete(&Scene::path(&scene.store)).await.expect(204);
    scene.world.clock.advance(Duration::from_secs(3600));
    let free = scene.backed_up().await;
    assert_eq!(scene.snapshot(&free).await["locked_until"], json!(null));
    keep(json!({ "keep_last_n": 1, "may_delete_last": true })).await;
    let plan = scene.acme.member.get(&format!("{path}/plan")).await.expect(200);
    let old =
        plan["decisions"].as_array().unwrap().iter().find(|one| locked.ends_with(&text(&one["id"]))).unwrap();
    let reason = format!("locked until {}", until.as_str().unwrap());
    assert_eq!((&old["keep"], &old["reasons"]), (&json!(true), &json!([reason])));
    let refused = scene.acme.owner.delete(&locked).await.refused(409, "locked");
    assert_eq!(refused["details"]["locked_until"], until);
    // A minute before its end, and at its end.
    let end = after(scene.now(), 7).duration_since(scene.now()).unsigned_abs() - Duration::from_secs(3600);
    scene.world.clock.advance(end - Duration::from_secs(60));
    scene.acme.owner.delete(&locked).await.refused(409, "locked");
    scene.world.clock.advance(Duration::from_secs(60));
    let run = format!("/api/v1/admin/retention/run/{}", scene.source);
    scene.world.operator.post(&run, json!({})).await.expect(200);
    let deletion = text(&scene.acme.owner.delete(&locked).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    let Task::DeleteSnapshot { store: StoreAccess::S3 { all_versions, lock, .. }, .. } = &job.task else {
        panic!("{job:?}")
    };
    assert_eq!((*all_versions, *lock), (true, None), "it was locked here, whatever the store does now");
    scene.worker.complete(&job, json!({ "type": "delete_snapshot" })).await;
    let deletion = text(&scene.acme.owner.delete(&free).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    let Task::DeleteSnapshot { store: StoreAccess::S3 { all_versions, .. }, .. } = &job.task else {
        panic!()
    };
    assert!(!*all_versions);
}

async fn a_worker_must_have_locked_what_it_was_told_to(scene: Scene) {
    scene.locked(&scene.store, days(10)).await;
    let (job, lock) = scene.begun().await;
    let until = lock.unwrap().until;
    for lie in [json!(null), json!(until - SignedDuration::from_secs(1)), json!(after(scene.now(), 3000))] {
        let refused = scene.report(&job, lie).await.refused(422, "invalid_field");
        assert_eq!(refused["details"]["field"], json!("outcome.result.locked_until"));
    }
    scene.report(&job, json!(until)).await.expect(200);
    scene.acme.admin.delete(&Scene::path(&scene.store)).await.expect(204);
    let (job, lock) = scene.begun().await;
    assert_eq!(lock, None);
    scene.report(&job, json!(until)).await.refused(422, "invalid_field");
}

/// What is queued is not begun while a copy that goes with it is locked.
async fn a_deletion_waits_for_the_lock_of_a_copy(scene: Scene) {
    let second = saved(&scene.acme.admin, "second").await;
    scene.locked(&second, days(5)).await;
    let path = scene.backed_up().await;
    let lock = scene.copied(&path, &second, "second").await.unwrap();
    let shown = scene.snapshot(&path).await;
    let until = json!(lock.until);
    let ends: Vec<_> = shown["locators"].as_array().unwrap().iter().map(|one| &one["locked_until"]).collect();
    assert_eq!((&shown["locked_until"], ends), (&until, vec![&json!(null), &until]));
    scene.acme.owner.delete(&path).await.refused(409, "locked");
    // Asked for before the copy was there, and wanted by retention.
    for asked_by in ["'somebody'", "NULL"] {
        let sql = scene.world.database.sql().await;
        sqlx::query("UPDATE snapshots SET locked_until = NULL").execute(&sql).await.unwrap();
        let deletion = text(&scene.acme.owner.delete(&path).await.expect(202)["id"]);
        let text_of = format!("UPDATE jobs SET created_by = {asked_by} WHERE type = 'delete_snapshot'");
        sqlx::query(sqlx::AssertSqlSafe(text_of)).execute(&sql).await.unwrap();
        sqlx::query("UPDATE snapshots SET locked_until = $1")
            .bind(lock.until.as_millisecond())
            .execute(&sql)
            .await
            .unwrap();
        let claim = json!({ "job_id": deletion });
        let answer = scene.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
        assert!(text(&answer["reason"]).contains("locked until"), "{answer}");
        let job = scene.acme.admin.get(&format!("/api/v1/jobs/{deletion}")).await.expect(200);
        assert_eq!((text(&job["status"]), text(&job["error_code"])), ("canceled".into(), "locked".into()));
        assert_eq!(scene.snapshot(&path).await["status"], json!("completed"));
    }
    scene.world.clock.advance(lock.until.duration_since(scene.now()).unsigned_abs());
    let deletion = text(&scene.acme.owner.delete(&path).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    let Task::DeleteSnapshot { copies, .. } = &job.task else { panic!("{job:?}") };
    assert!(matches!(&copies[0].access, StoreAccess::S3 { all_versions: true, .. }));
}

async fn a_second_store_is_tested_when_it_is_named_and_keeps_its_copies_where_nobody_may_delete(
    scene: Scene,
) {
    let second = saved(&scene.acme.admin, "second").await;
    assert_eq!(scene.tests().await, Vec::<String>::new(), "it is nobody's second store yet");
    let path = scene.backed_up().await;
    let source = format!("/api/v1/sources/{}", scene.source);
    scene.acme.admin.put(&source, json!({ "replica_store_id": second })).await.expect(200);
    scene.tested(&[("write", "yes"), ("delete", "no"), ("read", "no")]).await;
    assert_eq!(scene.store(&second).await["may_delete"], json!(false));
    assert_eq!(scene.copied(&path, &second, "second").await, None);
    let shown = scene.snapshot(&path).await;
    let may: Vec<_> = shown["locators"].as_array().unwrap().iter().map(|one| &one["may_delete"]).collect();
    assert_eq!(may, [&json!(null), &json!(false)]);
    let deletion = text(&scene.acme.owner.delete(&path).await.expect(202)["id"]);
    let job = scene.worker.claim(&deletion).await;
    let Task::DeleteSnapshot { copies, copies_kept, .. } = &job.task else { panic!("{job:?}") };
    assert_eq!(
        (copies.len(), copies_kept.iter().map(xvault_core::StoreId::as_str).collect::<Vec<_>>()),
        (0, vec![&*second])
    );
    let result = json!({ "type": "delete_snapshot", "copies_kept": copies_kept });
    // Another credential meanwhile does not make it gone.
    scene.world.clock.advance(Duration::from_secs(1));
    let key = json!({ "credential": { "access_key_id": "AK2", "secret_access_key": "more" } });
    let store = format!("/api/v1/stores/{second}");
    scene.acme.admin.send(Method::PATCH, &store, Some(key)).await.expect(200);
    scene.tested(&[("delete", "yes")]).await;
    assert_eq!(scene.store(&second).await["may_delete"], json!(true));
    scene.worker.complete(&job, result).await;
    let done = scene.acme.admin.get(&format!("/api/v1/jobs/{deletion}")).await.expect(200);
    assert_eq!(done["copies_kept"], json!([second]), "{done}");
    let sql = scene.world.database.sql().await;
    let (status,): (String,) =
        sqlx::query_as("SELECT status FROM snapshot_copies").fetch_one(&sql).await.unwrap();
    assert_eq!(status, "kept");
}

/// Its policy counts from the backup on, however late the copy is made.
async fn a_copy_is_locked_for_no_longer_than_its_snapshot_is_promised(scene: Scene) {
    let policy = json!({ "retention_policy": { "keep_within": "7d", "keep_last_n": 1 } });
    scene.acme.admin.put(&format!("/api/v1/sources/{}/retention", scene.source), policy).await.expect(200);
    let second = saved(&scene.acme.admin, "second").await;
    let span = json!({ "kind": "policy", "at_least_days": 1, "at_most_days": 30 });
    scene.locked(&second, json!({ "mode": "governance", "span": span })).await;
    let path = scene.backed_up().await;
    let promised = after(scene.now(), 7);
    scene.world.clock.advance(Duration::from_secs(2 * 24 * 3600));
    let (_, lock) = scene.copying(&path, &second).await;
    assert_eq!(lock.unwrap().until, promised);
}

/// It was made when the store locked for longer, by a run that nobody was told of.
async fn a_copy_that_was_there_may_be_locked_for_longer_than_asked(scene: Scene) {
    let second = saved(&scene.acme.admin, "second").await;
    scene.locked(&second, days(5)).await;
    let path = scene.backed_up().await;
    let (job, lock) = scene.copying(&path, &second).await;
    let asked = lock.unwrap().until;
    let (shorter, longer) = (asked - SignedDuration::from_secs(1), asked + SignedDuration::from_hours(24));
    for until in [None, Some(shorter)] {
        let refused = scene.tell_copy(&job, "second", until).await.refused(422, "invalid_field");
        assert_eq!(refused["details"]["field"], json!("outcome.result.locked_until"), "{refused}");
    }
    scene.tell_copy(&job, "second", Some(longer)).await.expect(200);
    let shown = scene.snapshot(&path).await;
    assert_eq!(
        (&shown["locked_until"], &shown["locators"][1]["locked_until"]),
        (&json!(longer), &json!(longer))
    );
    scene.acme.owner.delete(&path).await.refused(409, "locked");
}

/// Its lock is nothing to the snapshot, for it stays in any case.
async fn a_locked_copy_that_nobody_may_delete_holds_nothing_up(scene: Scene) {
    let second = saved(&scene.acme.admin, "second").await;
    scene.locked(&second, days(50)).await;
    scene.world.clock.advance(Duration::from_secs(1));
    let key = json!({ "credential": { "access_key_id": "AK2", "secret_access_key": "less" } });
    let store = format!("/api/v1/stores/{second}");
    scene.acme.admin.send(Method::PATCH, &store, Some(key)).await.expect(200);
    let path = scene.backed_up().await;
    let source = format!("/api/v1/sources/{}", scene.source);
    scene.acme.admin.put(&source, json!({ "replica_store_id": second })).await.expect(200);
    // It may hide what lies there, but delete no version.
    scene.tested(&[("delete", "yes"), ("delete_version", "no"), ("object_lock", "unknown")]).await;
    let shown = scene.store(&second).await;
    assert_eq!((&shown["may_delete"], &shown["object_lock"]), (&json!(false), &days(50)));
    let lock = scene.copied(&path, &second, "second").await.unwrap();
    let fifty_days = lock.until.duration_since(scene.world.clock.now()).as_secs() / 86_400;
    assert_eq!((lock.mode, fifty_days), (LockMode::Compliance, 50));
    let shown = scene.snapshot(&path).await;
    assert_eq!(
        (&shown["locked_until"], &shown["locators"][1]["locked_until"]),
        (&json!(null), &json!(lock.until))
    );
    scene.acme.owner.delete(&path).await.expect(202);
}

async fn the_stores_that_stores_name_and_rotated_credentials_are_tested_too(scene: Scene) {
    let acme = &scene.acme;
    let plain = json!({ "access_key_id": "AK", "secret_access_key": "s" }).to_string();
    let encoded = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let body = json!({ "kind": "storage", "name": "key", "plaintext": encoded(&plain) });
    let credential = text(&acme.admin.post("/api/v1/credentials", body).await.expect(201)["id"]);
    let mut second = new_store("second");
    second["config"]["bucket"] = json!("second");
    second.as_object_mut().unwrap().remove("credential");
    second["credential_id"] = json!(credential);
    let second = text(&acme.admin.post("/api/v1/stores", second).await.expect(201)["id"]);
    let first = format!("/api/v1/stores/{}", scene.store);
    acme.admin.send(Method::PATCH, &first, Some(json!({ "replica_id": second }))).await.expect(200);
    scene.tested(&[("delete", "yes")]).await;
    assert_eq!(scene.store(&second).await["may_delete"], json!(true));
    // What another secret may do is found out at once; what could not be found out, hours later.
    scene.world.clock.advance(Duration::from_secs(1));
    let rotate = format!("/api/v1/credentials/{credential}/rotate");
    acme.admin.post(&rotate, json!({ "plaintext": encoded(&plain) })).await.expect(200);
    assert_eq!(scene.store(&second).await["may_delete"], json!(null));
    scene.tested(&[("write", "no"), ("delete", "unknown")]).await;
    assert_eq!(scene.store(&second).await["may_delete"], json!(null));
    let rename = json!({ "name": "first" });
    scene.world.clock.advance(Duration::from_secs(6 * 3600 - 1));
    acme.admin.send(Method::PATCH, &first, Some(rename.clone())).await.expect(200);
    moment().await;
    assert_eq!(scene.tests().await, Vec::<String>::new());
    scene.world.clock.advance(Duration::from_secs(2));
    acme.admin.send(Method::PATCH, &first, Some(rename)).await.expect(200);
    scene.tested(&[("delete", "no")]).await;
    assert_eq!(scene.store(&second).await["may_delete"], json!(false));
}

on_both_engines!(
    super::Scene::set =>
    only_a_store_that_was_seen_to_keep_what_is_locked_is_set_to_lock,
    what_a_lock_can_not_be_is_said_before_anything_is_tested,
    a_store_with_a_lock_stays_where_that_was_proven,
    a_snapshot_is_locked_as_long_as_its_policy_promises_and_stays,
    a_worker_must_have_locked_what_it_was_told_to,
    a_deletion_waits_for_the_lock_of_a_copy,
    a_second_store_is_tested_when_it_is_named_and_keeps_its_copies_where_nobody_may_delete,
    a_copy_is_locked_for_no_longer_than_its_snapshot_is_promised,
    a_copy_that_was_there_may_be_locked_for_longer_than_asked,
    a_locked_copy_that_nobody_may_delete_holds_nothing_up,
    the_stores_that_stores_name_and_rotated_credentials_are_tested_too,
);
