//! How often somebody may try to log in.

use std::num::NonZeroU32;

use reqwest::Method;
use serde_json::json;
use xvault_hub::LoginLimit;

use crate::world::{Answer, Caller, Dialect, OPERATOR, PASSWORD, World};

async fn world(engine: Dialect, per_address: u32, per_account: u32) -> World {
    let number = |n| NonZeroU32::new(n).unwrap();
    let limit = LoginLimit { per_address: number(per_address), per_account: number(per_account) };
    World::builder(engine).settings(|settings| settings.login_limit = limit).start().await
}

/// Refused, with a wait that is no longer than it takes for one attempt to come free.
fn wait_of(answer: Answer, at_most_secs: u64) {
    let wait = answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
    assert!((1..=at_most_secs).contains(&wait), "{wait}");
    answer.refused(429, "rate_limited");
}

/// A proxy's header says another address each time.
async fn login_behind(caller: &Caller, email: &str, number: usize) -> Answer {
    let request = caller.request(Method::POST, "/api/v1/auth/login");
    let request = request.header("x-forwarded-for", format!("10.0.0.{number}"));
    let request = request.header("forwarded", format!("for=10.0.0.{number}"));
    let request = request.header("x-real-ip", format!("10.0.0.{number}"));
    let request = request.json(&json!({ "email": email, "password": "wrong password" }));
    Answer::read("login".into(), request.send().await.unwrap()).await
}

async fn an_account(engine: Dialect) {
    let world = world(engine, 1000, 3).await;
    let nobody = world.nobody();
    for attempt in 0..2 {
        let answer = nobody.try_login(OPERATOR, "wrong password").await;
        assert_eq!(answer.status, 401, "attempt {attempt}");
    }
    wait_of(nobody.try_login(&OPERATOR.to_uppercase(), "wrong password").await, 21);
    wait_of(nobody.try_login(OPERATOR, PASSWORD).await, 21);
    nobody.try_login("other@people.example", "wrong password").await.refused(401, "unauthorized");
    // The old password can't be guessed with a stolen token either.
    let me = world.operator.get("/api/v1/auth/me").await.expect(200);
    let path = format!("/api/v1/users/{}/password", me["user"]["id"].as_str().unwrap());
    let guess = json!({ "old_password": "wrong password", "password": "another long password" });
    wait_of(world.operator.put(&path, guess).await, 21);
}

#[tokio::test]
async fn attempts_at_an_account_are_limited_on_sqlite() {
    an_account(Dialect::Sqlite).await;
}

#[tokio::test]
async fn attempts_at_an_account_are_limited_on_postgres() {
    an_account(Dialect::Postgres).await;
}

#[tokio::test]
async fn attempts_from_an_address_are_limited_whatever_a_header_says() {
    let world = world(Dialect::Sqlite, 5, 1000).await;
    for number in 1..5 {
        let answer = login_behind(&world.nobody(), &format!("user-{number}@people.example"), number).await;
        assert_eq!(answer.status, 401, "{number}");
    }
    wait_of(login_behind(&world.nobody(), "user-6@people.example", 6).await, 13);
    world.operator.get("/api/v1/auth/me").await.expect(200);
}
