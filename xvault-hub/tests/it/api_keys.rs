//! API keys: shown once, good until they end or are revoked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{Caller, Dialect, Tenant, World, text};

const KEYS: &str = "/api/v1/api-keys";

async fn make(tenant: &Tenant, role: &str) -> (Value, Caller) {
    let made = tenant.owner.post(KEYS, json!({ "name": "ci", "role": role })).await.expect(201);
    let key = tenant.owner.with_token(&text(&made["key"]));
    (made, key)
}

async fn a_key_acts_with_its_role(world: World) {
    let acme = world.tenant("acme").await;
    let (made, key) = make(&acme, "admin").await;
    let secret = text(&made["key"]);
    assert!(secret.starts_with("xvk_") && secret.len() == 47, "{secret}");
    assert_eq!(made["hint"], secret[..12]);
    assert_eq!((&made["created_by"], &made["tenant_id"]), (&json!(acme.owner.user_id), &json!(acme.id)));
    let me = key.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(
        (&me["role"], &me["tenant_id"], &me["user"]),
        (&json!("admin"), &json!(acme.id), &Value::Null)
    );
    assert_eq!(me["api_key"]["id"], made["id"]);
    key.get("/api/v1/audit-events").await.expect(200);
    key.get("/api/v1/users").await.refused(403, "forbidden");

    let listed = acme.owner.get(KEYS).await.expect(200);
    assert!(!listed.to_string().contains(&secret[12..]), "{listed}");
    assert_eq!(listed["api_keys"][0]["id"], made["id"]);
    assert!(listed["api_keys"][0]["last_used_at"].is_string(), "{listed}");
    let shown = acme.owner.get(&format!("{KEYS}/{}", text(&made["id"]))).await.expect(200);
    assert!(shown.get("key").is_none() && shown["name"] == "ci", "{shown}");
}

async fn a_key_of_an_owner_makes_keys(world: World) {
    let acme = world.tenant("acme").await;
    let (_, owner_key) = make(&acme, "owner").await;
    let made = owner_key.post(KEYS, json!({ "name": "child", "role": "member" })).await.expect(201);
    assert!(made["created_by"].is_null());
    let events = acme.owner.get("/api/v1/audit-events?limit=1").await.expect(200);
    assert_eq!(events["audit_events"][0]["action"], "api_key.create");
    assert_eq!(events["audit_events"][0]["actor_type"], "api_key");
    for role in ["operator", "emperor"] {
        acme.owner.post(KEYS, json!({ "name": "x", "role": role })).await.expect(422);
        world
            .operator
            .post(KEYS, json!({ "name": "x", "role": role, "tenant_id": acme.id }))
            .await
            .expect(422);
    }
    let body = json!({ "name": "x", "role": "member", "tenant_id": "no-such-tenant" });
    world.operator.post(KEYS, body).await.refused(404, "not_found");
}

async fn a_revoked_key_is_dead(world: World) {
    let acme = world.tenant("acme").await;
    let (made, key) = make(&acme, "member").await;
    let path = format!("{KEYS}/{}", text(&made["id"]));
    acme.owner.delete(&path).await.expect(204);
    key.get("/api/v1/auth/me").await.refused(401, "unauthorized");
    let first = acme.owner.get(&path).await.expect(200);
    acme.owner.delete(&path).await.expect(204);
    assert_eq!(acme.owner.get(&path).await.expect(200), first, "revoked once");
    let events = acme.owner.get("/api/v1/audit-events").await.expect(200);
    let revoked =
        events["audit_events"].as_array().unwrap().iter().filter(|event| event["action"] == "api_key.revoke");
    assert_eq!(revoked.count(), 1);
}

async fn a_key_outlives_its_maker_but_not_its_tenant(world: World) {
    let acme = world.tenant("acme").await;
    let second = world.user(&acme.id, "owner").await;
    let made = second.post(KEYS, json!({ "name": "ci", "role": "member" })).await.expect(201);
    let key = second.with_token(&text(&made["key"]));
    acme.owner.delete(&format!("/api/v1/users/{}", second.user_id)).await.expect(204);
    key.get("/api/v1/auth/me").await.expect(200);
    let shown = acme.owner.get(&format!("{KEYS}/{}", text(&made["id"]))).await.expect(200);
    assert!(shown["created_by"].is_null());
    world
        .operator
        .put(&format!("/api/v1/tenants/{}", acme.id), json!({ "status": "disabled" }))
        .await
        .expect(200);
    key.get("/api/v1/auth/me").await.refused(403, "tenant_disabled");
}

async fn a_key_ends(engine: Dialect) {
    let world = World::builder(engine).manual_clock().start().await;
    let acme = world.tenant("acme").await;
    let now = world.clock.now();
    let end = now + Duration::from_secs(600);
    let made =
        acme.owner.post(KEYS, json!({ "name": "x", "role": "member", "expires_at": end })).await.expect(201);
    assert_eq!(made["expires_at"], end.to_string());
    let key = acme.owner.with_token(&text(&made["key"]));
    let used = |body: Value| text(&body["api_key"]["last_used_at"]);
    assert_eq!(used(key.get("/api/v1/auth/me").await.expect(200)), now.to_string());
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(used(key.get("/api/v1/auth/me").await.expect(200)), now.to_string(), "noted once a minute");
    world.clock.advance(Duration::from_secs(540));
    assert_eq!(used(key.get("/api/v1/auth/me").await.expect(200)), world.clock.now().to_string());
    world.clock.advance(Duration::from_secs(1));
    key.get("/api/v1/auth/me").await.refused(401, "unauthorized");
    let past = json!({ "name": "x", "role": "member", "expires_at": now });
    acme.owner.post(KEYS, past).await.refused(422, "invalid_field");
}

on_both_engines!(
    a_key_acts_with_its_role,
    a_key_of_an_owner_makes_keys,
    a_revoked_key_is_dead,
    a_key_outlives_its_maker_but_not_its_tenant,
);

on_both_engines!(std::future::ready => a_key_ends);
