//! Bodies that are not what a route wants.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fake_worker::FakeWorker;
use crate::routes::{ROUTES, Who};
use crate::world::{PASSWORD, World};

/// Each route with a body that would do, and one of its fields.
fn routes(tenant: &str, user: &str) -> Vec<(Method, String, Value, &'static str)> {
    vec![
        (
            Method::POST,
            "/api/v1/auth/register".into(),
            json!({ "tenant_name": "t", "email": "a@b", "password": PASSWORD }),
            "email",
        ),
        (Method::POST, "/api/v1/auth/login".into(), json!({ "email": "a@b", "password": PASSWORD }), "email"),
        (Method::POST, "/api/v1/auth/refresh".into(), json!({ "refresh_token": "x" }), "refresh_token"),
        (Method::POST, "/api/v1/auth/logout".into(), json!({ "refresh_token": "x" }), "refresh_token"),
        (Method::POST, "/api/v1/tenants".into(), json!({ "name": "n" }), "name"),
        (Method::PUT, format!("/api/v1/tenants/{tenant}"), json!({ "name": "n" }), "name"),
        (
            Method::POST,
            "/api/v1/users".into(),
            json!({ "tenant_id": tenant, "email": "a@b", "password": PASSWORD, "role": "member" }),
            "role",
        ),
        (Method::PUT, format!("/api/v1/users/{user}"), json!({ "role": "member" }), "role"),
        (Method::PUT, format!("/api/v1/users/{user}/password"), json!({ "password": PASSWORD }), "password"),
        (
            Method::POST,
            "/api/v1/api-keys".into(),
            json!({ "tenant_id": tenant, "name": "n", "role": "member" }),
            "name",
        ),
        (Method::PUT, "/api/v1/settings".into(), json!({ "tenant_id": tenant, "settings": {} }), "settings"),
    ]
}

async fn unfit_bodies_are_refused_by_name(world: World) {
    let acme = world.tenant("acme").await;
    let json_type = Some("application/json");
    for (method, path, good, field) in routes(&acme.id, &acme.member.user_id) {
        let send = |content_type, body: Vec<u8>| {
            world.operator.send_raw(method.clone(), &path, content_type, Some(body))
        };
        for junk in [&b""[..], b"{", b"hunter2", b"{\"a\":}", b"\xff\xfe", b"{}{}"] {
            send(json_type, junk.to_vec()).await.refused(400, "bad_request");
        }
        for other in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            send(other, good.to_string().into_bytes()).await.refused(415, "unsupported_media_type");
        }
        let mut unknown = good.clone();
        unknown["surprise"] = json!(1);
        let body = send(json_type, unknown.to_string().into_bytes()).await.expect(422);
        assert!(body["error"].as_str().unwrap().contains("surprise"), "{path}: {body}");
        for wrong in [json!(7), json!(["x"]), json!(false)] {
            let mut wrongly_typed = good.clone();
            wrongly_typed[field] = wrong;
            let body = send(json_type, wrongly_typed.to_string().into_bytes()).await.expect(422);
            assert_eq!(body["details"]["field"], field, "{path}: {body}");
        }
        let mut large = good.clone();
        large[field] = json!("x".repeat(3 << 20));
        send(json_type, large.to_string().into_bytes()).await.refused(413, "too_large");
        for no_object in ["[]", "null", "1", "\"text\""] {
            send(json_type, no_object.into()).await.expect(422);
        }
    }
    acme.member.get("/api/v1/auth/me").await.expect(200);
}

/// Over every route that takes one: too long, no JSON, of another type, and with a field that means nothing.
async fn no_route_takes_an_unfit_body(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let (absent, recipient) =
        ("00000000-0000-7000-8000-000000000000", worker.identity.recipient().to_string());
    let mut routes = 0;
    for route in ROUTES {
        let Some(body) = route.body else { continue };
        let caller = if route.who == Who::Worker { &worker.caller } else { &world.operator };
        let path = route.path.replace("{id}", absent);
        let body = body.replace("$tenant", absent).replace("$source", absent);
        let body = body.replace("$recipient", &recipient).replace("$fresh", "w2");
        let method: Method = route.method.parse().unwrap();
        let send = |kind, body: Vec<u8>| caller.send_raw(method.clone(), &path, Some(kind), Some(body));
        let long = body.clone() + &" ".repeat(3 << 20);
        send("application/json", long.into()).await.refused(413, "too_large");
        send("application/json", b"{\"a\":".to_vec()).await.refused(400, "bad_request");
        send("text/plain", body.clone().into()).await.refused(415, "unsupported_media_type");
        let mut unknown: Value = serde_json::from_str(&body).unwrap();
        unknown["surprise"] = json!(1);
        let refused = send("application/json", unknown.to_string().into()).await.expect(422);
        assert!(refused.to_string().contains("surprise"), "{method} {path}: {refused}");
        routes += 1;
    }
    assert!(routes > 20, "{routes}");
}

async fn other_methods_and_routes_say_so(world: World) {
    world.operator.put("/api/v1/users", json!({})).await.refused(405, "method_not_allowed");
    world.operator.delete("/api/v1/settings").await.refused(405, "method_not_allowed");
    world.operator.get("/api/v1/auth/nothing").await.refused(404, "not_found");
}

on_both_engines!(
    unfit_bodies_are_refused_by_name,
    no_route_takes_an_unfit_body,
    other_methods_and_routes_say_so
);
