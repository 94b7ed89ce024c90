//! How often somebody may try to log in, and set passwords.

use std::num::NonZeroU32;

use reqwest::Method;
use serde_json::json;
use xvault_hub::LoginLimit;

use crate::world::{Answer, Caller, Dialect, OPERATOR, PASSWORD, World};

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// As the tests have it: nothing is limited.
fn unlimited() -> LoginLimit {
    let many = number(100_000);
    LoginLimit { per_address: many, per_account: many, failures_per_account: many, passwords: many }
}

/// Behind a proxy on this machine.
async fn world(engine: Dialect, limit: LoginLimit) -> World {
    let proxied = World::builder(engine).settings(|settings| {
        settings.login_limit = limit;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    proxied.start().await
}

/// Refused, with a wait that is no longer than it takes for one attempt to come free.
#[track_caller]
fn wait_of(answer: Answer, at_most_secs: u64) {
    let wait = answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
    assert!((1..=at_most_secs).contains(&wait), "{wait}");
    answer.refused(429, "rate_limited");
}

/// What the proxy says that the call comes from.
async fn login_from(caller: &Caller, address: &str, email: &str, password: &str) -> Answer {
    let request = caller.request(Method::POST, "/api/v1/auth/login");
    let request = request.header("x-forwarded-for", format!("203.0.113.9, {address}"));
    let request = request.header("forwarded", "for=203.0.113.9");
    let request = request.header("x-real-ip", "203.0.113.9");
    let request = request.json(&json!({ "email": email, "password": password }));
    Answer::read("login".into(), request.send().await.unwrap()).await
}

async fn attempts_at_an_account_are_limited_by_address(engine: Dialect) {
    let world = world(engine, LoginLimit { per_account: number(3), ..unlimited() }).await;
    let nobody = world.nobody();
    for attempt in 0..3 {
        let answer = login_from(&nobody, "192.0.2.1", OPERATOR, "wrong password").await;
        assert_eq!(answer.status, 401, "attempt {attempt}");
    }
    let again = login_from(&nobody, "192.0.2.1", &OPERATOR.to_uppercase(), "wrong password").await;
    wait_of(again, 21);
    wait_of(login_from(&nobody, "192.0.2.1", OPERATOR, PASSWORD).await, 21);
    login_from(&nobody, "192.0.2.1", "other@people.example", "wrong password")
        .await
        .refused(401, "unauthorized");
    // The owner of the account is elsewhere, and gets in; so does the one who sits at home without a proxy.
    login_from(&nobody, "192.0.2.2", OPERATOR, PASSWORD).await.expect(200);
    nobody.try_login(OPERATOR, PASSWORD).await.expect(200);
    // The old password can't be guessed with a stolen token either: these are attempts like any other.
    let me = world.operator.get("/api/v1/auth/me").await.expect(200);
    let path = format!("/api/v1/users/{}/password", me["user"]["id"].as_str().unwrap());
    let guess = json!({ "old_password": "wrong password", "password": "another long password" });
    world.operator.put(&path, guess.clone()).await.refused(403, "wrong_password");
    wait_of(world.operator.put(&path, guess).await, 21);
}

/// Somebody who guesses with many machines.
#[tokio::test]
async fn failures_at_an_account_are_limited_from_wherever_and_logins_are_not() {
    let world = world(Dialect::Sqlite, LoginLimit { failures_per_account: number(3), ..unlimited() }).await;
    let nobody = world.nobody();
    for _ in 0..6 {
        nobody.try_login(OPERATOR, PASSWORD).await.expect(200);
    }
    for email in [OPERATOR, "stranger@people.example"] {
        for machine in 0..3 {
            let answer = login_from(&nobody, &format!("192.0.2.{machine}"), email, "wrong password").await;
            answer.refused(401, "unauthorized");
        }
        wait_of(login_from(&nobody, "192.0.2.77", email, "wrong password").await, 21);
        wait_of(login_from(&nobody, "192.0.2.78", email, PASSWORD).await, 21);
    }
}

#[tokio::test]
async fn attempts_from_an_address_are_limited_whatever_a_client_writes() {
    let limit = LoginLimit { per_address: number(5), ..unlimited() };
    let world = world(Dialect::Sqlite, limit).await;
    for number in 0..5 {
        let email = format!("user-{number}@people.example");
        login_from(&world.nobody(), "192.0.2.1", &email, "wrong password").await.refused(401, "unauthorized");
    }
    wait_of(login_from(&world.nobody(), "192.0.2.1", "user-6@people.example", "wrong password").await, 13);
    // The log has the address that the proxy saw, not what stands to the left of it.
    login_from(&world.nobody(), "192.0.2.44", OPERATOR, PASSWORD).await.expect(200);
    let events = world.operator.get("/api/v1/audit-events?limit=1").await.expect(200);
    assert_eq!(events["audit_events"][0]["ip"], "192.0.2.44", "{events}");
}

/// Without a proxy the header is anybody's.
#[tokio::test]
async fn the_header_of_a_stranger_is_ignored() {
    let limit = LoginLimit { per_address: number(5), ..unlimited() };
    let world =
        World::builder(Dialect::Sqlite).settings(|settings| settings.login_limit = limit).start().await;
    for number in 1..5 {
        let (address, email) = (format!("192.0.2.{number}"), format!("user-{number}@people.example"));
        login_from(&world.nobody(), &address, &email, "wrong password").await.refused(401, "unauthorized");
    }
    wait_of(login_from(&world.nobody(), "192.0.2.6", "user-6@people.example", "wrong password").await, 13);
    world.operator.get("/api/v1/auth/me").await.expect(200);
}

async fn passwords_are_limited_by_tenant(engine: Dialect) {
    let world = world(engine, LoginLimit { passwords: number(4), ..unlimited() }).await;
    let made = world.operator.post("/api/v1/tenants", json!({ "name": "acme" })).await.expect(201);
    let tenant = made["id"].as_str().unwrap();
    let owner = world.user(tenant, "owner").await;
    let path = format!("/api/v1/users/{}/password", owner.user_id);
    let user = |email: &str| json!({ "email": email, "password": PASSWORD, "role": "owner" });
    owner.post("/api/v1/users", user("second@acme.example")).await.expect(201);
    let second = world.nobody().login("second@acme.example", PASSWORD).await;
    // Both are of one tenant, and what is refused as taken counts: it tells something.
    second.put(&path, json!({ "password": PASSWORD })).await.expect(204);
    second.post("/api/v1/users", user("second@acme.example")).await.refused(409, "email_unusable");
    let me = format!("/api/v1/users/{}", second.user_id);
    second.put(&me, json!({ "email": OPERATOR })).await.refused(409, "email_unusable");
    wait_of(second.put(&path, json!({ "password": PASSWORD })).await, 16);
    wait_of(second.post("/api/v1/users", user("third@acme.example")).await, 16);
    wait_of(second.put(&me, json!({ "email": "free@acme.example" })).await, 16);
    second.put(&me, json!({ "role": "owner" })).await.expect(200);
    let other = json!({ "email": "o2@platform.example", "password": PASSWORD, "role": "operator" });
    world.operator.post("/api/v1/users", other).await.expect(201);
}

on_both_engines!(std::future::ready => attempts_at_an_account_are_limited_by_address, passwords_are_limited_by_tenant);
