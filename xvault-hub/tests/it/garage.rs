//! A bucket for each tenant and a key for each job, by Garage's administration: what it is asked for, and what its refusals become.
//! On a real Garage in the full run; by default on a server that only takes down what it is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use xvault_core::protocol::{Assignment, StoreAccess, Task};
use xvault_testkit::{Garage, S3Access};

use crate::fake_worker::{FakeWorker, key};
use crate::scoped::{backup, with};
use crate::world::{Answer, Caller, Dialect, Tenant, World, text};

const TOKEN: &str = "administration-t0ken";

/// Takes down what Garage's administration is asked for, and answers as that does.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    /// Call and body of each request.
    asked: Vec<(String, Value)>,
    buckets: BTreeMap<String, String>,
    keys: u32,
    /// What it says to everything instead.
    refusal: Option<(u16, &'static str)>,
}

impl Recorder {
    /// Serves on a free port; gives the address.
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.0.lock().unwrap().asked.clone()
    }

    fn calls(&self) -> Vec<String> {
        self.asked().into_iter().map(|(call, _)| call).collect()
    }

    fn refuse(&self, refusal: Option<(u16, &'static str)>) {
        self.0.lock().unwrap().refusal = refusal;
    }
}

async fn answer(
    State(recorder): State<Recorder>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let call = uri.to_string().replace("/v2/", "");
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let mut recorded = recorder.0.lock().unwrap();
    recorded.asked.push((call.clone(), body.clone()));
    let says = |status: u16, code: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, Json(json!({ "code": code, "message": "as a test wants it" }))).into_response()
    };
    if let Some((status, code)) = recorded.refusal {
        return says(status, code);
    }
    if headers.get("authorization").is_none_or(|given| given != &format!("Bearer {TOKEN}")) {
        return says(403, "AccessDenied");
    }
    match (method, call.split('?').next().unwrap()) {
        (Method::GET, "GetBucketInfo") => {
            let name = call.split("globalAlias=").nth(1).unwrap();
            match recorded.buckets.get(name) {
                Some(id) => Json(json!({ "id": id, "globalAliases": [name] })).into_response(),
                None => says(404, "NoSuchBucket"),
            }
        }
        (Method::POST, "CreateBucket") => {
            let id = format!("id{}", recorded.buckets.len());
            recorded.buckets.insert(text(&body["globalAlias"]), id.clone());
            Json(json!({ "id": id })).into_response()
        }
        (Method::POST, "CreateKey") => {
            recorded.keys += 1;
            let id = format!("GK{}", recorded.keys);
            Json(json!({ "accessKeyId": id, "secretAccessKey": format!("s3cret-of-{id}") })).into_response()
        }
        (Method::POST, "AllowBucketKey" | "DeleteKey") => Json(Value::Null).into_response(),
        other => panic!("{other:?}"),
    }
}

fn body(endpoint: &str, admin: &str, token: &str) -> Value {
    json!({
        "name": "shared",
        "kind": "s3",
        "config": { "bucket": "backups", "prefix": "platform", "endpoint": endpoint, "region": "garage" },
        "admin_token": token,
        "scoping": { "kind": "garage", "admin_endpoint": admin, "key_seconds": 3600 },
    })
}

/// The platform's store in such a Garage; gives its id.
async fn store(operator: &Caller, endpoint: &str, admin: &str, token: &str) -> String {
    text(&operator.post("/api/v1/stores", body(endpoint, admin, token)).await.expect(201)["id"])
}

fn access(job: &Assignment) -> (String, &xvault_core::protocol::Sealed) {
    let Task::Backup(task) = &job.task else { panic!("{job:?}") };
    let StoreAccess::S3 { settings, credential, read_credential: None, .. } = &task.store else {
        panic!("{task:?}")
    };
    (settings.bucket.clone(), credential)
}

/// Reports the snapshot of a backup as lying in that bucket.
async fn report(worker: &FakeWorker, job: &Assignment, bucket: &str) -> Answer {
    let key = key(job);
    let manifest = worker.manifest(job);
    let object_key = format!("platform/{}", key.prefix());
    let locator = json!({ "storage_backend": "s3", "bucket": bucket, "object_key": object_key });
    let result = json!({ "type": "backup", "manifest": manifest, "locator": locator });
    worker.say(job, "complete", json!({ "outcome": { "status": "completed", "result": result } })).await
}

async fn each_job_has_a_key_to_its_tenants_bucket_until_it_is_over(world: crate::world::WorldBuilder) {
    let (world, garage) = (world.manual_clock().start().await, Recorder::default());
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let store = store(&world.operator, "http://127.0.0.1:3900", &garage.serve().await, TOKEN).await;
    let (job_id, job) = backup(&world, &acme, &store, &worker).await;
    let job = job.unwrap();
    let bucket = format!("backups-{}", acme.id);
    let end = (world.clock.now() + jiff::SignedDuration::from_hours(1)).to_string();
    let wanted = [
        (format!("GetBucketInfo?globalAlias={bucket}"), Value::Null),
        ("CreateBucket".to_owned(), json!({ "globalAlias": bucket })),
        ("CreateKey".to_owned(), json!({ "name": format!("xvault job {job_id}"), "expiration": end })),
        (
            "AllowBucketKey".to_owned(),
            json!({ "bucketId": "id0", "accessKeyId": "GK1",
                "permissions": { "read": true, "write": true, "owner": false } }),
        ),
    ];
    assert_eq!(garage.asked(), wanted);
    let plain = S3Access {
        endpoint: String::new(),
        region: String::new(),
        bucket: String::new(),
        access_key: String::new(),
        secret_key: String::new(),
        session_token: None,
    };
    let (named, sealed) = access(&job);
    let opened = with(&plain, &worker, sealed);
    assert_eq!((named.as_str(), opened.access_key.as_str()), (bucket.as_str(), "GK1"));
    assert_eq!((opened.secret_key.as_str(), opened.session_token), ("s3cret-of-GK1", None));

    // Another tenant's job gets another key, to another bucket.
    let (_, other) = backup(&world, &umbrella, &store, &worker).await;
    assert_eq!(access(&other.unwrap()).0, format!("backups-{}", umbrella.id));
    assert!(garage.calls().contains(&format!("GetBucketInfo?globalAlias=backups-{}", umbrella.id)));

    // The snapshot lies in the tenant's bucket, and nowhere else.
    for wrong in ["backups".to_owned(), format!("backups-{}", umbrella.id)] {
        report(&worker, &job, &wrong).await.refused(422, "invalid_field");
    }
    report(&worker, &job, &bucket).await.expect(200);
    let calls = || garage.calls();
    keys_go(&world, "GK1", || calls().iter().any(|call| call == "DeleteKey?id=GK1")).await;
    assert!(!calls().iter().any(|call| call == "DeleteKey?id=GK2"), "that job still runs");
    a_link_is_signed_with_a_key_of_its_own(
        &world,
        &acme,
        &garage,
        &bucket,
        &key(&job).snapshot_id.to_string(),
    )
    .await;
    nothing_is_told(&world, &store).await;
}

/// The key of the job that is over goes, once its worker has had time to clean up.
async fn keys_go(world: &World, key: &str, is_gone: impl Fn() -> bool) {
    let pool = world.database.sql().await;
    let over = async || {
        let over = "SELECT access_key_id FROM store_keys WHERE over_since IS NOT NULL";
        let keys: Vec<String> = sqlx::query_scalar(over).fetch_all(&pool).await.unwrap();
        (!keys.is_empty()).then_some(keys)
    };
    assert_eq!(world.while_the_hub_runs(over).await, [key]);
    assert!(!is_gone(), "its worker may still need it");
    world.clock.advance(std::time::Duration::from_secs(301));
    world.while_the_hub_runs(async || is_gone().then_some(())).await;
    pool.close().await;
}

async fn a_link_is_signed_with_a_key_of_its_own(
    world: &World,
    acme: &Tenant,
    garage: &Recorder,
    bucket: &str,
    snapshot: &str,
) {
    let _ = world;
    let before = garage.asked().len();
    let path = format!("/api/v1/snapshots/{snapshot}/download?what=artifact");
    let url = text(&acme.member.get(&path).await.expect(200)["url"]);
    assert!(
        url.starts_with(&format!("http://127.0.0.1:3900/{bucket}/platform/tenants/{}", acme.id)),
        "{url}"
    );
    assert!(url.contains("X-Amz-Credential=GK3%2F"), "{url}");
    let asked = garage.asked().split_off(before);
    let calls: Vec<_> = asked.iter().map(|(call, _)| call.split('?').next().unwrap()).collect();
    assert_eq!(calls, ["GetBucketInfo", "CreateKey", "AllowBucketKey"]);
    assert_eq!(asked[2].1["permissions"], json!({ "read": true, "write": false, "owner": false }));
    garage.refuse(Some((503, "ServiceUnavailable")));
    let refused = acme.member.get(&path).await;
    assert!(!refused.body.to_string().contains("127.0.0.1"), "{refused:?}");
    refused.refused(503, "store_garage");
    garage.refuse(None);
}

async fn nothing_is_told(world: &World, store: &str) {
    let shown = world.operator.get(&format!("/api/v1/stores/{store}")).await.expect(200);
    assert_eq!(shown["scoped_credentials"], json!("garage"));
    assert!(text(&shown["scoped_credentials_note"]).contains("Garage knows no finer rights"));
    let events = world.operator.get("/api/v1/audit-events").await.expect(200).to_string();
    assert!(events.contains("credential.release"), "{events}");
    let told = [shown.to_string(), events, String::from_utf8_lossy(&world.database.dump()).into_owned()];
    for secret in [TOKEN, "s3cret-of"] {
        assert!(told.iter().all(|text| !text.contains(secret)), "{secret} is told");
    }
}

async fn a_garage_that_gives_nothing_fails_the_job_with_its_words(world: World) {
    let (worker, garage) = (FakeWorker::join(&world, "w1", &["ssh", "s3"]).await, Recorder::default());
    let (acme, admin) = (world.tenant("acme").await, garage.serve().await);
    let failed = async |store: &str| {
        let (id, job) = backup(&world, &acme, store, &worker).await;
        assert!(job.is_none());
        let failed = acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
        assert_eq!(failed["error_code"], json!("store_garage"), "{failed}");
        (text(&failed["status"]), text(&failed["error_message"]))
    };
    let wrong = store(&world.operator, "http://127.0.0.1:3900", &admin, "a-wrong-t0ken").await;
    let (status, message) = failed(&wrong).await;
    assert_eq!(status, "failed");
    assert!(
        message.contains("HTTP 403 AccessDenied") && message.contains("is `admin_token` right"),
        "{message}"
    );
    assert!(!message.contains("a-wrong-t0ken"), "{message}");
    assert!(
        !message.contains("127.0.0.1"),
        "where the platform's Garage is is none of a tenant's business: {message}"
    );
    let right = store(&world.operator, "http://127.0.0.1:3900", &admin, TOKEN).await;
    garage.refuse(Some((404, "")));
    let (status, message) = failed(&right).await;
    assert_eq!(status, "failed");
    assert!(message.contains("administration API of Garage 2"), "{message}");
    garage.refuse(Some((503, "ServiceUnavailable")));
    let (status, message) = failed(&right).await;
    assert_eq!(status, "queued", "time may heal it: {message}");
}

async fn what_such_a_store_can_not_be_is_said_with_the_field(world: World) {
    let acme = world.tenant("acme").await;
    let own = json!({ "access_key_id": "AK", "secret_access_key": "x" });
    for (field, path, value) in [
        ("config.bucket", "/config/bucket", json!("b".repeat(27))),
        ("config.endpoint", "/config/endpoint", json!(null)),
        ("scoping.admin_endpoint", "/scoping/admin_endpoint", json!("garage")),
        ("scoping.key_seconds", "/scoping/key_seconds", json!(899)),
        ("scoping.key_seconds", "/scoping/key_seconds", json!(2_592_001)),
        ("admin_token", "/admin_token", json!("a b")),
        ("credential", "/admin_token", json!(null)),
        ("admin_token", "/scoping", json!(null)),
    ] {
        let mut body = body("http://127.0.0.1:3900", "http://127.0.0.1:3903", TOKEN);
        *body.pointer_mut(path).unwrap() = value.clone();
        let refused = world.operator.post("/api/v1/stores", body).await;
        assert_eq!(refused.body["details"]["field"], json!(field), "{path} {value}: {refused:?}");
    }
    let mut both = body("http://127.0.0.1:3900", "http://127.0.0.1:3903", TOKEN);
    both["credential"] = own.clone();
    world.operator.post("/api/v1/stores", both.clone()).await.refused(422, "invalid_field");
    both["admin_token"] = json!(null);
    world.operator.post("/api/v1/stores", both).await.refused(422, "invalid_field");
    let tenants = body("https://s3.example", "https://admin.example", TOKEN);
    let refused = acme.admin.post("/api/v1/stores", tenants).await;
    assert_eq!(refused.body["details"]["field"], json!("scoping"), "{refused:?}");

    // It stays what it is, unless it gets what it takes to be something else.
    let store = store(&world.operator, "http://127.0.0.1:3900", "http://127.0.0.1:3903", TOKEN).await;
    let path = format!("/api/v1/stores/{store}");
    let patch = async |body: Value| world.operator.send(Method::PATCH, &path, Some(body)).await;
    let refused = patch(json!({ "scoping": null })).await;
    assert_eq!(refused.body["details"]["field"], json!("scoping"), "{refused:?}");
    patch(json!({ "admin_token": "another" })).await.expect(200);
    let plain = patch(json!({ "scoping": null, "credential": own })).await.expect(200);
    assert_eq!(plain["scoped_credentials"], json!("none"));
}

on_both_engines!(
    a_garage_that_gives_nothing_fails_the_job_with_its_words,
    what_such_a_store_can_not_be_is_said_with_the_field,
);
on_both_engines!(crate::world::World::unstarted => each_job_has_a_key_to_its_tenants_bucket_until_it_is_over);

/// The bucket that a job was told, as its worker reaches it.
fn reached(garage: &Garage, worker: &FakeWorker, job: &Assignment) -> S3Access {
    let (bucket, sealed) = access(job);
    with(&S3Access { bucket, ..garage.access() }, worker, sealed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Garage: scripts/test --full"]
async fn a_tenants_key_of_garage_reaches_its_own_bucket_and_no_other() {
    let (world, garage) = (World::builder(Dialect::Sqlite).manual_clock().start().await, Garage::shared());
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let store =
        store(&world.operator, &garage.endpoint(), &garage.admin_endpoint(), garage.admin_token()).await;
    let (_, first) = backup(&world, &acme, &store, &worker).await;
    let (_, second) = backup(&world, &umbrella, &store, &worker).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    let (own, other) = (reached(garage, &worker, &first), reached(garage, &worker, &second));
    for who in [&own, &other] {
        assert_eq!(who.in_bucket("PUT", "platform/x", who.bucket.as_bytes()).status, 200);
        assert_eq!(who.in_bucket("GET", "platform/x", b"").body, who.bucket.as_bytes());
    }
    let foreign = S3Access { bucket: other.bucket.clone(), ..own.clone() };
    for (method, path) in
        [("GET", "platform/x"), ("PUT", "platform/y"), ("DELETE", "platform/x"), ("GET", "")]
    {
        let refused = foreign.in_bucket(method, path, b"");
        let said = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(refused.status == 403 && said.contains("AccessDenied"), "{method} {path}: {said}");
    }
    // Nor may it make buckets, or change its own.
    assert_eq!(own.request("PUT", "bucket-of-its-own", b"").status, 403);
    assert_eq!(own.in_bucket("DELETE", "", b"").status, 403);
    assert_eq!(other.keys(""), ["platform/x"]);

    // A link reads with a key of its own; that of the job goes.
    report(&worker, &first, &own.bucket).await.expect(200);
    let snapshot = key(&first).snapshot_id;
    let artifact = format!("platform/{}/backup.tar.zst.enc", key(&first).prefix());
    assert_eq!(own.in_bucket("PUT", &artifact, b"ciphertext").status, 200);
    let link =
        acme.member.get(&format!("/api/v1/snapshots/{snapshot}/download?what=artifact")).await.expect(200);
    let read = reqwest::get(text(&link["url"])).await.unwrap().text().await.unwrap();
    assert_eq!(read, "ciphertext");
    assert!(garage.knows_key(&own.access_key));
    keys_go(&world, &own.access_key, || !garage.knows_key(&own.access_key)).await;
    assert_eq!(own.in_bucket("GET", "platform/x", b"").status, 403);
    assert_eq!(other.in_bucket("GET", "platform/x", b"").status, 200, "that job still runs");
}
