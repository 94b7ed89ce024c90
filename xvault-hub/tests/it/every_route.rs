//! Who may call what, and that one tenant's ids are nothing to another: over every route of the API's description.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::routes::{Names, ROUTES, Route, Who};
use crate::stores::bucket;
use crate::world::{Answer, Caller, Tenant, World, text};

/// One of everything that a tenant can have.
struct Belongings {
    tenant: String,
    user: String,
    api_key: String,
    credential: String,
    source: String,
    store: String,
    job: String,
    snapshot: String,
    schedule: String,
    session: String,
}

/// A tenant's callers: its users, or API keys, which need no slow passwords.
struct Callers {
    tenant: String,
    owner: Caller,
    admin: Caller,
    member: Caller,
}

impl Callers {
    fn users(tenant: &Tenant) -> Self {
        let Tenant { id, owner, admin, member, .. } = tenant;
        Self { tenant: id.clone(), owner: owner.clone(), admin: admin.clone(), member: member.clone() }
    }

    async fn keys(world: &World) -> Self {
        let made = world.operator.post("/api/v1/tenants", json!({ "name": "keyed" })).await.expect(201);
        let tenant = text(&made["id"]);
        let key = async |role: &str| {
            let body = json!({ "tenant_id": tenant, "name": role, "role": role });
            let made = world.operator.post("/api/v1/api-keys", body).await.expect(201);
            world.nobody().with_token(&text(&made["key"]))
        };
        let (owner, admin, member) = (key("owner").await, key("admin").await, key("member").await);
        Self { tenant, owner, admin, member }
    }
}

impl Belongings {
    async fn of(callers: &Callers, user: &str, worker: &FakeWorker) -> Self {
        let (credential, source) = ssh_source(&callers.admin).await;
        let snapshot = worker.back_up(&enqueue(&callers.member, &source).await).await;
        let schedule = json!({ "source_id": source, "cron": "0 3 * * *" });
        let schedule = text(&callers.admin.post("/api/v1/schedules", schedule).await.expect(201)["id"]);
        let store = bucket(&callers.admin).await;
        let key = json!({ "name": "ci", "role": "member" });
        let api_key = text(&callers.owner.post("/api/v1/api-keys", key).await.expect(201)["id"]);
        // API keys have none.
        let sessions = callers.member.get("/api/v1/auth/sessions").await.expect(200);
        let session = sessions["sessions"][0]["id"].as_str().unwrap_or("none").to_owned();
        Self {
            session,
            tenant: callers.tenant.clone(),
            user: user.to_owned(),
            api_key,
            job: enqueue(&callers.member, &source).await,
            credential,
            source,
            store,
            snapshot,
            schedule,
        }
    }

    fn id(&self, names: Names) -> &str {
        match names {
            Names::Tenant => &self.tenant,
            Names::User => &self.user,
            Names::ApiKey => &self.api_key,
            Names::Credential => &self.credential,
            Names::Source => &self.source,
            Names::Store => &self.store,
            Names::Job | Names::HeldJob => &self.job,
            Names::Snapshot => &self.snapshot,
            Names::Schedule => &self.schedule,
            Names::Session => &self.session,
            Names::Worker => "spare",
            Names::Nothing => "",
        }
    }
}

async fn belongings(tenant: &Tenant, worker: &FakeWorker) -> Belongings {
    Belongings::of(&Callers::users(tenant), &tenant.member.user_id, worker).await
}

async fn call(caller: &Caller, route: &Route, own: &Belongings, named: &Belongings, fresh: &str) -> Answer {
    let path = route.path.replace("{id}", named.id(route.names)).replace("{other}", &own.snapshot);
    let body = route.body(&own.tenant, &own.source, fresh);
    let method: Method = route.method.parse().unwrap();
    // A stream goes on for minutes; a test only wants to know how it begins.
    if route.path.ends_with("/events") {
        return caller.begin(&path).await;
    }
    caller.send(method, &path, body).await
}

#[test]
fn every_route_is_here() {
    let document = serde_json::to_value(xvault_hub::api::openapi()).unwrap();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |m| (m.to_uppercase(), path.clone()))
        })
        .filter(|(method, _)| ["GET", "PUT", "POST", "DELETE", "PATCH"].contains(&method.as_str()))
        .collect();
    let known: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.split('?').next().unwrap().to_owned()))
        .collect();
    let difference: Vec<_> = described.symmetric_difference(&known).collect();
    assert!(
        difference.is_empty(),
        "in the description or in tests/it/routes.rs, not in both: {difference:?}"
    );
    for route in ROUTES {
        assert_eq!(route.path.contains("{id}"), route.names != Names::Nothing, "{}", route.path);
    }
}

async fn a_foreign_id_is_none(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let (own, foreign) = (belongings(&acme, &worker).await, belongings(&umbrella, &worker).await);
    let before = everything(&umbrella, &foreign).await;
    let tenants = ROUTES.iter().filter(|route| {
        !matches!(route.names, Names::Nothing | Names::Worker | Names::HeldJob) && route.who <= Who::Owner
    });
    for route in tenants {
        for named in [&foreign, &nothing()] {
            let answer = call(&acme.owner, route, &own, named, "f").await;
            answer.refused(404, "not_found");
        }
    }
    let bodies = [
        ("/api/v1/jobs", json!({ "source_id": foreign.source })),
        ("/api/v1/schedules", json!({ "source_id": foreign.source, "cron": "@daily" })),
        (
            "/api/v1/schedules",
            json!({ "source_id": own.source, "tenant_id": foreign.tenant, "cron": "@daily" }),
        ),
        ("/api/v1/jobs", json!({ "source_id": own.source, "tenant_id": foreign.tenant })),
        (
            "/api/v1/sources",
            json!({
                "type": "ssh", "name": "x", "credential_id": foreign.credential,
                "config": { "host": "h", "username": "u", "paths": ["/srv"] },
            }),
        ),
        (
            "/api/v1/credentials",
            json!({ "tenant_id": foreign.tenant, "kind": "source", "plaintext": "eHg=" }),
        ),
    ];
    for (path, body) in bodies {
        acme.owner.post(path, body).await.refused(404, "not_found");
    }
    let path = format!("/api/v1/sources/{}", own.source);
    acme.owner.put(&path, json!({ "credential_id": foreign.credential })).await.refused(404, "not_found");
    acme.owner.put(&path, json!({ "store_id": foreign.store })).await.refused(404, "not_found");
    let path = format!("/api/v1/stores/{}", own.store);
    let body = json!({ "credential_id": foreign.credential });
    acme.owner.send(Method::PATCH, &path, Some(body)).await.refused(404, "not_found");
    for list in [
        "users",
        "api-keys",
        "credentials",
        "sources",
        "stores",
        "schedules",
        "jobs",
        "snapshots",
        "audit-events",
        "settings",
    ] {
        let path = format!("/api/v1/{list}?tenant_id={}", foreign.tenant);
        acme.owner.get(&path).await.refused(404, "not_found");
    }
    for list in ["jobs", "snapshots", "schedules"] {
        let path = format!("/api/v1/{list}?source_id={}", foreign.source);
        assert_eq!(acme.owner.get(&path).await.expect(200)[list], json!([]));
    }
    assert_eq!(everything(&umbrella, &foreign).await, before, "a stranger changed something");
}

fn nothing() -> Belongings {
    let none = || "00000000-0000-7000-8000-000000000000".to_owned();
    Belongings {
        tenant: none(),
        user: none(),
        api_key: none(),
        credential: none(),
        source: none(),
        store: none(),
        job: none(),
        snapshot: none(),
        schedule: none(),
        session: none(),
    }
}

/// All that a tenant has, as its owner sees it.
async fn everything(tenant: &Tenant, own: &Belongings) -> Vec<Value> {
    let mut all = Vec::new();
    for (kind, id) in [
        ("tenants", &own.tenant),
        ("users", &own.user),
        ("api-keys", &own.api_key),
        ("credentials", &own.credential),
        ("sources", &own.source),
        ("stores", &own.store),
        ("jobs", &own.job),
        ("snapshots", &own.snapshot),
        ("schedules", &own.schedule),
    ] {
        all.push(tenant.owner.get(&format!("/api/v1/{kind}/{id}")).await.expect(200));
    }
    for list in ["users", "api-keys", "credentials", "sources", "stores", "schedules", "jobs", "snapshots"] {
        all.push(tenant.owner.get(&format!("/api/v1/{list}")).await.expect(200));
    }
    all
}

fn by_role(world: &World, tenant: &Callers) -> [(Who, Caller); 5] {
    [
        (Who::Anybody, world.nobody()),
        (Who::Member, tenant.member.clone()),
        (Who::Admin, tenant.admin.clone()),
        (Who::Owner, tenant.owner.clone()),
        (Who::Operator, world.operator.clone()),
    ]
}

async fn lower_roles_are_refused(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    FakeWorker::join(&world, "spare", &[]).await;
    let acme = world.tenant("acme").await;
    let own = belongings(&acme, &worker).await;
    let mut denied = 0;
    for (number, route) in ROUTES.iter().enumerate().filter(|(_, route)| route.who != Who::Worker) {
        for (role, caller) in
            by_role(&world, &Callers::users(&acme)).iter().filter(|(role, _)| *role < route.who)
        {
            let answer = call(caller, route, &own, &own, &format!("f{number}")).await;
            match role {
                Who::Anybody => answer.refused(401, "unauthorized"),
                // Oneself may be seen and changed by everybody.
                Who::Member if route.names == Names::User && own_account(route) => continue,
                _ => answer.refused(403, "forbidden"),
            };
            denied += 1;
        }
    }
    assert!(denied > 100, "{denied}");
}

async fn the_least_role_suffices(world: World) {
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let callers = Callers::keys(&world).await;
    for (number, route) in ROUTES.iter().enumerate().filter(|(_, route)| route.who != Who::Worker) {
        for (role, caller) in by_role(&world, &callers) {
            if role != route.who && role != Who::Operator {
                continue;
            }
            // Anew each time: what is allowed may delete what the next one needs.
            let fresh = format!("f{number}-{role:?}");
            let spare = json!({ "id": "spare" });
            world.operator.post("/api/v1/workers", spare).await;
            let user = if route.names == Names::User {
                member(&world, &callers, &fresh).await
            } else {
                String::new()
            };
            let own = Belongings::of(&callers, &user, &worker).await;
            let answer = call(&caller, route, &own, &own, &fresh).await;
            let open = route.who == Who::Anybody;
            assert!(
                open || ![401, 403].contains(&answer.status),
                "{role:?} {}: {}",
                answer.request,
                answer.body
            );
            assert!(answer.status < 500 && answer.status != 422, "{}: {}", answer.request, answer.body);
        }
    }
}

async fn member(world: &World, callers: &Callers, name: &str) -> String {
    let email = format!("member-{name}@example.com");
    let body =
        json!({ "tenant_id": callers.tenant, "email": email, "password": "0123456789", "role": "member" });
    text(&world.operator.post("/api/v1/users", body).await.expect(201)["id"])
}

/// A member may read the account that is its own, and change its password.
fn own_account(route: &Route) -> bool {
    route.method == "GET" || route.path.ends_with("/password")
}

async fn tokens_of_workers_and_people_do_not_mix(world: World) {
    let acme = world.tenant("acme").await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let other = FakeWorker::join(&world, "w2", &["ssh"]).await;
    let mut own = belongings(&acme, &worker).await;
    let held = worker.claim(&own.job).await;
    own.job = held.job_id.to_string();
    for route in ROUTES.iter().filter(|route| route.who == Who::Worker) {
        for caller in [&world.nobody(), &acme.owner, &world.operator] {
            call(caller, route, &own, &own, "w1").await.refused(401, "unauthorized");
        }
        if route.names == Names::HeldJob {
            call(&other.caller, route, &own, &own, "w2").await.refused(409, "lease_lost");
            call(&worker.caller, route, &own, &own, "w1").await.refused(409, "lease_lost");
            let answer = call(&worker.caller, route, &own, &nothing(), "w1").await;
            answer.refused(404, "not_found");
        }
    }
    let body = json!({ "lease_token": held.lease_token });
    worker.caller.post(&format!("/internal/jobs/{}/renew", own.job), body).await.expect(200);
}

on_both_engines!(
    a_foreign_id_is_none,
    lower_roles_are_refused,
    the_least_role_suffices,
    tokens_of_workers_and_people_do_not_mix,
);
