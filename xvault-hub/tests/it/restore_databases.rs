//! Restores into databases: who may have a dump loaded where, what its worker is told, and who that can be.

use serde_json::{Value, json};
use xvault_core::DatabaseTarget;
use xvault_core::protocol::{Assignment, RestoreTarget, Sealed, StoreAccess, Task};
use xvault_core::secret::ExposeSecret as _;

use crate::chosen_store::COPY;
use crate::fake_worker::{FakeWorker, enqueue};
use crate::stores::bucket;
use crate::world::{Caller, Dialect, Tenant, World, text};

const PASSWORD: &str = "the-password-of-the-shop";

/// A tenant with a snapshot of a database on the disk of `w1`, which has the tools.
pub(crate) struct Shop {
    world: World,
    acme: Tenant,
    worker: FakeWorker,
    source: String,
    snapshot: String,
}

/// A database, with a password, on a server of that name.
async fn source(admin: &Caller, kind: &str, host: &str, change: &Value) -> String {
    use base64::Engine as _;
    let plaintext = base64::engine::general_purpose::STANDARD.encode(PASSWORD);
    let credential = json!({ "kind": "source", "name": host, "plaintext": plaintext });
    let credential = text(&admin.post("/api/v1/credentials", credential).await.expect(201)["id"]);
    let mut config = json!({ "host": host, "username": "keeper", "database": "shop", "use_password": true });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let body = json!({ "type": kind, "name": host, "credential_id": credential, "config": config });
    text(&admin.post("/api/v1/sources", body).await.expect(201)["id"])
}

/// As it is asked for.
fn wish(change: &Value) -> Value {
    let mut target = json!({ "type": "database", "entry": "/database/shop.dump", "database": "shop_copy" });
    target.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "target": target })
}

impl Shop {
    pub(crate) async fn set(engine: Dialect) -> Self {
        let world = World::builder(engine).manual_clock().start().await;
        let worker = FakeWorker::join(&world, "w1", &["ssh", "postgres", "mysql", "s3"]).await;
        let acme = world.tenant("acme").await;
        let source = source(&acme.admin, "postgres", "db.example", &json!({})).await;
        let snapshot = worker.back_up(&enqueue(&acme.member, &source).await).await;
        Self { world, acme, worker, source, snapshot }
    }

    fn path(&self) -> String {
        format!("/api/v1/snapshots/{}/restore", self.snapshot)
    }

    async fn asked(&self, who: &Caller, change: &Value) -> crate::world::Answer {
        who.post(&self.path(), wish(change)).await
    }

    async fn job(&self, id: &str) -> Value {
        self.acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
    }
}

/// The database, and what one logs in with.
fn target(assignment: &Assignment) -> (DatabaseTarget, Sealed) {
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    let RestoreTarget::Database { database, credential: Some(credential) } = &task.target else {
        panic!("{task:?}")
    };
    (*database.clone(), credential.clone())
}

async fn a_dump_goes_back_to_the_server_that_it_is_of(shop: Shop) {
    let made = shop.asked(&shop.acme.member, &json!({ "create": true, "overwrite": true })).await.expect(201);
    assert_eq!((&made["max_attempts"], &made["target_worker_id"]), (&json!(1), &json!("w1")), "{made}");
    let id = text(&made["id"]);
    let assignment = shop.worker.claim(&id).await;
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    assert_eq!(task.paths, ["database/shop.dump"]);
    let (database, credential) = target(&assignment);
    let told = serde_json::to_value(&database).unwrap();
    let config = &told["config"];
    assert_eq!(
        (&told["type"], &config["host"], &config["username"], &config["database"]),
        (&json!("postgres"), &json!("db.example"), &json!("keeper"), &json!("shop_copy")),
        "{told}"
    );
    assert_eq!((&config["create"], &config["overwrite"]), (&json!(true), &json!(true)), "{told}");
    let opened = credential.open(&shop.worker.identity).unwrap();
    assert_eq!(opened.expose_secret(), PASSWORD.as_bytes());

    let report = json!({ "entries": 1, "files": 1, "bytes": 700, "skipped": 0 });
    shop.worker.complete(&assignment, json!({ "type": "restore", "report": report })).await;
    let done = shop.job(&id).await;
    assert_eq!(
        (&done["status"], &done["restore"]["bytes"], &done["download"]),
        (&json!("completed"), &json!(700), &Value::Null)
    );
    let events = shop.acme.admin.get("/api/v1/audit-events?action=snapshot.restore").await.expect(200);
    let details = &events["audit_events"][0]["details"];
    assert_eq!(
        (&details["target"], &details["to"]["database"], &details["paths"]),
        (&json!("database"), &json!("shop_copy"), &json!(["database/shop.dump"]))
    );
}

async fn the_password_is_in_nothing_but_what_is_sealed(shop: Shop) {
    let made = shop.asked(&shop.acme.member, &json!({})).await.expect(201);
    let assignment = shop.worker.claim(&text(&made["id"])).await;
    let (_, credential) = target(&assignment);
    let other = xvault_core::Identity::generate();
    assert!(credential.open(&other).is_err(), "another worker can't open it");
    let events = shop.acme.admin.get("/api/v1/audit-events?limit=200").await.expect(200);
    let released =
        events["audit_events"].as_array().unwrap().iter().find(|event| {
            event["action"] == "credential.release" && event["details"]["job_id"] == made["id"]
        });
    assert_eq!(released.unwrap()["details"]["source_id"], json!(shop.source));
    let job = shop.job(&text(&made["id"])).await;
    let seen = [
        format!("{assignment:?}"),
        serde_json::to_string(&assignment).unwrap(),
        format!("{credential:?}"),
        made.to_string(),
        job.to_string(),
        events.to_string(),
        String::from_utf8_lossy(&shop.world.database.dump()).into_owned(),
    ];
    for (at, text) in seen.iter().enumerate() {
        assert!(!text.contains(PASSWORD), "{at}");
    }
}

async fn what_is_loaded_in_vain_is_not_loaded_again(shop: Shop) {
    let id = text(&shop.asked(&shop.acme.member, &json!({})).await.expect(201)["id"]);
    let assignment = shop.worker.claim(&id).await;
    let error = json!({ "code": "target_unreachable", "message": "the line broke" });
    let outcome = json!({ "status": "failed", "error": error, "disposition": "transient" });
    shop.worker.say(&assignment, "complete", json!({ "outcome": outcome })).await.expect(200);
    let job = shop.job(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(1)), "{job}");
}

async fn another_server_takes_an_admin(shop: Shop) {
    let other = source(&shop.acme.admin, "mysql", "other.example", &json!({})).await;
    let to_other = json!({ "source_id": other });
    shop.asked(&shop.acme.member, &to_other).await.refused(403, "forbidden");
    // To name the snapshot's own is no other one.
    shop.asked(&shop.acme.member, &json!({ "source_id": shop.source })).await.expect(201);
    let made = shop.asked(&shop.acme.admin, &to_other).await.expect(201);
    let (database, _) = target(&shop.worker.claim(&text(&made["id"])).await);
    let told = serde_json::to_value(&database).unwrap();
    assert_eq!(
        (&told["type"], &told["config"]["host"]),
        (&json!("mysql"), &json!("other.example")),
        "{told}"
    );
    let path = format!("/api/v1/jobs/{}", text(&made["id"]));
    shop.acme.member.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    shop.acme.member.post(&format!("{path}/retry"), json!({})).await.refused(403, "forbidden");
    shop.acme.admin.post(&format!("{path}/retry"), json!({})).await.expect(200);
}

async fn what_is_wrong_with_a_database_is_said_at_once(shop: Shop) {
    let admin = &shop.acme.admin;
    for (change, field) in [
        (json!({ "entry": "" }), "target.entry"),
        (json!({ "entry": "/" }), "target.entry"),
        (json!({ "entry": "../x" }), "target.entry"),
        (json!({ "entry": "a\0b" }), "target.entry"),
        (json!({ "entry": 7 }), "target"),
        (json!({ "database": "" }), "target.database"),
        (json!({ "database": "a\nb" }), "target.database"),
        (json!({ "database": "x".repeat(256) }), "target.database"),
        (json!({ "create": "yes" }), "target"),
        (json!({ "overwrite": "if_changed" }), "target"),
        (json!({ "path": "/srv" }), "path"),
        (json!({ "source_id": "a/b" }), "target"),
    ] {
        let answer = shop.asked(admin, &change).await;
        let body = answer.refused(422, "invalid_field");
        assert!(body.to_string().contains(field), "{change}: {body}");
    }
    for (field, value) in [("format", json!("zip")), ("paths", json!(["a"]))] {
        let mut body = wish(&json!({}));
        body[field] = value;
        let refused = admin.post(&shop.path(), body).await.refused(422, "invalid_field");
        assert!(refused.to_string().contains(field), "{refused}");
    }
    for missing in ["entry", "database"] {
        let mut body = wish(&json!({}));
        body["target"].as_object_mut().unwrap().remove(missing);
        let refused = admin.post(&shop.path(), body).await.refused(422, "invalid_field");
        assert!(refused.to_string().contains(missing), "{refused}");
    }
    shop.asked(admin, &json!({ "source_id": "nowhere" })).await.refused(404, "not_found");
    let umbrella = shop.world.tenant("umbrella").await;
    let foreign = source(&umbrella.admin, "postgres", "f.example", &json!({})).await;
    shop.asked(admin, &json!({ "source_id": foreign })).await.refused(404, "not_found");
    umbrella.owner.post(&shop.path(), wish(&json!({}))).await.refused(404, "not_found");
    let (_, server) = crate::fake_worker::ssh_source(admin).await;
    let refused = shop.asked(admin, &json!({ "source_id": server })).await.refused(422, "invalid_field");
    assert!(text(&refused["error"]).contains("`ssh`"), "{refused}");
    let hop =
        json!({ "use_ssh": true, "ssh_host": "hop.example", "ssh_username": "hop", "use_password": false });
    let unpinned = source(admin, "postgres", "tunnel.example", &hop).await;
    shop.asked(admin, &json!({ "source_id": unpinned })).await.refused(409, "host_key_not_pinned");
    shop.world.execute("UPDATE sources SET status = 'deleted'").await;
    shop.asked(admin, &json!({})).await.refused(409, "source_gone");
}

async fn a_source_that_is_gone_by_then_fails_the_job(shop: Shop) {
    let id = text(&shop.asked(&shop.acme.member, &json!({})).await.expect(201)["id"]);
    shop.world.execute("UPDATE sources SET status = 'deleted'").await;
    let claim = json!({ "job_id": id });
    let answer = shop.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert_eq!(answer["outcome"], "nothing", "{answer}");
    assert_eq!(shop.job(&id).await["error_code"], "source_gone");
}

/// From a bucket any worker could read the snapshot, but not any can load a dump.
async fn a_dump_in_a_bucket_is_loaded_by_who_has_both_tools_and_store(shop: Shop) {
    let store = bucket(&shop.acme.admin).await;
    shop.world.execute(COPY).await;
    shop.world.execute("UPDATE workers SET status = 'offline'").await;
    let without_tools = FakeWorker::join(&shop.world, "w2", &["ssh", "sftp", "s3"]).await;
    let without_store = FakeWorker::join(&shop.world, "w3", &["ssh", "postgres"]).await;
    for body in [wish(&json!({})), {
        let mut body = wish(&json!({}));
        body["from_store"] = json!(store);
        body
    }] {
        let made = shop.acme.member.post(&shop.path(), body).await.expect(201);
        assert!(text(&made["note"]).contains("postgres+s3"), "{made}");
        let id = text(&made["id"]);
        for worker in [&without_tools, &without_store] {
            for claim in [json!({ "job_id": id }), json!({})] {
                let answer = worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
                assert_eq!(answer["outcome"], "nothing", "{answer}");
            }
        }
        let able = FakeWorker::join(&shop.world, &format!("able-{id}"), &["postgres", "s3"]).await;
        let assignment = able.claim(&id).await;
        let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
        assert!(matches!(task.store, StoreAccess::S3 { .. }), "{:?}", task.store);
        target(&assignment).1.open(&able.identity).unwrap();
        let path = format!("/api/v1/workers/{}/drain", able.id);
        shop.world.operator.post(&path, json!({})).await.expect(200);
    }
}

async fn a_worker_without_the_tools_reads_no_dump_into_a_database(shop: Shop) {
    shop.world.execute("UPDATE workers SET capabilities = '[\"ssh\"]'").await;
    let refused = shop.asked(&shop.acme.member, &json!({})).await.refused(409, "no_tools");
    assert_eq!(refused["details"], json!({ "worker_id": "w1", "capability": "postgres" }), "{refused}");
    assert!(text(&refused["error"]).contains("w1"), "{refused}");
    // Where there is a copy, somebody else reads that.
    bucket(&shop.acme.admin).await;
    shop.world.execute(COPY).await;
    let able = FakeWorker::join(&shop.world, "w2", &["postgres", "s3"]).await;
    let made = shop.asked(&shop.acme.member, &json!({})).await.expect(201);
    assert_eq!((&made["target_worker_id"], &made["note"]), (&Value::Null, &Value::Null), "{made}");
    able.claim(&text(&made["id"])).await;
}

on_both_engines!(crate::restore_databases::Shop::set =>
    a_dump_goes_back_to_the_server_that_it_is_of,
    the_password_is_in_nothing_but_what_is_sealed,
    what_is_loaded_in_vain_is_not_loaded_again,
    another_server_takes_an_admin,
    what_is_wrong_with_a_database_is_said_at_once,
    a_source_that_is_gone_by_then_fails_the_job,
    a_dump_in_a_bucket_is_loaded_by_who_has_both_tools_and_store,
    a_worker_without_the_tools_reads_no_dump_into_a_database,
);
