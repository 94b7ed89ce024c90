//! Settings of tenants.

use serde_json::{Value, json};

use crate::world::World;

const SETTINGS: &str = "/api/v1/settings";

fn hours(value: impl Into<Value>) -> Value {
    json!({ "settings": { "download_expiration_hours": value.into() } })
}

async fn settings_have_defaults_and_ranges(world: World) {
    let acme = world.tenant("acme").await;
    let get = async || acme.member.get(SETTINGS).await.expect(200)["settings"].clone();
    let all = |hours: u32| json!({ "download_expiration_hours": hours, "verify_interval_days": 0, "verify_depth": "quick" });
    assert_eq!(get().await, all(24));
    for good in [1, 168, 48] {
        let set = acme.admin.put(SETTINGS, hours(good)).await.expect(200);
        assert_eq!(set["settings"]["download_expiration_hours"], good);
        assert_eq!(set["tenant_id"], acme.id.as_str());
    }
    for bad in
        [json!(0), json!(169), json!(-1), json!(1.5), json!("24"), json!(true), json!([]), json!(u64::MAX)]
    {
        let body = acme.admin.put(SETTINGS, hours(bad)).await.refused(422, "invalid_field");
        assert_eq!(body["details"]["field"], "settings.download_expiration_hours");
    }
    for bad in [json!("thorough"), json!(1), json!("deep ")] {
        let body = json!({ "settings": { "verify_depth": bad } });
        let body = acme.admin.put(SETTINGS, body).await.refused(422, "invalid_field");
        assert_eq!(body["details"]["field"], "settings.verify_depth");
    }
    let mixed = json!({ "settings": { "download_expiration_hours": 2, "unknown": 1 } });
    let body = acme.admin.put(SETTINGS, mixed).await.refused(422, "invalid_field");
    assert_eq!(body["details"]["field"], "settings.unknown");
    assert_eq!(get().await, all(48), "all or none");
    acme.admin.put(SETTINGS, hours(Value::Null)).await.expect(200);
    assert_eq!(get().await, all(24));
    let events = acme.admin.get("/api/v1/audit-events?limit=1").await.expect(200);
    assert_eq!(events["audit_events"][0]["action"], "settings.update");
}

async fn operators_name_the_tenant(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    world.operator.get(SETTINGS).await.refused(400, "bad_request");
    world.operator.put(SETTINGS, hours(5)).await.refused(400, "bad_request");
    let mut body = hours(5);
    body["tenant_id"] = json!(acme.id);
    world.operator.put(SETTINGS, body).await.expect(200);
    let of = async |id: &str| {
        let answer = world.operator.get(&format!("{SETTINGS}?tenant_id={id}")).await;
        answer.expect(200)["settings"]["download_expiration_hours"].clone()
    };
    assert_eq!((of(&acme.id).await, of(&other.id).await), (json!(5), json!(24)));
    world.operator.get(&format!("{SETTINGS}?tenant_id=none")).await.refused(404, "not_found");
}

on_both_engines!(settings_have_defaults_and_ranges, operators_name_the_tenant);
