//! Bodies that are not what a route wants.

use reqwest::Method;
use serde_json::{Value, json};

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

async fn other_methods_and_routes_say_so(world: World) {
    world.operator.put("/api/v1/users", json!({})).await.refused(405, "method_not_allowed");
    world.operator.delete("/api/v1/settings").await.refused(405, "method_not_allowed");
    world.operator.get("/api/v1/auth/nothing").await.refused(404, "not_found");
}

on_both_engines!(unfit_bodies_are_refused_by_name, other_methods_and_routes_say_so);
