//! Second stores over HTTP: which may be named, and what is shown.

use reqwest::Method;
use serde_json::json;

use crate::stores::new_store;
use crate::world::{World, text};

async fn a_second_store_lies_elsewhere_and_belongs_to_nobody_else(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let place = |bucket: &str| {
        let mut store = new_store(bucket);
        store["config"]["bucket"] = json!(bucket);
        store
    };
    let shared = text(&world.operator.post("/api/v1/stores", place("shared")).await.expect(201)["id"]);
    let foreign = text(&umbrella.admin.post("/api/v1/stores", place("foreign")).await.expect(201)["id"]);
    let second = text(&acme.admin.post("/api/v1/stores", place("second")).await.expect(201)["id"]);
    let mut first = place("first");
    first["replica_id"] = json!(second);
    let first = acme.admin.post("/api/v1/stores", first).await.expect(201);
    assert_eq!(first["replica_id"], json!(second));
    let refused = acme.admin.delete(&format!("/api/v1/stores/{second}")).await.refused(409, "in_use");
    assert_eq!(refused["details"]["replicas_of"], json!(1));
    let path = format!("/api/v1/stores/{}", text(&first["id"]));
    let set = async |id: &str| acme.admin.send(Method::PATCH, &path, Some(json!({ "replica_id": id }))).await;
    assert_eq!(set(&shared).await.expect(200)["replica_id"], json!(shared));
    set(&foreign).await.refused(404, "not_found");
    set(&text(&first["id"])).await.refused(422, "invalid_field");
    let same_place = text(&acme.admin.post("/api/v1/stores", place("first")).await.expect(201)["id"]);
    set(&same_place).await.refused(422, "invalid_field");
    let platforms = format!("/api/v1/stores/{shared}");
    let own = json!({ "replica_id": second });
    world.operator.send(Method::PATCH, &platforms, Some(own)).await.refused(422, "invalid_field");
    let none = acme.admin.send(Method::PATCH, &path, Some(json!({ "replica_id": null }))).await.expect(200);
    assert_eq!(none["replica_id"], json!(null));
}

async fn a_source_names_its_second_store(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let second = text(&acme.admin.post("/api/v1/stores", new_store("second")).await.expect(201)["id"]);
    let foreign = text(&umbrella.admin.post("/api/v1/stores", new_store("foreign")).await.expect(201)["id"]);
    let source = |replica: &str| {
        let config = json!({ "host": "h", "username": "u", "paths": ["/srv"] });
        json!({ "type": "ssh", "name": "x", "replica_store_id": replica, "config": config })
    };
    acme.admin.post("/api/v1/sources", source(&foreign)).await.refused(404, "not_found");
    let made = acme.admin.post("/api/v1/sources", source(&second)).await.expect(201);
    assert_eq!((&made["store_id"], &made["replica_store_id"]), (&json!(null), &json!(second)));
    let path = format!("/api/v1/sources/{}", text(&made["id"]));
    acme.admin.put(&path, json!({ "store_id": second })).await.refused(422, "invalid_field");
    acme.admin.delete(&format!("/api/v1/stores/{second}")).await.refused(409, "in_use");
    let saved = acme.admin.put(&path, json!({ "replica_store_id": null })).await.expect(200);
    assert_eq!(saved["replica_store_id"], json!(null));
    acme.admin.delete(&format!("/api/v1/stores/{second}")).await.expect(204);
}

/// A store that lies there.
fn at(bucket: &str, endpoint: &str) -> serde_json::Value {
    let mut store = new_store(bucket);
    store["config"] = json!({ "bucket": bucket, "prefix": "x", "endpoint": endpoint });
    store
}

async fn a_second_store_is_not_the_first_by_another_name(world: World) {
    let acme = world.tenant("acme").await;
    let made = async |bucket: &str, endpoint: &str| {
        text(&acme.admin.post("/api/v1/stores", at(bucket, endpoint)).await.expect(201)["id"])
    };
    let (first, elsewhere) =
        (made("one", "https://s3.example").await, made("two", "https://s3.example").await);
    let config = json!({ "host": "h", "username": "u", "paths": ["/srv"] });
    let source = |replica: &str| json!({ "type": "ssh", "name": "x", "store_id": first, "replica_store_id": replica, "config": config });
    let mut names = Vec::new();
    for endpoint in ["https://s3.example", "https://s3.example/", "https://S3.example:443"] {
        names.push(made("one", endpoint).await);
    }
    for same in &names {
        let refused = acme.admin.post("/api/v1/sources", source(same)).await.refused(422, "invalid_field");
        assert_eq!(refused["details"]["field"], json!("replica_store_id"), "{refused}");
    }
    let made = acme.admin.post("/api/v1/sources", source(&elsewhere)).await.expect(201);
    let source = format!("/api/v1/sources/{}", text(&made["id"]));
    acme.admin.put(&source, json!({ "replica_store_id": names[1] })).await.refused(422, "invalid_field");
    // Nor does either become the other afterwards: neither those of a source, nor a store and its own second one.
    let patch = async |id: &str, body| {
        acme.admin.send(Method::PATCH, &format!("/api/v1/stores/{id}"), Some(body)).await
    };
    let becomes = |bucket: &str| json!({ "config": at(bucket, "https://s3.example/")["config"] });
    patch(&elsewhere, becomes("one")).await.refused(422, "invalid_field");
    patch(&first, becomes("two")).await.refused(422, "invalid_field");
    patch(&names[0], json!({ "replica_id": names[1] })).await.refused(422, "invalid_field");
    patch(&names[0], json!({ "replica_id": elsewhere })).await.expect(200);
    patch(&names[0], becomes("two")).await.refused(422, "invalid_field");
    patch(&names[0], becomes("three")).await.expect(200);
    patch(&elsewhere, becomes("three")).await.refused(422, "invalid_field");
    patch(&first, becomes("one")).await.expect(200);
}

on_both_engines!(
    a_second_store_lies_elsewhere_and_belongs_to_nobody_else,
    a_source_names_its_second_store,
    a_second_store_is_not_the_first_by_another_name,
);
