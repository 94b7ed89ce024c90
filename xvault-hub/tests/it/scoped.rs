//! Credentials that reach no further than one job needs, on a real STS.

use serde_json::{Value, json};
use xvault_core::protocol::{Assignment, Sealed, StoreAccess, Task};
use xvault_core::secret::ExposeSecret as _;
use xvault_core::{S3Credential, SnapshotKey};
use xvault_testkit::{S3Access, SeaweedFs};

use crate::fake_worker::{FakeWorker, enqueue, key, ssh_source};
use crate::world::{Tenant, World, text};

/// The platform's store in a bucket of its own, whose jobs get what `change` makes of its role.
async fn store(world: &World, bucket: &S3Access, change: impl FnOnce(&mut Value)) -> String {
    let mut body = json!({
        "name": "shared",
        "kind": "s3",
        "config": { "bucket": bucket.bucket, "prefix": "platform", "endpoint": bucket.endpoint, "region": bucket.region },
        "credential": { "access_key_id": bucket.access_key, "secret_access_key": bucket.secret_key },
        "scoping": { "kind": "sts", "role_arn": SeaweedFs::shared().role_arn(), "session_seconds": 3600 },
    });
    change(&mut body);
    text(&world.operator.post("/api/v1/stores", body).await.expect(201)["id"])
}

/// A backup into the store, claimed.
pub(crate) async fn backup(
    world: &World,
    tenant: &Tenant,
    store: &str,
    worker: &FakeWorker,
) -> (String, Option<Assignment>) {
    let _ = world;
    let (_, source) = ssh_source(&tenant.admin).await;
    let path = format!("/api/v1/sources/{source}");
    tenant.admin.put(&path, json!({ "store_id": store })).await.expect(200);
    let id = enqueue(&tenant.member, &source).await;
    let answer = worker.caller.post("/internal/jobs/claim", json!({ "job_id": id })).await.expect(200);
    let claimed = serde_json::from_value(answer).unwrap();
    match claimed {
        xvault_core::protocol::ClaimAnswer::Claimed(job) => (id, Some(*job)),
        xvault_core::protocol::ClaimAnswer::Nothing { .. } => (id, None),
    }
}

/// What a worker can do with a sealed credential.
pub(crate) fn with(bucket: &S3Access, worker: &FakeWorker, sealed: &Sealed) -> S3Access {
    let opened = sealed.open(&worker.identity).unwrap();
    let credential = S3Credential::from_json(opened.expose_secret()).unwrap();
    S3Access {
        access_key: credential.access_key_id,
        secret_key: credential.secret_access_key.expose_secret().to_owned(),
        session_token: credential.session_token.map(|token| token.expose_secret().to_owned()),
        ..bucket.clone()
    }
}

async fn scoped_credential_generation(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let (acme, bucket) = (world.tenant("acme").await, SeaweedFs::shared().new_bucket());
    let store = store(&world, &bucket, |_| {}).await;
    let (_, job) = backup(&world, &acme, &store, &worker).await;
    let job = job.unwrap();
    let key = key(&job);
    let Task::Backup(task) = &job.task else { panic!() };
    let StoreAccess::S3 { credential, read_credential: Some(read), .. } = &task.store else {
        panic!("{task:?}")
    };
    let (writer, reader) = (with(&bucket, &worker, credential), with(&bucket, &worker, read));
    let own = format!("platform/{}", key.prefix());
    let sibling = SnapshotKey { snapshot_id: "another".parse().unwrap(), ..key.clone() };
    let others = format!("platform/{}", sibling.prefix());
    for path in [format!("{others}/manifest.json"), "platform/tenants/x/y".into(), "elsewhere".into()] {
        assert_eq!(bucket.in_bucket("PUT", &path, b"theirs").status, 200);
        for who in [&writer, &reader] {
            for method in ["GET", "PUT", "DELETE"] {
                assert_eq!(who.in_bucket(method, &path, b"x").status, 403, "{method} {path}");
            }
        }
    }
    let object = format!("{own}/backup.tar.zst.enc");
    let listing = format!("?list-type=2&prefix={}", own.replace('/', "%2F"));
    assert_eq!(writer.in_bucket("PUT", &object, b"hello").status, 200);
    for (method, path) in [
        ("GET", object.as_str()),
        ("DELETE", &object),
        ("GET", ""),
        ("GET", "?list-type=2"),
        ("GET", &listing),
    ] {
        assert_eq!(writer.in_bucket(method, path, b"").status, 403, "a backup may only put: {method} {path}");
    }
    let begun = writer.in_bucket("POST", &format!("{own}/big?uploads="), b"");
    assert_eq!(begun.status, 200, "uploads in parts are puts: {}", String::from_utf8_lossy(&begun.body));
    assert_eq!(reader.in_bucket("GET", &object, b"").body, b"hello");
    assert_eq!(reader.in_bucket("PUT", &object, b"x").status, 403);
    let manifest = worker.manifest(&job);
    let locator = json!({ "storage_backend": "s3", "bucket": bucket.bucket, "object_key": own });
    worker.complete(&job, json!({ "type": "backup", "manifest": manifest, "locator": locator })).await;
    links_read_one_object(&acme, (&bucket, &key)).await;
    restores_only_read(&acme, &worker, (&bucket, &key)).await;
    deletion_reaches_its_snapshot(&world, &acme, &worker, (&bucket, &key)).await;
}

/// A link is signed with a session of its own: the store's credential need only be allowed to take on the role.
async fn links_read_one_object(acme: &Tenant, (bucket, key): (&S3Access, &SnapshotKey)) {
    let path = format!("/api/v1/snapshots/{}/download?what=artifact", key.snapshot_id);
    let link = acme.member.get(&path).await.expect(200);
    let url = text(&link["url"]);
    assert!(url.contains("X-Amz-Security-Token=") && !url.contains(&bucket.access_key), "{url}");
    let answer = reqwest::get(&url).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "hello"));
    let manifest = url.replace("backup.tar.zst.enc?", "manifest.json?");
    assert_eq!(reqwest::get(&manifest).await.unwrap().status(), 403, "the signature is for one object");
    let left: jiff::Timestamp = text(&link["expires_at"]).parse().unwrap();
    let left = left.duration_since(xvault_core::clock::now()).as_secs();
    assert!((3500..=3600).contains(&left), "it ends with the session: {left}");
}

/// What gives a snapshot back reads that one, and changes nothing.
async fn restores_only_read(acme: &Tenant, worker: &FakeWorker, (bucket, key): (&S3Access, &SnapshotKey)) {
    let path = format!("/api/v1/snapshots/{}/restore", key.snapshot_id);
    let body = json!({ "target": { "type": "download" } });
    let id = text(&acme.member.post(&path, body).await.expect(201)["id"]);
    let claimed = worker.claim(&id).await;
    let Task::Restore(task) = &claimed.task else { panic!("{claimed:?}") };
    let StoreAccess::S3 { credential, .. } = &task.store else { panic!("{task:?}") };
    let reader = with(bucket, worker, credential);
    let object = format!("platform/{}/backup.tar.zst.enc", key.prefix());
    assert_eq!(reader.in_bucket("GET", &object, b"").body, b"hello");
    for (method, path) in [
        ("PUT", object.as_str()),
        ("DELETE", &object),
        ("POST", &format!("{object}?uploads=")),
        ("GET", "platform/tenants/x/y"),
        ("GET", "elsewhere"),
        ("GET", "?list-type=2&prefix=platform%2Ftenants%2F"),
    ] {
        assert_eq!(
            reader.in_bucket(method, path, b"x").status,
            403,
            "a restore may only read: {method} {path}"
        );
    }
    worker.fail(&claimed, "path_missing", "there is none").await;
}

/// What deletes a snapshot lists and deletes that one, and can't read it.
async fn deletion_reaches_its_snapshot(
    world: &World,
    acme: &Tenant,
    worker: &FakeWorker,
    (bucket, key): (&S3Access, &SnapshotKey),
) {
    let object_key = format!("platform/{}", key.prefix());
    let path = format!("/api/v1/snapshots/{}", key.snapshot_id);
    let deletion = text(&acme.admin.delete(&path).await.expect(202)["id"]);
    let claimed = worker.claim(&deletion).await;
    let Task::DeleteSnapshot { store: StoreAccess::S3 { credential, .. }, .. } = &claimed.task else {
        panic!()
    };
    let deleter = with(bucket, worker, credential);
    let object = format!("{object_key}/backup.tar.zst.enc");
    assert_eq!(deleter.in_bucket("GET", &object, b"").status, 403);
    assert_eq!(deleter.keys(&format!("{object_key}/")), std::slice::from_ref(&object));
    assert_eq!(deleter.in_bucket("GET", "?list-type=2&prefix=platform%2Ftenants%2F", b"").status, 403);
    assert_eq!(deleter.in_bucket("DELETE", "elsewhere", b"").status, 403);
    assert_eq!(deleter.in_bucket("PUT", &object, b"x").status, 403);
    assert_eq!(deleter.in_bucket("DELETE", &object, b"").status, 204);
    let events = world.operator.get("/api/v1/audit-events").await.expect(200);
    let purposes: Vec<_> = events["audit_events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["target_type"] == "store" && event["action"] == "credential.release")
        .map(|event| (event["details"]["purpose"].clone(), event["details"]["scoped"].clone()))
        .collect();
    assert_eq!(purposes, ["delete", "read", "write"].map(|purpose| (json!(purpose), json!(true))));
}

async fn a_service_that_gives_nothing_fails_the_job_with_its_words(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh", "s3"]).await;
    let (acme, bucket) = (world.tenant("acme").await, SeaweedFs::shared().new_bucket());
    let secret = "a-secret-that-is-wrong";
    let wrong = store(&world, &bucket, |body| body["credential"]["secret_access_key"] = json!(secret)).await;
    let (id, job) = backup(&world, &acme, &wrong, &worker).await;
    assert_eq!(job.map(|job| job.job_id), None);
    let failed = acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
    assert_eq!(
        (failed["status"].clone(), failed["error_code"].clone()),
        (json!("failed"), json!("store_sts")),
        "{failed}"
    );
    // Where the service is is for the operator.
    assert!(text(&failed["error_message"]).contains("HTTP 403"), "{failed}");
    let address = bucket.endpoint.split_once("://").unwrap().1;
    assert!(!failed.to_string().contains(secret) && !failed.to_string().contains(address), "{failed}");
    // Nobody answers there: time may heal it.
    let away = store(&world, &bucket, |body| body["scoping"]["endpoint"] = json!("http://127.0.0.1:9")).await;
    let (id, job) = backup(&world, &acme, &away, &worker).await;
    assert_eq!(job.map(|job| job.job_id), None);
    let waiting = acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
    assert_eq!(
        (waiting["status"].clone(), waiting["error_code"].clone()),
        (json!("queued"), json!("store_sts")),
        "{waiting}"
    );
}

on_both_engines!(scoped_credential_generation, a_service_that_gives_nothing_fails_the_job_with_its_words);
