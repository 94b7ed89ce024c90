//! What belongs to another tenant does not exist.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{PASSWORD, World, text};

async fn foreign_ids_are_absent(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let key = other.owner.post("/api/v1/api-keys", json!({ "name": "k", "role": "owner" })).await.expect(201);
    let (tenant, user) =
        (format!("/api/v1/tenants/{}", other.id), format!("/api/v1/users/{}", other.member.user_id));
    let key = format!("/api/v1/api-keys/{}", text(&key["id"]));
    let operator = text(&world.operator.get("/api/v1/auth/me").await.expect(200)["user"]["id"]);
    let calls = [
        (Method::GET, tenant, Value::Null),
        (Method::GET, user.clone(), Value::Null),
        (Method::PUT, user.clone(), json!({ "role": "owner" })),
        (Method::PUT, format!("{user}/password"), json!({ "password": PASSWORD })),
        (Method::DELETE, user, Value::Null),
        (Method::GET, format!("/api/v1/users/{operator}"), Value::Null),
        (Method::DELETE, format!("/api/v1/users/{operator}"), Value::Null),
        (Method::PUT, format!("/api/v1/users/{operator}/password"), json!({ "password": PASSWORD })),
        (Method::GET, key.clone(), Value::Null),
        (Method::DELETE, key, Value::Null),
        (Method::GET, format!("/api/v1/users?tenant_id={}", other.id), Value::Null),
        (Method::GET, format!("/api/v1/api-keys?tenant_id={}", other.id), Value::Null),
        (Method::GET, format!("/api/v1/audit-events?tenant_id={}", other.id), Value::Null),
        (Method::GET, format!("/api/v1/settings?tenant_id={}", other.id), Value::Null),
        (Method::PUT, "/api/v1/settings".into(), json!({ "tenant_id": other.id, "settings": {} })),
        (
            Method::POST,
            "/api/v1/users".into(),
            json!({ "tenant_id": other.id, "email": "x@y", "password": PASSWORD, "role": "member" }),
        ),
        (
            Method::POST,
            "/api/v1/api-keys".into(),
            json!({ "tenant_id": other.id, "name": "x", "role": "member" }),
        ),
        (Method::GET, "/api/v1/users/no%20id!".into(), Value::Null),
        (Method::GET, format!("/api/v1/users/{}", "x".repeat(65)), Value::Null),
    ];
    for (method, path, body) in calls {
        let body = Some(body).filter(|body| !body.is_null());
        acme.owner.send(method, &path, body).await.refused(404, "not_found");
    }
    other.member.get("/api/v1/auth/me").await.expect(200);
    world.nobody().try_login("x@y", PASSWORD).await.refused(401, "unauthorized");
}

async fn events_are_the_tenants_own(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let mut seen = Vec::new();
    let mut path = "/api/v1/audit-events?limit=3".to_owned();
    loop {
        let page = acme.admin.get(&path).await.expect(200);
        seen.extend(page["audit_events"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/audit-events?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert!(seen.iter().all(|event| event["tenant_id"] == acme.id.as_str()), "{seen:?}");
    let actions: Vec<_> = seen.iter().map(|event| text(&event["action"])).collect();
    let one_user = ["auth.login", "user.create"];
    assert_eq!(actions, [&one_user[..], &one_user, &one_user, &["tenant.create"]].concat());
    let made = seen.last().unwrap();
    assert_eq!((&made["actor_type"], &made["ip"]), (&json!("operator"), &json!("127.0.0.1")));
    assert_eq!(made["details"], json!({ "name": "acme" }));

    let all = world.operator.get("/api/v1/audit-events?limit=200").await.expect(200);
    let all = all["audit_events"].as_array().unwrap();
    assert!(all.iter().any(|event| event["tenant_id"] == other.id.as_str()));
    assert!(all.iter().any(|event| event["tenant_id"].is_null() && event["actor_type"] == "system"));
    let one = world.operator.get(&format!("/api/v1/audit-events?tenant_id={}", other.id)).await.expect(200);
    assert_eq!(one["audit_events"].as_array().unwrap().len(), 7);
}

async fn operators_rename_and_disable_tenants(world: World) {
    let acme = world.tenant("acme").await;
    let path = format!("/api/v1/tenants/{}", acme.id);
    let renamed = world.operator.put(&path, json!({ "name": " ACME Inc. " })).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["status"]), (&json!("ACME Inc."), &json!("active")));
    assert_eq!(renamed["public_key"], acme.public_key.as_str());
    let disabled = world.operator.put(&path, json!({ "status": "disabled" })).await.expect(200);
    assert_eq!((&disabled["name"], &disabled["status"]), (&json!("ACME Inc."), &json!("disabled")));
    for (body, field) in [(json!({ "name": "" }), "name"), (json!({ "status": "gone" }), "status")] {
        let answer = world.operator.put(&path, body).await.expect(422);
        assert_eq!(answer["details"]["field"], field, "{answer}");
    }
    world.operator.put("/api/v1/tenants/none", json!({ "name": "n" })).await.refused(404, "not_found");
}

on_both_engines!(foreign_ids_are_absent, events_are_the_tenants_own, operators_rename_and_disable_tenants);
