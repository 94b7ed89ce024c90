//! The tenant that a call is about stands in the body or in the query: over every call that makes or sets something of a tenant.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, ssh_source};
use crate::routes::{Names, ROUTES, Route, Who};
use crate::world::{Answer, Caller, Tenant, World};

/// Calls of tenants that name nothing in their path: what they make or set belongs to a tenant that must be known otherwise.
fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| {
        let of_tenants =
            (Who::Member..=Who::Owner).contains(&route.who) && route.path.starts_with("/api/v1/");
        of_tenants && route.method != "GET" && route.names == Names::Nothing
    })
}

/// Whether the description lets a call name the tenant in its query, and in its body.
fn places(document: &Value, operation: &Value) -> (bool, bool) {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_named = |parameter: &Value| parameter["name"] == "tenant_id" && parameter["in"] == "query";
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    let schema = schema.as_str().and_then(|text| document.pointer(text.trim_start_matches('#')));
    let in_body = schema.is_some_and(|schema| !schema["properties"]["tenant_id"].is_null());
    (parameters.iter().any(is_named), in_body)
}

#[test]
fn each_of_them_says_so() {
    let document = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "get") {
            let (in_query, in_body) = places(&document, operation);
            if operation["requestBody"].is_null() {
                continue;
            }
            assert_eq!(in_query, in_body, "{method} {path} takes `tenant_id` in one place only");
            if in_query {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let known: BTreeSet<_> = routes().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, known);
    assert!(known.len() >= 7, "{known:?}");
}

/// A call, with other people's ids where they belong.
struct Call<'a> {
    route: &'static Route,
    acme: &'a Tenant,
    fresh: &'a str,
}

impl Call<'_> {
    /// With the tenant in the body, in the query, in both or in neither. Each time for a source that has nothing yet.
    async fn ask(&self, caller: &Caller, in_body: Option<&str>, in_query: Option<&str>) -> Answer {
        let (_, source) = ssh_source(&self.acme.admin).await;
        let fresh = format!("{}-{source}", self.fresh);
        let mut body = self.route.body(&self.acme.id, &source, &fresh).unwrap();
        body.as_object_mut().unwrap().remove("tenant_id");
        if let Some(id) = in_body {
            body["tenant_id"] = json!(id);
        }
        let query = in_query.map(|id| format!("?tenant_id={id}")).unwrap_or_default();
        let method: Method = self.route.method.parse().unwrap();
        caller.send(method, &format!("{}{query}", self.route.path), Some(body)).await
    }

    async fn succeeds(&self, caller: &Caller, in_body: Option<&str>, in_query: Option<&str>) {
        let answer = self.ask(caller, in_body, in_query).await;
        assert!([200, 201].contains(&answer.status), "{}: {}", answer.request, answer.body);
        assert_eq!(answer.body["tenant_id"], self.acme.id, "{}", answer.request);
    }
}

async fn body_and_query_name_the_tenant_alike(world: World) {
    FakeWorker::join(&world, "w1", &["ssh"]).await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let (own, foreign) = (acme.id.as_str(), umbrella.id.as_str());
    for (number, route) in routes().enumerate() {
        let call = Call { route, acme: &acme, fresh: &format!("f{number}") };
        for caller in [&world.operator, &acme.owner] {
            for (in_body, in_query) in [(Some(own), None), (None, Some(own)), (Some(own), Some(own))] {
                call.succeeds(caller, in_body, in_query).await;
            }
            for (in_body, in_query) in [(own, foreign), (foreign, own)] {
                let body = call.ask(caller, Some(in_body), Some(in_query)).await.refused(400, "bad_request");
                assert_eq!(body["error"], "`tenant_id` is not the same in query and body");
            }
            call.ask(caller, None, Some("no%20id")).await.refused(400, "bad_request");
        }
        call.succeeds(&acme.owner, None, None).await;
        let unnamed = call.ask(&world.operator, None, None).await;
        if route.path == "/api/v1/stores" {
            // A store without a tenant is the platform's.
            assert_eq!((unnamed.status, &unnamed.body["tenant_id"]), (201, &Value::Null), "{}", unnamed.body);
        } else {
            let body = unnamed.refused(400, "bad_request");
            assert_eq!(body["error"], "an operator must name the tenant as `tenant_id`");
        }
        for (in_body, in_query) in
            [(Some(foreign), None), (None, Some(foreign)), (Some(foreign), Some(foreign))]
        {
            call.ask(&acme.owner, in_body, in_query).await.refused(404, "not_found");
        }
        call.ask(&world.operator, None, Some("nobody")).await.refused(404, "not_found");
    }
    let query = format!("/api/v1/users?tenant_id={own}");
    let operator = json!({ "email": "x@example.com", "password": "0123456789", "role": "operator" });
    let refusal = world.operator.post(&query, operator).await.refused(422, "invalid_field");
    assert_eq!(refusal["details"]["field"], "tenant_id");
}

on_both_engines!(body_and_query_name_the_tenant_alike);
