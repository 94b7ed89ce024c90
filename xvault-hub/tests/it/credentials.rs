//! `/api/v1/credentials`: secrets go in and never come out.

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{World, text};

/// `hunter2-of-the-test`
const SECRET: &str = "aHVudGVyMi1vZi10aGUtdGVzdA==";

async fn a_secret_is_kept_and_never_shown(world: World) {
    let acme = world.tenant("acme").await;
    let body = json!({ "kind": "source", "name": " web 1 ", "plaintext": SECRET });
    let made = acme.admin.post("/api/v1/credentials", body).await.expect(201);
    assert_eq!(
        (&made["tenant_id"], &made["kind"], &made["name"], &made["rotated_at"]),
        (&json!(acme.id), &json!("source"), &json!("web 1"), &Value::Null)
    );
    let path = format!("/api/v1/credentials/{}", text(&made["id"]));
    let seen = acme.member.get(&path).await.expect(200);
    assert_eq!(seen, made);
    let list = acme.member.get("/api/v1/credentials").await.expect(200);
    assert_eq!(list, json!({ "credentials": [made], "next_cursor": null }));
    let fields: Vec<_> = seen.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["created_at", "id", "kind", "name", "rotated_at", "tenant_id", "updated_at"]);
    let dump = world.database.dump();
    for secret in [&b"hunter2-of-the-test"[..], SECRET.as_bytes()] {
        assert!(
            !dump.windows(secret.len()).any(|window| window == secret),
            "the secret lies in the database"
        );
    }
}

async fn a_rotated_secret_is_the_one_that_workers_get(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/credentials/{credential}");
    let rotated =
        acme.admin.post(&format!("{path}/rotate"), json!({ "plaintext": SECRET })).await.expect(200);
    assert!(rotated["rotated_at"].is_string(), "{rotated}");
    assert_eq!(acme.member.get(&path).await.expect(200), rotated);
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let assignment = worker.claim(&enqueue(&acme.member, &source).await).await;
    let task = serde_json::to_value(&assignment.task).unwrap();
    let sealed: xvault_core::protocol::Sealed = serde_json::from_value(task["credential"].clone()).unwrap();
    let opened = sealed.open(&worker.identity).unwrap();
    assert_eq!(xvault_core::secret::ExposeSecret::expose_secret(&opened), b"hunter2-of-the-test");
}

async fn a_credential_in_use_stays(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/credentials/{credential}");
    acme.admin.delete(&path).await.refused(409, "in_use");
    acme.member.get(&path).await.expect(200);
    acme.admin.put(&format!("/api/v1/sources/{source}"), json!({ "credential_id": null })).await.expect(200);
    acme.admin.delete(&path).await.expect(204);
    acme.member.get(&path).await.refused(404, "not_found");
    acme.admin.delete(&path).await.refused(404, "not_found");
    acme.admin
        .post(&format!("{path}/rotate"), json!({ "plaintext": SECRET }))
        .await
        .refused(404, "not_found");
}

async fn bad_credentials_are_refused_by_field(world: World) {
    let acme = world.tenant("acme").await;
    let good = json!({ "kind": "source", "plaintext": SECRET });
    let long = "A".repeat(90_000);
    let cases = [
        ("plaintext", json!("no base64!")),
        ("plaintext", json!("")),
        ("plaintext", json!("/w==")),
        ("plaintext", json!(long)),
        ("plaintext", json!(7)),
        ("plaintext", Value::Null),
        ("kind", json!("other")),
        ("name", json!("")),
        ("name", json!("a\u{0}b")),
        ("name", json!("x".repeat(201))),
        ("tenant_id", json!("no/id")),
        ("colour", json!("red")),
    ];
    for (field, bad) in cases {
        let mut body = good.clone();
        body[field] = bad;
        let error = acme.admin.post("/api/v1/credentials", body).await.refused(422, "invalid_field");
        assert_eq!(error["details"], json!({ "field": field }), "{error}");
    }
    for field in ["kind", "plaintext"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        let error = acme.admin.post("/api/v1/credentials", body).await.refused(422, "invalid_field");
        assert_eq!(error["details"], json!({ "field": field }), "{error}");
    }
    world.operator.post("/api/v1/credentials", good.clone()).await.refused(400, "bad_request");
    let mut nowhere = good;
    nowhere["tenant_id"] = json!("nobody");
    world.operator.post("/api/v1/credentials", nowhere).await.refused(404, "not_found");
    assert_eq!(acme.member.get("/api/v1/credentials").await.expect(200)["credentials"], json!([]));
}

on_both_engines!(
    a_secret_is_kept_and_never_shown,
    a_rotated_secret_is_the_one_that_workers_get,
    a_credential_in_use_stays,
    bad_credentials_are_refused_by_field,
);
