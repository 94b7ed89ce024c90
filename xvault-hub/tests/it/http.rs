//! What holds for every answer: JSON errors, ids of requests, headers, limits, the description.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

async fn what_is_no_route_or_method_is_told_in_json(world: World) {
    let nobody = world.nobody();
    for path in ["/", "/api/v1", "/api/v1/none", "/api/v1/sources/a/b", "/internal/none", "/api/v1/tenants/"]
    {
        nobody.get(path).await.refused(404, "not_found");
    }
    for (method, path) in
        [(Method::DELETE, "/api/v1/sources"), (Method::POST, "/healthz"), (Method::PUT, "/api/v1/jobs")]
    {
        let answer = nobody.send(method, path, None).await;
        assert!(answer.headers.contains_key("allow"), "{:?}", answer.headers);
        answer.refused(405, "method_not_allowed");
    }
}

async fn methods_are_answered_in_one_way(world: World) {
    let operator = &world.operator;
    // HEAD is GET without a body, of failures, too.
    for (path, status) in
        [("/healthz", 200), ("/api/v1/tenants", 200), ("/api/v1/none", 404), ("/api/v1/auth/login", 405)]
    {
        let (head, get) = (operator.send(Method::HEAD, path, None).await, operator.get(path).await);
        assert_eq!((head.status, get.status), (status, status), "{path}");
        assert_eq!(head.body, Value::Null, "{path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"], "{path}");
    }
    let unknown = Method::from_bytes(b"BREW").unwrap();
    for method in [unknown, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        for (path, allowed) in [
            ("/api/v1/tenants", &["GET", "POST"][..]),
            ("/api/v1/users/x", &["GET", "PUT", "DELETE"]),
            ("/api/v1/auth/login", &["POST"]),
            ("/healthz", &["GET"]),
            ("/docs/", &["GET"]),
            ("/api/v1/openapi.json", &["GET"]),
        ] {
            let answer = operator.send(method.clone(), path, None).await;
            let allow = answer.headers["allow"].to_str().unwrap().to_owned();
            let told: Vec<_> = allow.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
            assert!(
                told.len() == allowed.len() && allowed.iter().all(|name| told.contains(name)),
                "{path}: {allow}"
            );
            answer.refused(405, "method_not_allowed");
        }
        operator.send(method.clone(), "/api/v1/none", None).await.refused(404, "not_found");
    }
    // A slash more, a letter that is none, a page that is not there.
    for path in [
        "/healthz/",
        "/api/v1/jobs/",
        "/api/v1/jobs/%ff",
        "/api/v1//jobs",
        "/API/V1/jobs",
        "/docs/none",
        "/docs/none/",
    ] {
        operator.get(path).await.refused(404, "not_found");
    }
}

async fn bodies_that_are_none_are_refused(world: World) {
    let acme = world.tenant("acme").await;
    let path = "/api/v1/sources";
    let json_type = Some("application/json");
    let cases: [(Option<&str>, &[u8], u16, &str); 9] = [
        (json_type, b"", 400, "bad_request"),
        (json_type, b"{", 400, "bad_request"),
        (json_type, b"\xff\xfe", 400, "bad_request"),
        (json_type, b"[]", 422, "invalid_body"),
        (json_type, b"null", 422, "invalid_body"),
        (json_type, b"\"x\"", 422, "invalid_body"),
        (None, b"{}", 415, "unsupported_media_type"),
        (Some("text/plain"), b"{}", 415, "unsupported_media_type"),
        (Some("application/x-www-form-urlencoded"), b"a=b", 415, "unsupported_media_type"),
    ];
    for (content_type, body, status, code) in cases {
        let answer = acme.admin.send_raw(Method::POST, path, content_type, Some(body.to_vec())).await;
        answer.refused(status, code);
    }
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = format!(r#"{{"type":"ssh","name":"x","config":{{"paths":{deep}}}}}"#);
    let answer = acme.admin.send_raw(Method::POST, path, json_type, Some(deep.into_bytes())).await;
    let error = answer.refused(422, "invalid_field");
    assert!(error.to_string().len() < 500, "{error}");
    let long = vec![b' '; 6 << 20];
    // Many in a row: each hears its answer, whether its body was read or not, and finds a connection that lives.
    for _ in 0..20 {
        acme.admin
            .send_raw(Method::POST, path, json_type, Some(long.clone()))
            .await
            .refused(413, "too_large");
        world
            .nobody()
            .send_raw(Method::POST, path, json_type, Some(long.clone()))
            .await
            .refused(401, "unauthorized");
        acme.admin.get("/healthz").await.expect(200);
    }
    let utf8 = Some("application/json; charset=utf-8");
    acme.admin.send_raw(Method::POST, path, utf8, Some(b"{}".to_vec())).await.refused(422, "invalid_field");
}

async fn every_answer_has_an_id_and_safe_headers(world: World) {
    let nobody = world.nobody();
    for path in ["/healthz", "/api/v1/none", "/api/v1/sources", "/docs/", "/api/v1/openapi.json"] {
        let (first, second) = (nobody.get(path).await, nobody.get(path).await);
        let id = |answer: &crate::world::Answer| answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_ne!(id(&first), id(&second));
        assert_eq!(first.headers["x-content-type-options"], "nosniff");
        assert_eq!(first.headers["x-frame-options"], "DENY");
        assert!(
            first.headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'")
        );
        assert_eq!(first.headers.get("cache-control").is_some(), path != "/docs/");
    }
}

async fn a_hub_says_whether_it_can_serve(world: World) {
    let nobody = world.nobody();
    let well = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(nobody.get("/healthz").await.expect(200), well);
    assert_eq!(nobody.get("/readyz").await.expect(200), well);
    world.db.close().await;
    assert_eq!(nobody.get("/healthz").await.expect(200), well);
    let answer = nobody.get("/readyz").await;
    answer.refused(503, "unavailable");
    let answer = world.operator.get("/api/v1/tenants").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.refused(503, "unavailable");
}

/// Hubs are brought up to date one after the other, and the first brings the database along.
async fn a_hub_stays_ready_while_a_newer_one_migrates(world: World) {
    let nobody = world.nobody();
    world.database.migrate_further().await;
    nobody.get("/readyz").await.expect(200);
    world.operator.get("/api/v1/tenants").await.expect(200);
    let one_less = "DELETE FROM xvault_migrations WHERE version = 2";
    sqlx::raw_sql(one_less).execute(&world.database.sql().await).await.unwrap();
    nobody.get("/readyz").await.refused(503, "unavailable");
}

async fn the_description_is_served_with_its_page(world: World) {
    let nobody = world.nobody();
    let document = nobody.get("/api/v1/openapi.json").await;
    assert_eq!(document.headers["content-type"], "application/json");
    let document = document.expect(200);
    assert_eq!(document, serde_json::to_value(xvault_hub::api::openapi()).unwrap());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let page = nobody.get("/docs/").await;
    assert_eq!(page.status, 200);
    let html = page.body.as_str().unwrap().to_owned();
    assert!(html.contains("swagger-ui"), "{html}");
    assert!(!html.contains("https://"), "the page loads something from elsewhere: {html}");
    let script = nobody.get("/docs/swagger-initializer.js").await.expect(200);
    assert!(script.as_str().unwrap().contains("/api/v1/openapi.json"), "{script}");
    assert_eq!(nobody.get("/docs").await.status, 200);
}

/// The committed description is what the code says.
#[test]
fn the_committed_description_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api/openapi.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let current = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    assert!(
        committed == current,
        "docs/api/openapi.json is stale: `cargo run -p xvault-hub -- openapi > docs/api/openapi.json`"
    );
}

/// It may be null, and not be absent.
#[test]
fn a_field_that_must_be_there_is_described_so() {
    let document = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    let required = &document["components"]["schemas"]["NewPolicy"]["required"];
    assert_eq!(*required, json!(["retention_policy"]));
}

/// The settings of an `ssh` source may be those of an `ftp` source, too: a description that allows one of them refuses both.
#[test]
fn the_settings_of_a_source_are_described_as_any_of_the_types() {
    let document = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["SourceConfig"]["oneOf"], Value::Null);
    let types = schemas["SourceConfig"]["anyOf"].as_array().unwrap();
    assert_eq!(types.len(), 6);
    for one in types {
        let name = one["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        assert!(schemas[name].is_object(), "{name} is described nowhere");
    }
}

/// Every operation has an id of its own, says who may call it, and tells all its failures in one form.
#[test]
fn the_description_is_complete() {
    let document = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    let operations: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, op)| (method, path, op)))
        .collect();
    let mut ids: Vec<_> =
        operations.iter().map(|(.., operation)| operation["operationId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "an operation id comes twice");
    for (method, path, operation) in operations {
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            assert!(status.parse::<u16>().is_ok(), "{method} {path}: {status} is no status");
            let schema = &response["content"]["application/json"]["schema"]["$ref"];
            if status.starts_with(['4', '5']) {
                assert_eq!(schema, "#/components/schemas/ErrorBody", "{method} {path} {status}");
            }
        }
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{method} {path}");
        assert!(operation["summary"].is_string(), "{method} {path} has no summary");
        let scheme = operation["security"][0].as_object().unwrap().keys().next().map(String::as_str);
        let expected = match path.as_str() {
            path if path.starts_with("/internal/") => Some("worker_token"),
            "/api/v1/auth/register"
            | "/api/v1/auth/login"
            | "/api/v1/auth/refresh"
            | "/api/v1/auth/logout" => None,
            path if path.starts_with("/api/v1/") => Some("token"),
            _ => None,
        };
        assert_eq!(scheme, expected, "{method} {path}");
    }
}

on_both_engines!(
    what_is_no_route_or_method_is_told_in_json,
    methods_are_answered_in_one_way,
    bodies_that_are_none_are_refused,
    every_answer_has_an_id_and_safe_headers,
    a_hub_says_whether_it_can_serve,
    a_hub_stays_ready_while_a_newer_one_migrates,
    the_description_is_served_with_its_page,
);
