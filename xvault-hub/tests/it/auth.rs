//! Who a token belongs to, and which are none.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::world::{Caller, Dialect, JWT_SECRET, PASSWORD, World};

const ME: &str = "/api/v1/auth/me";

async fn everybody_is_who_they_are(world: World) {
    let acme = world.tenant("acme").await;
    let me = world.operator.get(ME).await.expect(200);
    assert_eq!((&me["role"], &me["tenant_id"]), (&json!("operator"), &Value::Null));
    for (caller, role) in [(&acme.owner, "owner"), (&acme.admin, "admin"), (&acme.member, "member")] {
        let me = caller.get(ME).await.expect(200);
        assert_eq!((&me["role"], &me["tenant_id"]), (&json!(role), &json!(acme.id)));
        assert_eq!((&me["user"]["email"], &me["api_key"]), (&json!(caller.email), &Value::Null));
        assert!(me["user"].get("password_hash").is_none() && me["user"]["last_login_at"].is_string());
    }
    let answer = world.nobody().get(ME).await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    answer.refused(401, "unauthorized");
}

/// The three parts of a token, decoded.
fn parts(token: &str) -> (Value, Value, String) {
    let parts: Vec<_> = token.split('.').collect();
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (json(parts[0]), json(parts[1]), parts[2].to_owned())
}

fn encode(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn signed(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn with(claims: &Value, key: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[key] = value.into();
    claims
}

async fn forged_tokens_are_refused(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let good = acme.member.token.clone().unwrap();
    let (header, claims, signature) = parts(&good);
    let none = |alg: &str| json!({ "alg": alg, "typ": "JWT" });
    let forged = [
        ("alg none", format!("{}.", encode(&none("none"), &claims))),
        ("alg None with the signature", format!("{}.{signature}", encode(&none("None"), &claims))),
        ("alg empty", format!("{}.{signature}", encode(&none(""), &claims))),
        ("alg RS256", format!("{}.{signature}", encode(&none("RS256"), &claims))),
        ("HS512 with our secret", signed(Algorithm::HS512, JWT_SECRET, &claims)),
        ("another secret", signed(Algorithm::HS256, b"another secret, as long as ours ..", &claims)),
        ("an empty secret", signed(Algorithm::HS256, b"", &claims)),
        ("another role", format!("{}.{signature}", encode(&header, &with(&claims, "role", "operator")))),
        (
            "another tenant",
            format!("{}.{signature}", encode(&header, &with(&claims, "tid", other.id.as_str()))),
        ),
        (
            "a longer life",
            format!("{}.{signature}", encode(&header, &with(&claims, "exp", 4_000_000_000_u64))),
        ),
        ("no signature", encode(&header, &claims)),
        ("an empty signature", format!("{}.", encode(&header, &claims))),
        ("a part of the signature", good[..good.len() - 4].to_owned()),
        ("cut in the middle", good[..good.len() / 2].to_owned()),
        ("a fourth part", format!("{good}.{signature}")),
        ("a byte in front", format!("x{good}")),
        ("no token", "hunter2".to_owned()),
        ("very long", "a.".repeat(4000)),
        ("a refresh token", acme.member.refresh_token.clone()),
        ("a worker's token", format!("xvw_{}", "a".repeat(43))),
        ("an unknown API key", format!("xvk_{}", "a".repeat(43))),
    ];
    for (what, token) in forged {
        let answer = acme.member.with_token(&token).get(ME).await;
        assert_eq!((answer.status, &answer.body["code"]), (401, &json!("unauthorized")), "{what}");
    }
    acme.member.get(ME).await.expect(200);
}

/// Even a token that our secret signed says nothing but who somebody is.
async fn the_row_decides_not_the_token(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let (_, claims, _) = parts(acme.member.token.as_ref().unwrap());
    let as_token = |claims: &Value| acme.member.with_token(&signed(Algorithm::HS256, JWT_SECRET, claims));
    let me = as_token(&with(&claims, "role", "operator")).get(ME).await.expect(200);
    assert_eq!(me["role"], "member");
    let broken = [
        with(&claims, "tid", other.id.as_str()),
        with(&claims, "tid", Value::Null),
        with(&claims, "sub", "nobody-of-this-name"),
        with(&claims, "sub", other.id.as_str()),
        with(&claims, "ver", -1),
        with(&claims, "exp", "never"),
        with(&claims, "exp", Value::Null),
        with(&claims, "iat", 4_000_000_000_u64),
        with(&claims, "role", "emperor"),
        json!({}),
        json!([]),
    ];
    for claims in broken {
        as_token(&claims).get(ME).await.refused(401, "unauthorized");
    }
}

async fn an_access_token_ends_by_the_hubs_clock(engine: Dialect) {
    let world = World::builder(engine).manual_clock().start().await;
    world.clock.advance(Duration::from_secs(899));
    world.operator.get(ME).await.expect(200);
    world.clock.advance(Duration::from_secs(1));
    let body = world.operator.get(ME).await.refused(401, "unauthorized");
    assert!(body["error"].as_str().unwrap().contains("expired"), "{body}");
}

async fn disabled_users_and_tenants_are_out_at_once(world: World) {
    let acme = world.tenant("acme").await;
    let user = format!("/api/v1/users/{}", acme.member.user_id);
    let refresh = |caller: &Caller| json!({ "refresh_token": caller.refresh_token });
    acme.owner.put(&user, json!({ "status": "disabled" })).await.expect(200);
    acme.member.get(ME).await.refused(403, "user_disabled");
    acme.member.try_login(&acme.member.email, PASSWORD).await.refused(403, "user_disabled");
    acme.member.try_login(&acme.member.email, "wrong password").await.refused(401, "unauthorized");
    acme.member.post("/api/v1/auth/refresh", refresh(&acme.member)).await.refused(401, "unauthorized");
    acme.owner.put(&user, json!({ "status": "active" })).await.expect(200);
    acme.member.get(ME).await.refused(401, "unauthorized");
    acme.member.login(&acme.member.email, PASSWORD).await.get(ME).await.expect(200);

    let tenant = format!("/api/v1/tenants/{}", acme.id);
    world.operator.put(&tenant, json!({ "status": "disabled" })).await.expect(200);
    acme.owner.get(ME).await.refused(403, "tenant_disabled");
    acme.owner.try_login(&acme.owner.email, PASSWORD).await.refused(403, "tenant_disabled");
    acme.owner.post("/api/v1/auth/refresh", refresh(&acme.owner)).await.refused(403, "tenant_disabled");
    world.operator.put(&tenant, json!({ "status": "active" })).await.expect(200);
    acme.owner.get(ME).await.expect(200);
    acme.owner.post("/api/v1/auth/refresh", refresh(&acme.owner)).await.expect(200);
}

/// The failed logins that the caller's tenant sees, once there are `count` of them.
async fn failures(caller: &Caller, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let events = caller.get("/api/v1/audit-events?limit=200").await.expect(200);
        let failed = events["audit_events"].as_array().unwrap().iter();
        let failed: Vec<_> = failed.filter(|event| event["action"] == "auth.login_failed").cloned().collect();
        if failed.len() >= count {
            return failed;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there are no {count} failures");
}

async fn failed_logins_of_accounts_are_written_down(world: World) {
    let acme = world.tenant("acme").await;
    let nobody = world.nobody();
    nobody.try_login("stranger@people.example", "wrong password").await.refused(401, "unauthorized");
    nobody.try_login(&acme.member.email, "hunter2-wrong").await.refused(401, "unauthorized");
    let failed = failures(&acme.owner, 1).await;
    let event = &failed[0];
    assert_eq!((&event["actor_type"], &event["actor_id"]), (&json!("system"), &Value::Null));
    assert_eq!((&event["target_id"], &event["ip"]), (&json!(acme.member.user_id), &json!("127.0.0.1")));
    assert_eq!(event["details"], json!({ "reason": "wrong_password" }));
    let user = format!("/api/v1/users/{}", acme.member.user_id);
    acme.owner.put(&user, json!({ "status": "disabled" })).await.expect(200);
    nobody.try_login(&acme.member.email, PASSWORD).await.refused(403, "user_disabled");
    assert_eq!(failures(&acme.owner, 2).await[0]["details"], json!({ "reason": "disabled" }));
    // However long somebody goes on, the log stays short.
    for _ in 0..30 {
        nobody.try_login(&acme.admin.email, "wrong password").await.refused(401, "unauthorized");
    }
    nobody.try_login(&acme.owner.email, "wrong password").await.refused(401, "unauthorized");
    let failed = failures(&acme.owner, 23).await;
    let of_admin = failed.iter().filter(|event| event["target_id"] == json!(acme.admin.user_id));
    assert_eq!((of_admin.count(), failed.len()), (20, 23));
    let all = world.operator.get("/api/v1/audit-events?limit=200").await.expect(200).to_string();
    assert!(!all.contains("stranger@") && !all.contains("hunter2"), "{all}");
}

async fn a_change_of_role_acts_at_once(world: World) {
    let acme = world.tenant("acme").await;
    let user = format!("/api/v1/users/{}", acme.admin.user_id);
    acme.admin.get("/api/v1/audit-events").await.expect(200);
    acme.owner.put(&user, json!({ "role": "member" })).await.expect(200);
    acme.admin.get("/api/v1/audit-events").await.refused(401, "unauthorized");
    let again = acme.admin.login(&acme.admin.email, PASSWORD).await;
    again.get("/api/v1/audit-events").await.refused(403, "forbidden");
    acme.owner.delete(&user).await.expect(204);
    again.get(ME).await.refused(401, "unauthorized");
}

on_both_engines!(
    everybody_is_who_they_are,
    forged_tokens_are_refused,
    the_row_decides_not_the_token,
    disabled_users_and_tenants_are_out_at_once,
    failed_logins_of_accounts_are_written_down,
    a_change_of_role_acts_at_once,
);

on_both_engines!(std::future::ready => an_access_token_ends_by_the_hubs_clock);
