//! Users, and that somebody is always left to make more of them.

use futures::future::join;
use serde_json::{Value, json};

use crate::world::{Caller, PASSWORD, Tenant, World, text};

fn path(caller: &Caller) -> String {
    format!("/api/v1/users/{}", caller.user_id)
}

fn new_user(email: &str, role: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "role": role })
}

async fn owners_make_change_and_remove_users(world: World) {
    let acme = world.tenant("acme").await;
    let made = acme.owner.post("/api/v1/users", new_user(" New@People.example", "member")).await.expect(201);
    assert_eq!((&made["email"], &made["role"]), (&json!("new@people.example"), &json!("member")));
    assert_eq!((&made["tenant_id"], &made["status"]), (&json!(acme.id), &json!("active")));
    assert!(made["last_login_at"].is_null());
    let user = format!("/api/v1/users/{}", text(&made["id"]));
    assert_eq!(acme.owner.get(&user).await.expect(200), made);
    let changed = acme.owner.put(&user, json!({ "role": "admin" })).await.expect(200);
    assert_eq!((&changed["role"], &changed["status"]), (&json!("admin"), &json!("active")));
    let changed = acme.owner.put(&user, json!({ "status": "disabled" })).await.expect(200);
    assert_eq!((&changed["role"], &changed["status"]), (&json!("admin"), &json!("disabled")));
    acme.owner.delete(&user).await.expect(204);
    acme.owner.get(&user).await.refused(404, "not_found");
    acme.owner.delete(&user).await.refused(404, "not_found");
    acme.owner.put(&user, json!({ "role": "admin" })).await.refused(404, "not_found");
    let events = acme.owner.get("/api/v1/audit-events?limit=4").await.expect(200);
    let seen: Vec<_> =
        events["audit_events"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert_eq!(seen, ["user.delete", "user.update", "user.update", "user.create"]);
    assert_eq!(events["audit_events"][0]["target_id"], made["id"]);
    assert_eq!(events["audit_events"][0]["actor_id"], acme.owner.user_id.as_str());
}

async fn an_address_has_one_account(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let taken = acme.member.email.to_uppercase();
    let own =
        acme.owner.post("/api/v1/users", new_user(&taken, "member")).await.refused(409, "email_unusable");
    let foreign =
        other.owner.post("/api/v1/users", new_user(&taken, "member")).await.refused(409, "email_unusable");
    assert_eq!(own, foreign);
    assert!(!foreign.to_string().contains("account"), "{foreign}");
    world.operator.post("/api/v1/users", new_user(&taken, "operator")).await.refused(409, "email_unusable");
    for bad in ["", "nobody", "a@b@c", "a b@c", "x@\u{e4}.example"] {
        let body =
            acme.owner.post("/api/v1/users", new_user(bad, "member")).await.refused(422, "invalid_field");
        assert_eq!(body["details"]["field"], "email", "{bad}");
    }
}

async fn an_address_is_changed_by_owners_and_operators(world: World) {
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let (member, nobody) = (path(&acme.member), world.nobody());
    let change = |email: &str| json!({ "email": email });
    let changed = acme.owner.put(&member, change(" Married@People.example ")).await.expect(200);
    assert_eq!((&changed["email"], &changed["role"]), (&json!("married@people.example"), &json!("member")));
    acme.member.get("/api/v1/auth/me").await.refused(401, "unauthorized");
    nobody.try_login(&acme.member.email, PASSWORD).await.refused(401, "unauthorized");
    let member_again = nobody.login("married@people.example", PASSWORD).await;
    let events = acme.owner.get("/api/v1/audit-events").await.expect(200);
    let told = events["audit_events"].as_array().unwrap().iter();
    let details = &told.clone().find(|event| event["action"] == "user.update").unwrap()["details"];
    assert_eq!(
        (&details["email"], &details["email_before"]),
        (&json!("married@people.example"), &json!(acme.member.email))
    );
    for taken in [&acme.admin.email, &other.owner.email, "ROOT@platform.example"] {
        acme.owner.put(&member, change(taken)).await.refused(409, "email_unusable");
    }
    let error = acme.owner.put(&member, change("nobody")).await.refused(422, "invalid_field");
    assert_eq!(error["details"]["field"], "email");
    member_again.put(&member, change("own@people.example")).await.refused(403, "forbidden");
    acme.admin.put(&member, change("x@people.example")).await.refused(403, "forbidden");
    other.owner.put(&member, change("x@people.example")).await.refused(404, "not_found");
    // One's own address stays one's own, and what was left is free.
    acme.owner.put(&member, change("married@people.example")).await.expect(200);
    other.owner.post("/api/v1/users", new_user(&acme.member.email, "member")).await.expect(201);
    world.operator.put(&member, change("by-operator@people.example")).await.expect(200);
    let me = text(&world.operator.get("/api/v1/auth/me").await.expect(200)["user"]["id"]);
    acme.owner.put(&format!("/api/v1/users/{me}"), change("x@x")).await.refused(404, "not_found");
    world.operator.put(&format!("/api/v1/users/{me}"), change("boss@platform.example")).await.expect(200);
    nobody.login("boss@platform.example", PASSWORD).await;
}

async fn lists_go_from_new_to_old_in_pages(world: World) {
    let acme = world.tenant("acme").await;
    world.tenant("other").await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/users?limit=2".to_owned();
    loop {
        let page = acme.owner.get(&path).await.expect(200);
        seen.extend(page["users"].as_array().unwrap().iter().map(|user| text(&user["id"])));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/users?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, [&acme.member, &acme.admin, &acme.owner].map(|caller| caller.user_id.clone()));
    let all = world.operator.get("/api/v1/users").await.expect(200);
    assert_eq!(all["users"].as_array().unwrap().len(), 7);
    let one = world.operator.get(&format!("/api/v1/users?tenant_id={}", acme.id)).await.expect(200);
    assert_eq!(one["users"].as_array().unwrap().len(), 3);
    acme.owner.get("/api/v1/users?limit=0").await.refused(400, "bad_request");
    acme.owner.get("/api/v1/users?cursor=junk!").await.refused(400, "bad_request");
    acme.owner.get("/api/v1/users?unknown=1").await.refused(400, "bad_request");
}

async fn the_last_owner_stays(world: World) {
    let acme = world.tenant("acme").await;
    let owner = path(&acme.owner);
    for caller in [&acme.owner, &world.operator] {
        caller.put(&owner, json!({ "role": "admin" })).await.refused(409, "last_owner");
        caller.put(&owner, json!({ "status": "disabled" })).await.refused(409, "last_owner");
        caller.delete(&owner).await.refused(409, "last_owner");
    }
    acme.owner.get("/api/v1/auth/me").await.expect(200);
    let second = world.user(&acme.id, "owner").await;
    second.put(&path(&second), json!({ "status": "disabled" })).await.expect(200);
    acme.owner.delete(&owner).await.refused(409, "last_owner");
    acme.owner.put(&path(&second), json!({ "status": "active" })).await.expect(200);
    acme.owner.put(&owner, json!({ "role": "admin" })).await.expect(200);
    let second = world.nobody().login(&second.email, PASSWORD).await;
    second.delete(&path(&second)).await.refused(409, "last_owner");
    second.delete(&owner).await.expect(204);
}

async fn the_last_operator_stays(world: World) {
    let me = text(&world.operator.get("/api/v1/auth/me").await.expect(200)["user"]["id"]);
    let operator = format!("/api/v1/users/{me}");
    world.operator.put(&operator, json!({ "status": "disabled" })).await.refused(409, "last_owner");
    world.operator.delete(&operator).await.refused(409, "last_owner");
    world.operator.put(&operator, json!({ "role": "owner" })).await.refused(422, "invalid_field");
    world.operator.post("/api/v1/users", new_user("second@platform.example", "operator")).await.expect(201);
    let second = world.nobody().login("second@platform.example", PASSWORD).await;
    second.delete(&operator).await.expect(204);
    world.operator.get("/api/v1/auth/me").await.refused(401, "unauthorized");
    second.delete(&path(&second)).await.refused(409, "last_owner");
}

async fn owners_left(world: &World, tenant: &Tenant) -> usize {
    let users = world.operator.get(&format!("/api/v1/users?tenant_id={}", tenant.id)).await.expect(200);
    let is_left = |user: &&Value| user["role"] == "owner" && user["status"] == "active";
    users["users"].as_array().unwrap().iter().filter(is_left).count()
}

/// Each finds the other still there, unless one waits for the other.
async fn two_owners_who_remove_each_other_leave_one(world: World) {
    let acme = world.tenant("acme").await;
    let mut first = acme.owner.clone();
    for round in 0..12 {
        let second = world.user(&acme.id, "owner").await;
        let end = async |caller: &Caller, other: &Caller| match round % 3 {
            0 => caller.delete(&path(other)).await,
            1 => caller.put(&path(other), json!({ "role": "admin" })).await,
            _ => caller.put(&path(other), json!({ "status": "disabled" })).await,
        };
        let (one, two) = join(end(&first, &second), end(&second, &first)).await;
        let statuses = [one.status, two.status];
        assert_eq!(owners_left(&world, &acme).await, 1, "round {round}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status < 300).count(), 1, "round {round}: {statuses:?}");
        if one.status >= 300 {
            first = second;
        }
    }
}

async fn operators_belong_to_no_tenant(world: World) {
    let acme = world.tenant("acme").await;
    let mut with_tenant = new_user("o@platform.example", "operator");
    with_tenant["tenant_id"] = json!(acme.id);
    let body = world.operator.post("/api/v1/users", with_tenant).await.refused(422, "invalid_field");
    assert_eq!(body["details"]["field"], "tenant_id");
    world
        .operator
        .post("/api/v1/users", new_user("m@acme.example", "member"))
        .await
        .refused(400, "bad_request");
    let mut nowhere = new_user("m@acme.example", "member");
    nowhere["tenant_id"] = json!("no-such-tenant");
    world.operator.post("/api/v1/users", nowhere).await.refused(404, "not_found");
    let promote = json!({ "role": "operator" });
    world.operator.put(&path(&acme.owner), promote.clone()).await.refused(422, "invalid_field");
    acme.owner.put(&path(&acme.owner), promote).await.refused(403, "forbidden");
    acme.owner
        .post("/api/v1/users", new_user("o@platform.example", "operator"))
        .await
        .refused(403, "forbidden");
}

on_both_engines!(
    owners_make_change_and_remove_users,
    an_address_has_one_account,
    an_address_is_changed_by_owners_and_operators,
    lists_go_from_new_to_old_in_pages,
    the_last_owner_stays,
    the_last_operator_stays,
    two_owners_who_remove_each_other_leave_one,
    operators_belong_to_no_tenant,
);
