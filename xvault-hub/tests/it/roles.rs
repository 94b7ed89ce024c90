//! Every role at every route of tenancy: a table.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Caller, PASSWORD, Tenant, World, text};

/// What nobody, a member, an admin, an owner and an operator get. `{user}` and `{key}` are made for each call, `{tenant}`
/// is the caller's, `{email}` is nobody's yet, `{session}` is none.
const TABLE: &[(&str, &str, &str, [u16; 5])] = &[
    ("GET", "/auth/me", "", [401, 200, 200, 200, 200]),
    ("GET", "/auth/sessions", "", [401, 200, 200, 200, 200]),
    ("DELETE", "/auth/sessions/{session}", "", [401, 404, 404, 404, 404]),
    ("POST", "/tenants", r#"{"name":"n"}"#, [401, 403, 403, 403, 201]),
    ("GET", "/tenants", "", [401, 403, 403, 403, 200]),
    ("GET", "/tenants/{tenant}", "", [401, 200, 200, 200, 200]),
    ("PUT", "/tenants/{tenant}", r#"{"name":"n"}"#, [401, 403, 403, 403, 200]),
    ("POST", "/tenants/{tenant}/identity", "", [401, 403, 403, 200, 200]),
    (
        "POST",
        "/users",
        r#"{"tenant_id":"{tenant}","email":"{email}","password":"{password}","role":"member"}"#,
        [401, 403, 403, 201, 201],
    ),
    (
        "POST",
        "/users",
        r#"{"tenant_id":"{tenant}","email":"{email}","password":"{password}","role":"owner"}"#,
        [401, 403, 403, 201, 201],
    ),
    (
        "POST",
        "/users",
        r#"{"email":"{email}","password":"{password}","role":"operator"}"#,
        [401, 403, 403, 403, 201],
    ),
    ("GET", "/tenants/{tenant}/recipients", "", [401, 200, 200, 200, 200]),
    ("POST", "/tenants/{tenant}/recipients/challenge", r#"{"data":["no key"]}"#, [401, 403, 403, 422, 422]),
    ("PUT", "/tenants/{tenant}/recipients", r#"{"data":["no key"],"answers":{}}"#, [401, 403, 403, 422, 422]),
    ("DELETE", "/tenants/{tenant}/recipients", "", [401, 403, 403, 200, 200]),
    ("GET", "/users?tenant_id={tenant}", "", [401, 403, 403, 200, 200]),
    ("GET", "/users/{user}", "", [401, 403, 403, 200, 200]),
    ("PUT", "/users/{user}", r#"{"role":"owner"}"#, [401, 403, 403, 200, 200]),
    ("PUT", "/users/{user}", r#"{"role":"operator"}"#, [401, 403, 403, 403, 422]),
    ("PUT", "/users/{user}", r#"{"status":"disabled"}"#, [401, 403, 403, 200, 200]),
    ("PUT", "/users/{user}/password", r#"{"password":"{password}"}"#, [401, 403, 403, 204, 204]),
    ("DELETE", "/users/{user}", "", [401, 403, 403, 204, 204]),
    (
        "POST",
        "/api-keys",
        r#"{"tenant_id":"{tenant}","name":"k","role":"member"}"#,
        [401, 403, 403, 201, 201],
    ),
    ("POST", "/api-keys", r#"{"tenant_id":"{tenant}","name":"k","role":"owner"}"#, [401, 403, 403, 201, 201]),
    (
        "POST",
        "/api-keys",
        r#"{"tenant_id":"{tenant}","name":"k","role":"operator"}"#,
        [401, 403, 403, 422, 422],
    ),
    ("GET", "/api-keys", "", [401, 403, 403, 200, 200]),
    ("GET", "/api-keys/{key}", "", [401, 403, 403, 200, 200]),
    ("DELETE", "/api-keys/{key}", "", [401, 403, 403, 204, 204]),
    ("GET", "/settings?tenant_id={tenant}", "", [401, 200, 200, 200, 200]),
    ("PUT", "/settings", r#"{"tenant_id":"{tenant}","settings":{}}"#, [401, 403, 200, 200, 200]),
    ("GET", "/audit-events", "", [401, 403, 200, 200, 200]),
];

/// Routes that ask for no token.
const PUBLIC: &[(&str, &str)] = &[
    ("POST", "/auth/login"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/register"),
];

/// The tags of the routes above.
const TAGS: &[&str] = &["auth", "tenants", "users", "api-keys", "settings", "audit-events"];

async fn fresh_user(world: &World, tenant: &Tenant, number: u32) -> String {
    let body = json!({
        "tenant_id": tenant.id, "email": format!("spare-{number}@people.example"), "password": PASSWORD, "role": "member",
    });
    text(&world.operator.post("/api/v1/users", body).await.expect(201)["id"])
}

async fn key(world: &World, tenant: &Tenant, role: &str) -> Value {
    let body = json!({ "tenant_id": tenant.id, "name": role, "role": role });
    world.operator.post("/api/v1/api-keys", body).await.expect(201)
}

/// What stands for the words in braces.
async fn fill(world: &World, tenant: &Tenant, text_with_words: &str, number: u32) -> String {
    let mut filled = text_with_words.replace("{tenant}", &tenant.id).replace("{password}", PASSWORD);
    filled = filled.replace("{email}", &format!("fresh-{number}@people.example"));
    if filled.contains("{user}") {
        filled = filled.replace("{user}", &fresh_user(world, tenant, number).await);
    }
    if filled.contains("{key}") {
        filled = filled.replace("{key}", &text(&key(world, tenant, "member").await["id"]));
    }
    filled
}

async fn every_role_at_every_route(world: World) {
    let acme = world.tenant("acme").await;
    let mut callers: Vec<(String, usize, Caller)> = vec![
        ("nobody".into(), 0, world.nobody()),
        ("member".into(), 1, acme.member.clone()),
        ("admin".into(), 2, acme.admin.clone()),
        ("owner".into(), 3, acme.owner.clone()),
        ("operator".into(), 4, world.operator.clone()),
    ];
    for (column, role) in ["member", "admin", "owner"].into_iter().enumerate() {
        let secret = text(&key(&world, &acme, role).await["key"]);
        callers.push((format!("key of {role}"), column + 1, world.nobody().with_token(&secret)));
    }
    let mut number = 0;
    for (method, path, body, statuses) in TABLE {
        for (name, column, caller) in &callers {
            number += 1;
            let path = format!("/api/v1{}", fill(&world, &acme, path, number).await);
            let body = fill(&world, &acme, body, number).await;
            let body = (!body.is_empty()).then(|| serde_json::from_str(&body).unwrap());
            let answer = caller.send(Method::from_bytes(method.as_bytes()).unwrap(), &path, body).await;
            assert_eq!(answer.status, statuses[*column], "{name}: {method} {path}: {}", answer.body);
            if answer.status == 401 || answer.status == 403 {
                let code = if answer.status == 401 { "unauthorized" } else { "forbidden" };
                answer.refused(statuses[*column], code);
            }
        }
    }
}

on_both_engines!(every_role_at_every_route);

#[test]
fn no_route_is_forgotten() {
    let document = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let tags = operation["tags"].as_array().into_iter().flatten();
            if tags.filter_map(Value::as_str).any(|tag| TAGS.contains(&tag)) {
                routes.insert(format!("{} {}", method.to_uppercase(), path.trim_start_matches("/api/v1")));
            }
        }
    }
    let generic = |path: &str| {
        let path = path.split('?').next().unwrap();
        ["{tenant}", "{user}", "{key}", "{session}"]
            .iter()
            .fold(path.to_owned(), |path, word| path.replace(word, "{id}"))
    };
    let tested = TABLE.iter().map(|(method, path, ..)| (method, path));
    let tested = tested.chain(PUBLIC.iter().map(|(method, path)| (method, path)));
    let tested: BTreeSet<_> = tested.map(|(method, path)| format!("{method} {}", generic(path))).collect();
    assert_eq!(routes, tested);
}
