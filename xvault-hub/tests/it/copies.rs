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

on_both_engines!(a_second_store_lies_elsewhere_and_belongs_to_nobody_else, a_source_names_its_second_store,);
