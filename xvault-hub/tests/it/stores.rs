//! Stores over HTTP: whose they are, what is shown of them, and what keeps them.

use reqwest::Method;
use serde_json::{Value, json};
use xvault_core::S3Credential;
use xvault_core::protocol::{StoreAccess, Task};
use xvault_core::secret::ExposeSecret as _;

use crate::fake_worker::{FakeWorker, enqueue, key, ssh_source};
use crate::world::{Answer, Caller, World, text};

/// A store as it is asked for.
pub(crate) fn new_store(name: &str) -> Value {
    json!({
        "name": name,
        "kind": "s3",
        "config": { "bucket": "backups", "prefix": "x/y", "endpoint": "https://s3.example" },
        "credential": { "access_key_id": "AK", "secret_access_key": "hunter2" },
    })
}

/// A tenant's own bucket. Gives its id.
pub(crate) async fn bucket(admin: &Caller) -> String {
    text(&admin.post("/api/v1/stores", new_store("bucket")).await.expect(201)["id"])
}

async fn patch(caller: &Caller, id: &str, body: Value) -> Answer {
    caller.send(Method::PATCH, &format!("/api/v1/stores/{id}"), Some(body)).await
}

async fn get(caller: &Caller, id: &str) -> Value {
    caller.get(&format!("/api/v1/stores/{id}")).await.expect(200)
}

/// A source over SSH whose snapshots go there.
async fn source_into(admin: &Caller, store: &str) -> String {
    let (_, source) = ssh_source(admin).await;
    let path = format!("/api/v1/sources/{source}");
    let saved = admin.put(&path, json!({ "store_id": store })).await.expect(200);
    assert_eq!(saved["store_id"], json!(store));
    source
}

/// Reports the snapshot of a backup into the bucket of [`new_store`], with a locator that is changed before.
async fn report(
    worker: &FakeWorker,
    job: &xvault_core::protocol::Assignment,
    change: impl FnOnce(&mut Value),
) -> Answer {
    let (key, manifest) = (key(job), worker.manifest(job));
    let mut locator = json!({
        "storage_backend": "s3",
        "bucket": "backups",
        "object_key": format!("x/y/{}", key.prefix()),
        "etag": "\"e-1\"",
    });
    change(&mut locator);
    let result = json!({ "type": "backup", "manifest": manifest, "locator": locator });
    worker.say(job, "complete", json!({ "outcome": { "status": "completed", "result": result } })).await
}

async fn tenants_see_the_names_of_the_platforms_stores_and_all_of_their_own(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let shared = world.operator.post("/api/v1/stores", new_store("shared")).await.expect(201);
    assert_eq!(
        (shared["tenant_id"].clone(), shared["config"]["bucket"].clone()),
        (json!(null), json!("backups"))
    );
    let (shared, own) = (text(&shared["id"]), bucket(&acme.admin).await);
    let seen = get(&acme.owner, &shared).await;
    assert_eq!((text(&seen["name"]).as_str(), seen["config"].clone()), ("shared", json!(null)));
    assert_eq!(get(&acme.member, &own).await["config"]["prefix"], json!("x/y"));
    for (caller, names) in [
        (&acme.member, vec!["bucket", "shared"]),
        (&umbrella.owner, vec!["shared"]),
        (&world.operator, vec!["bucket", "shared"]),
    ] {
        let list = caller.get("/api/v1/stores").await.expect(200);
        let found: Vec<_> =
            list["stores"].as_array().unwrap().iter().map(|store| text(&store["name"])).collect();
        assert_eq!(found, names);
        assert!(!list.to_string().contains("hunter2"), "{list}");
    }
    patch(&acme.owner, &shared, json!({ "name": "mine" })).await.refused(403, "forbidden");
    acme.owner.delete(&format!("/api/v1/stores/{shared}")).await.refused(403, "forbidden");
    acme.owner.post("/api/v1/sources", source_body(&shared)).await.expect(201);
    let events = world.operator.get("/api/v1/audit-events").await.expect(200).to_string();
    assert!(events.contains("store.create") && !events.contains("hunter2"), "{events}");
}

/// Nobody sees, changes or uses it, and no job gets its credential, however it came to name it.
async fn a_tenants_own_bucket_is_nobody_elses(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let store = bucket(&acme.admin).await;
    let path = format!("/api/v1/stores/{store}");
    umbrella.owner.get(&path).await.refused(404, "not_found");
    patch(&umbrella.owner, &store, json!({ "name": "mine" })).await.refused(404, "not_found");
    umbrella.owner.delete(&path).await.refused(404, "not_found");
    umbrella.owner.post(&format!("{path}/test"), json!({})).await.refused(404, "not_found");
    umbrella.admin.post("/api/v1/sources", source_body(&store)).await.refused(404, "not_found");
    let plaintext = "eyJhY2Nlc3Nfa2V5X2lkIjoiQUsiLCJzZWNyZXRfYWNjZXNzX2tleSI6Imh1bnRlcjIifQ==";
    let kept = json!({ "kind": "storage", "name": "keys", "plaintext": plaintext });
    let kept = text(&acme.admin.post("/api/v1/credentials", kept).await.expect(201)["id"]);
    let mut with_theirs = new_store("x");
    with_theirs.as_object_mut().unwrap().remove("credential");
    with_theirs["credential_id"] = json!(kept);
    umbrella.owner.post("/api/v1/stores", with_theirs).await.refused(404, "not_found");
    let (_, source) = ssh_source(&umbrella.admin).await;
    let named = json!({ "store_id": store });
    umbrella.admin.put(&format!("/api/v1/sources/{source}"), named).await.refused(404, "not_found");
    let queued = enqueue(&umbrella.member, &source).await;
    sqlx::query("UPDATE sources SET store_id = $1 WHERE id = $2")
        .bind(&store)
        .bind(&source)
        .execute(&world.database.sql().await)
        .await
        .unwrap();
    let nothing = worker.caller.post("/internal/jobs/claim", json!({ "job_id": queued })).await.expect(200);
    assert_eq!(nothing["outcome"], json!("nothing"), "{nothing}");
    let failed = umbrella.member.get(&format!("/api/v1/jobs/{queued}")).await.expect(200);
    assert_eq!((&failed["status"], &failed["error_code"]), (&json!("failed"), &json!("store_gone")));
}

fn source_body(store: &str) -> Value {
    let config = json!({ "host": "h", "username": "u", "paths": ["/srv"] });
    json!({ "type": "ssh", "name": "x", "store_id": store, "config": config })
}

async fn what_a_store_can_not_be_is_said_with_the_field(world: World) {
    let acme = world.tenant("acme").await;
    let credential = json!({ "kind": "source", "name": "web", "plaintext": "dGVzdC1wYXNz" });
    let source_credential = text(&acme.admin.post("/api/v1/credentials", credential).await.expect(201)["id"]);
    let credential = json!({ "kind": "storage", "name": "web", "plaintext": "dGVzdC1wYXNz" });
    let no_json = text(&acme.admin.post("/api/v1/credentials", credential).await.expect(201)["id"]);
    let sts = json!({ "kind": "sts", "role_arn": "arn:aws:iam::1:role/x" });
    for (field, path, value) in [
        ("config.bucket", "/config/bucket", json!("No")),
        ("config.prefix", "/config/prefix", json!("../up")),
        ("config.endpoint", "/config/endpoint", json!("http://169.254.169.254")),
        ("config.endpoint", "/config/endpoint", json!("http://127.1:9000")),
        ("credential", "/credential", json!({ "access_key_id": "a b", "secret_access_key": "x" })),
        ("credential", "/credential", json!(null)),
        ("credential_id", "/credential_id", json!(source_credential)),
        ("scoping", "/scoping", sts.clone()),
        ("is_default", "/is_default", json!(true)),
    ] {
        let mut body = new_store("x");
        match body.pointer_mut(path) {
            Some(place) => *place = value,
            None => body[&path[1..]] = value,
        }
        let answer = acme.owner.post("/api/v1/stores", body).await.refused(422, "invalid_field");
        assert_eq!(answer["details"]["field"], json!(field), "{path}: {answer}");
    }
    for id in [source_credential, no_json] {
        let mut body = new_store("x");
        body.as_object_mut().unwrap().remove("credential");
        body["credential_id"] = json!(id);
        let answer = acme.owner.post("/api/v1/stores", body).await.refused(422, "invalid_field");
        assert_eq!(answer["details"]["field"], json!("credential_id"), "{answer}");
    }
    let own = bucket(&acme.admin).await;
    for endpoint in ["http://127.0.0.1:9000", "http://[::ffff:169.254.169.254]", "http://nas.local"] {
        let mut config = new_store("x")["config"].clone();
        config["endpoint"] = json!(endpoint);
        let moved = patch(&acme.owner, &own, json!({ "config": config })).await;
        let answer = moved.refused(422, "invalid_field");
        assert_eq!(answer["details"]["field"], json!("config.endpoint"), "{endpoint}: {answer}");
    }
    let mut private = new_store("nas");
    private["config"]["endpoint"] = json!("http://10.0.0.5:9000");
    private["scoping"] = sts;
    let made = world.operator.post("/api/v1/stores", private).await.expect(201);
    assert_eq!(made["scoped_credentials"], json!("sts"), "operators know their networks");
    let local = json!({ "name": "disk", "kind": "local_fs", "config": {} });
    acme.owner.post("/api/v1/stores", local).await.refused(422, "invalid_field");
}

async fn a_store_in_use_stays_where_it_is(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let acme = world.tenant("acme").await;
    let store = bucket(&acme.admin).await;
    let source = source_into(&acme.admin, &store).await;
    let path = format!("/api/v1/stores/{store}");
    let refused = acme.owner.delete(&path).await.refused(409, "in_use");
    assert_eq!(refused["details"]["sources"], json!(1));
    let job = worker.claim(&enqueue(&acme.member, &source).await).await;
    let moved = json!({ "store_id": null });
    acme.admin.put(&format!("/api/v1/sources/{source}"), moved).await.expect(200);
    let refused = acme.owner.delete(&path).await.refused(409, "in_use");
    assert_eq!((&refused["details"]["sources"], &refused["details"]["jobs"]), (&json!(0), &json!(1)));
    report(&worker, &job, |_| {}).await.expect(200);
    let saved =
        acme.admin.put(&format!("/api/v1/sources/{source}"), json!({ "store_id": null })).await.expect(200);
    assert_eq!(saved["store_id"], json!(null));
    let refused = acme.owner.delete(&path).await.refused(409, "in_use");
    assert_eq!(
        (refused["details"]["sources"].clone(), refused["details"]["snapshots"].clone()),
        (json!(0), json!(1))
    );
    let mut config = new_store("x")["config"].clone();
    config["prefix"] = json!("elsewhere");
    patch(&acme.owner, &store, json!({ "config": config })).await.refused(409, "in_use");
    // The server may move, and its snapshots with it.
    let mut config = new_store("x")["config"].clone();
    config["endpoint"] = json!("https://s3.elsewhere.example");
    patch(&acme.owner, &store, json!({ "config": config })).await.expect(200);
    let unused = bucket(&acme.admin).await;
    acme.owner.delete(&format!("/api/v1/stores/{unused}")).await.expect(204);
    acme.owner.get(&format!("/api/v1/stores/{unused}")).await.refused(404, "not_found");
}

async fn new_sources_get_the_default_store_unless_they_say_otherwise(world: World) {
    let acme = world.tenant("acme").await;
    let mut store = new_store("shared");
    store["is_default"] = json!(true);
    let first = text(&world.operator.post("/api/v1/stores", store.clone()).await.expect(201)["id"]);
    let second = text(&world.operator.post("/api/v1/stores", store).await.expect(201)["id"]);
    assert_eq!(get(&world.operator, &first).await["is_default"], json!(false), "there is one");
    let mut body = source_body(&first);
    let named = acme.admin.post("/api/v1/sources", body.clone()).await.expect(201);
    assert_eq!((named["store_id"].clone(), named["read_back"].clone()), (json!(first), json!("sample")));
    body.as_object_mut().unwrap().remove("store_id");
    assert_eq!(acme.admin.post("/api/v1/sources", body.clone()).await.expect(201)["store_id"], json!(second));
    body["store_id"] = json!(null);
    let disk = acme.admin.post("/api/v1/sources", body).await.expect(201);
    assert_eq!((disk["store_id"].clone(), disk["read_back"].clone()), (json!(null), json!("full")));
}

async fn a_disabled_store_takes_no_backups(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let acme = world.tenant("acme").await;
    let store = bucket(&acme.admin).await;
    let source = source_into(&acme.admin, &store).await;
    let queued = enqueue(&acme.member, &source).await;
    patch(&acme.admin, &store, json!({ "status": "disabled" })).await.expect(200);
    let nothing = worker.caller.post("/internal/jobs/claim", json!({ "job_id": queued })).await.expect(200);
    assert_eq!(nothing["outcome"], json!("nothing"));
    let failed = acme.member.get(&format!("/api/v1/jobs/{queued}")).await.expect(200);
    assert_eq!(
        (failed["status"].clone(), failed["error_code"].clone()),
        (json!("failed"), json!("disabled")),
        "{failed}"
    );
    let body = json!({ "source_id": source });
    acme.member.post("/api/v1/jobs", body).await.refused(409, "store_disabled");
}

/// What a worker says that is not so.
type Lie = fn(&mut Value);

async fn a_backup_into_a_store_gets_its_credential_sealed_and_is_believed_only_about_its_place(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let acme = world.tenant("acme").await;
    let store = bucket(&acme.admin).await;
    let source = source_into(&acme.admin, &store).await;
    let job = worker.claim(&enqueue(&acme.member, &source).await).await;
    let Task::Backup(task) = &job.task else { panic!("{job:?}") };
    let StoreAccess::S3 { settings, credential, read_credential, .. } = &task.store else {
        panic!("{task:?}")
    };
    assert_eq!(settings.to_string(), "s3://backups/x/y");
    assert_eq!(*read_credential, None, "this credential reads, too");
    let opened = credential.open(&worker.identity).unwrap();
    let opened = S3Credential::from_json(opened.expose_secret()).unwrap();
    assert_eq!((opened.access_key_id.as_str(), opened.secret_access_key.expose_secret()), ("AK", "hunter2"));
    let lies: [(&str, Lie); 4] = [
        ("outcome.result.locator.bucket", |locator| locator["bucket"] = json!("another")),
        ("outcome.result.locator.object_key", |locator| locator["object_key"] = json!("x/y/tenants/t")),
        ("outcome.result.locator.etag", |locator| locator["etag"] = json!("a\u{0}b")),
        ("outcome.result.locator.storage_backend", |locator| {
            *locator = json!({ "storage_backend": "local_fs", "worker_id": "w1", "local_path": "/b" });
        }),
    ];
    for (field, lie) in lies {
        let refused = report(&worker, &job, lie).await.refused(422, "invalid_field");
        assert_eq!(
            refused["details"]["field"].as_str().unwrap().trim_start_matches("outcome.result."),
            field.trim_start_matches("outcome.result."),
            "{refused}"
        );
    }
    report(&worker, &job, |_| {}).await.expect(200);
    let list = acme.member.get("/api/v1/snapshots").await.expect(200);
    let snapshot = &list["snapshots"][0];
    assert_eq!(snapshot["store_id"], json!(store));
    assert_eq!(snapshot["storage_backend"], json!("s3"));
    assert_eq!(snapshot["etag"], json!("\"e-1\""));
    assert_eq!(snapshot["worker_id"], json!(null));
    let events = acme.admin.get("/api/v1/audit-events").await.expect(200);
    let released = events["audit_events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["target_type"] == "store" && event["action"] == "credential.release")
        .unwrap();
    assert_eq!(released["target_id"], json!(store));
    assert!(!events.to_string().contains("hunter2"));
}

async fn the_encrypted_artifact_in_a_bucket_is_had_by_a_presigned_link(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let acme = world.tenant("acme").await;
    let store = bucket(&acme.admin).await;
    let source = source_into(&acme.admin, &store).await;
    let job = worker.claim(&enqueue(&acme.member, &source).await).await;
    report(&worker, &job, |_| {}).await.expect(200);
    let list = acme.member.get("/api/v1/snapshots").await.expect(200);
    let path = format!("/api/v1/snapshots/{}/download?what=artifact", text(&list["snapshots"][0]["id"]));
    let link = acme.member.get(&path).await.expect(200);
    let url = text(&link["url"]);
    assert!(url.starts_with("https://s3.example/backups/x/y/tenants/"), "{url}");
    assert!(
        url.contains("/backup.tar.zst.enc?")
            && url.contains("X-Amz-Expires=86")
            && url.contains("X-Amz-Signature="),
        "{url}"
    );
    assert!(!url.contains("hunter2") && text(&link["command"]).contains("age -d -i KEY"), "{link}");
    acme.member.get(&format!("{path}&once=true")).await.refused(400, "bad_request");
}

/// A snapshot on a worker's disk is that worker's; one in a bucket is anybody's who knows buckets.
async fn any_worker_that_knows_buckets_deletes_what_lies_in_one(world: World) {
    let (old, new) = (
        FakeWorker::join(&world, "old", &["ssh"]).await,
        FakeWorker::join(&world, "new", &["ssh", "s3"]).await,
    );
    let other = FakeWorker::join(&world, "other", &["s3"]).await;
    let acme = world.tenant("acme").await;
    let source = source_into(&acme.admin, &bucket(&acme.admin).await).await;
    let backup = enqueue(&acme.member, &source).await;
    for worker in [&old, &other] {
        let answer =
            worker.caller.post("/internal/jobs/claim", json!({ "job_id": backup })).await.expect(200);
        assert_eq!(answer["outcome"], json!("nothing"), "{answer}");
        let answer = worker.caller.post("/internal/jobs/claim", json!({})).await.expect(200);
        assert_eq!(answer["outcome"], json!("nothing"), "{answer}");
    }
    let claimed = new.caller.post("/internal/jobs/claim", json!({})).await.expect(200);
    assert_eq!(claimed["outcome"], json!("claimed"), "{claimed}");
    let job = serde_json::from_value(claimed).unwrap();
    let xvault_core::protocol::ClaimAnswer::Claimed(job) = job else { panic!() };
    report(&new, &job, |_| {}).await.expect(200);
    let snapshot = text(&acme.member.get("/api/v1/snapshots").await.expect(200)["snapshots"][0]["id"]);
    let deletion = acme.admin.delete(&format!("/api/v1/snapshots/{snapshot}")).await.expect(202);
    let answer = old.caller.post("/internal/jobs/claim", json!({})).await.expect(200);
    assert_eq!(answer["outcome"], json!("nothing"), "{answer}");
    let job = other.claim(&text(&deletion["id"])).await;
    let Task::DeleteSnapshot { snapshot: key, store: StoreAccess::S3 { settings, .. }, .. } = &job.task
    else {
        panic!("{job:?}")
    };
    assert_eq!((key.snapshot_id.as_str(), settings.bucket.as_str()), (snapshot.as_str(), "backups"));
    other.complete(&job, json!({ "type": "delete_snapshot" })).await;
    acme.member.get(&format!("/api/v1/snapshots/{snapshot}")).await.refused(404, "not_found");
}

/// What a worker says that saw a store.
fn observed(found: &str) -> Value {
    json!({ "observations": [{ "ability": "delete", "found": found, "seen": "the object was deleted" }] })
}

async fn a_test_is_one_job_for_all_who_ask_and_its_answer_is_kept(world: World) {
    let acme = world.tenant("acme").await;
    let shared = text(&world.operator.post("/api/v1/stores", new_store("shared")).await.expect(201)["id"]);
    let path = format!("/api/v1/stores/{shared}/test?wait_seconds=0");
    acme.admin.post(&path, json!({})).await.refused(409, "no_worker");
    let worker = FakeWorker::join(&world, "w1", &["s3"]).await;
    let first = acme.admin.post(&path, json!({})).await.expect(200);
    let again = acme.owner.post(&path, json!({})).await.expect(200);
    assert_eq!(
        (first["status"].clone(), first["job_id"].clone()),
        (json!("queued"), again["job_id"].clone())
    );
    world.operator.post(&path, json!({})).await.refused(400, "bad_request");
    acme.member.post(&path, json!({})).await.refused(403, "forbidden");
    let job = worker.claim(&text(&first["job_id"])).await;
    let Task::TestStore(task) = &job.task else { panic!("{job:?}") };
    assert_eq!(task.prefix, format!("tenants/{}/tests/{}", acme.id, job.job_id));
    assert!(matches!(task.store, StoreAccess::S3 { .. }));
    let huge = json!({ "observations": vec![observed("yes")["observations"][0].clone(); 1000] });
    let result =
        json!({ "outcome": { "status": "completed", "result": { "type": "test_store", "report": huge } } });
    worker.say(&job, "complete", result).await.refused(422, "invalid_field");
    worker.complete(&job, json!({ "type": "test_store", "report": observed("yes") })).await;
    assert_eq!(get(&world.operator, &shared).await["last_test"], observed("yes"));
    let seen = get(&acme.member, &shared).await;
    assert!(seen["tested_at"].is_string());
    let observation = &seen["last_test"]["observations"][0];
    assert_eq!((&observation["ability"], &observation["found"]), (&json!("delete"), &json!("yes")));
    let next = acme.admin.post(&path, json!({})).await.expect(200);
    assert_ne!(next["job_id"], first["job_id"]);
}

/// Where the platform's store is, and whose test it was: a tenant is told that it works or does not.
async fn of_the_platforms_stores_tenants_see_no_address(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let shared = text(&world.operator.post("/api/v1/stores", new_store("shared")).await.expect(201)["id"]);
    let own = bucket(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let words = format!("write tenants/{}/tests/x/wrong-digest: s3.example says BadDigest", acme.id);
    let report = json!({ "observations": [{ "ability": "checksums", "found": "yes", "seen": words }] });
    for (store, hidden) in [(&shared, true), (&own, false)] {
        let path = format!("/api/v1/stores/{store}/test?wait_seconds=0");
        let job = worker.claim(&text(&acme.admin.post(&path, json!({})).await.expect(200)["job_id"])).await;
        let asking = async || {
            let path = format!("/api/v1/stores/{store}/test?wait_seconds=20");
            acme.admin.post(&path, json!({})).await.expect(200)
        };
        let done = async || {
            // The answer must be on its way to somebody who waits.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            worker.complete(&job, json!({ "type": "test_store", "report": report })).await;
        };
        let (answer, ()) = tokio::join!(asking(), done());
        for shown in [answer["report"].clone(), get(&acme.owner, store).await["last_test"].clone()] {
            assert_eq!(shown["observations"][0]["found"], "yes", "{shown}");
            assert_eq!(shown.to_string().contains("s3.example"), !hidden, "{shown}");
        }
    }
    let list = umbrella.member.get("/api/v1/stores").await.expect(200).to_string();
    assert!(!list.contains("s3.example") && !list.contains(&acme.id), "{list}");
    assert_eq!(get(&world.operator, &shared).await["last_test"], report);
    for (store, told) in
        [(&shared, "write x: the store says SlowDown"), (&own, "write x: s3.example says SlowDown")]
    {
        let source = source_into(&acme.admin, store).await;
        let id = enqueue(&acme.member, &source).await;
        let job = worker.claim(&id).await;
        // As workers do: the line is the error.
        let line = json!({
            "seq": 0, "time": "2026-11-24T10:00:00Z", "level": "error",
            "message": "store: write x: s3.example says SlowDown",
        });
        worker.say(&job, "logs", json!({ "lines": [line] })).await.expect(200);
        worker.fail(&job, "store", "write x: s3.example says SlowDown").await;
        let job = acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
        assert_eq!(job["error_message"], told, "{job}");
        let logs = acme.member.get(&format!("/api/v1/jobs/{id}/logs")).await.expect(200);
        assert!(logs.to_string().contains(&format!("store: {told}")), "{logs}");
    }
}

/// Of what attempts left, a sweep is told what is over and not on record: once a day, by one of many hubs.
async fn what_lost_attempts_left_is_swept(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let acme = world.tenant("acme").await;
    let source = source_into(&acme.admin, &bucket(&acme.admin).await).await;
    let attempt = async || worker.claim(&enqueue(&acme.member, &source).await).await;
    let id = |job: &xvault_core::protocol::Assignment| match &job.task {
        Task::Backup(task) => task.snapshot_id.clone(),
        other => panic!("{other:?}"),
    };
    let lost = attempt().await;
    worker.fail(&lost, "store", "it broke").await;
    let done = attempt().await;
    report(&worker, &done, |_| {}).await.expect(200);
    let running = attempt().await;
    let sql = world.database.sql().await;
    let none = world.operator.get("/api/v1/jobs?type=sweep_store").await.expect(200);
    assert_eq!(none["jobs"], json!([]), "the first is a day away");
    sqlx::query("UPDATE store_sweeps SET next_at = 1").execute(&sql).await.unwrap();
    let made = async || {
        let list = world.operator.get("/api/v1/jobs?type=sweep_store").await.expect(200);
        list["jobs"].as_array().unwrap().first().map(|job| text(&job["id"]))
    };
    let sweep = world.while_the_hub_runs(made).await;
    let job = worker.claim(&sweep).await;
    let Task::SweepStore(task) = &job.task else { panic!("{job:?}") };
    let asked: Vec<_> = task.attempts.iter().map(|key| key.snapshot_id.clone()).collect();
    assert_eq!(asked, [id(&lost)], "not {} and {}", id(&done), id(&running));
    assert_eq!(task.prefix, format!("tenants/{}", acme.id));
    let swept =
        json!({ "removed": [id(&lost), id(&done)], "kept": [], "remains": 0, "in_use": 0, "failed": 0 });
    worker.complete(&job, json!({ "type": "sweep_store", "report": swept })).await;
    let left = async || {
        let rows = sqlx::query("SELECT snapshot_id FROM store_attempts ORDER BY snapshot_id")
            .fetch_all(&sql)
            .await
            .unwrap();
        rows.len()
    };
    assert_eq!(left().await, 2, "a worker that lost its job may still write: it is looked for again");
    let others = world.operator.get("/api/v1/jobs?type=sweep_store").await.expect(200);
    assert_eq!(others["jobs"].as_array().unwrap().len(), 1, "one a day");
}

on_both_engines!(
    a_tenants_own_bucket_is_nobody_elses,
    a_test_is_one_job_for_all_who_ask_and_its_answer_is_kept,
    of_the_platforms_stores_tenants_see_no_address,
    what_lost_attempts_left_is_swept,
    tenants_see_the_names_of_the_platforms_stores_and_all_of_their_own,
    what_a_store_can_not_be_is_said_with_the_field,
    a_store_in_use_stays_where_it_is,
    new_sources_get_the_default_store_unless_they_say_otherwise,
    a_disabled_store_takes_no_backups,
    a_backup_into_a_store_gets_its_credential_sealed_and_is_believed_only_about_its_place,
    the_encrypted_artifact_in_a_bucket_is_had_by_a_presigned_link,
    any_worker_that_knows_buckets_deletes_what_lies_in_one,
);
