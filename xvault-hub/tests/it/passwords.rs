//! Passwords: how they are changed, and what a change ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{Caller, Dialect, PASSWORD, World};

const NEW: &str = "another long password";

fn path(caller: &Caller) -> String {
    format!("/api/v1/users/{}/password", caller.user_id)
}

async fn a_new_password_ends_all_sessions(world: World) {
    let acme = world.tenant("acme").await;
    let other_session = world.nobody().login(&acme.member.email, PASSWORD).await;
    let change = json!({ "old_password": PASSWORD, "password": NEW });
    acme.member.put(&path(&acme.member), change).await.expect(204);
    for session in [&acme.member, &other_session] {
        session.get("/api/v1/auth/me").await.refused(401, "unauthorized");
        let body = json!({ "refresh_token": session.refresh_token });
        session.post("/api/v1/auth/refresh", body).await.refused(401, "unauthorized");
    }
    world.nobody().try_login(&acme.member.email, PASSWORD).await.refused(401, "unauthorized");
    world.nobody().login(&acme.member.email, NEW).await.get("/api/v1/auth/me").await.expect(200);
}

/// The clock stands still: what counts is the change, not the time.
async fn a_token_of_the_same_instant_is_void(engine: Dialect) {
    let world = World::builder(engine).manual_clock().start().await;
    let acme = world.tenant("acme").await;
    for round in 0..3 {
        let session = world.nobody().login(&acme.member.email, PASSWORD).await;
        acme.owner.put(&path(&acme.member), json!({ "password": PASSWORD })).await.expect(204);
        let answer = session.get("/api/v1/auth/me").await;
        assert_eq!(answer.status, 401, "round {round}: {}", answer.body);
    }
}

async fn ones_own_needs_the_old_one(world: World) {
    let acme = world.tenant("acme").await;
    for caller in [&acme.member, &acme.owner, &world.operator] {
        let body = caller.put(&path(caller), json!({ "password": NEW })).await.refused(422, "invalid_field");
        assert_eq!(body["details"]["field"], "old_password");
        let wrong = json!({ "old_password": "wrong password", "password": NEW });
        caller.put(&path(caller), wrong).await.refused(403, "wrong_password");
    }
    acme.member.put(&path(&acme.admin), json!({ "password": NEW })).await.refused(403, "forbidden");
    acme.admin.put(&path(&acme.member), json!({ "password": NEW })).await.refused(403, "forbidden");
    acme.owner.put(&path(&acme.member), json!({ "password": NEW })).await.expect(204);
    world.operator.put(&path(&acme.owner), json!({ "password": NEW })).await.expect(204);
    world.nobody().login(&acme.member.email, NEW).await;
    world.nobody().login(&acme.owner.email, NEW).await;
}

async fn a_password_has_ten_to_two_hundred_characters(world: World) {
    let acme = world.tenant("acme").await;
    for (password, status) in [
        ("123456789".to_owned(), 422),
        ("ääääääääää".to_owned(), 204),
        ("ä".repeat(200), 204),
        ("x".repeat(201), 422),
    ] {
        let answer = acme.owner.put(&path(&acme.member), json!({ "password": password })).await;
        assert_eq!(answer.status, status, "{password}: {}", answer.body);
        if status == 204 {
            world.nobody().login(&acme.member.email, &password).await;
        }
    }
}

async fn refusal_takes(caller: &Caller, email: &str) -> Duration {
    let start = Instant::now();
    caller.try_login(email, "wrong password").await.refused(401, "unauthorized");
    start.elapsed()
}

/// The fastest of many tries, taken in turn, is what the code costs, whatever else the machine does.
async fn an_unknown_address_takes_as_long(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for _ in 0..15 {
        known = known.min(refusal_takes(&nobody, &acme.member.email).await);
        unknown = unknown.min(refusal_takes(&nobody, "stranger@people.example").await);
    }
    assert!(unknown > known / 2, "unknown {unknown:?}, known {known:?}");
    let answers = [
        world.nobody().try_login(&acme.member.email, "wrong password").await.body,
        world.nobody().try_login("stranger@people.example", "wrong password").await.body,
        world.nobody().try_login("no address", "wrong password").await.body,
    ];
    assert!(answers.iter().all(|body| *body == answers[0]), "{answers:?}");
}

async fn the_address_of_an_account_has_no_case(world: World) {
    let acme = world.tenant("acme").await;
    world.nobody().login(&format!(" {} ", acme.member.email.to_uppercase()), PASSWORD).await;
    for (email, password) in
        [(acme.member.email.as_str(), ""), (&acme.member.email, &PASSWORD.to_uppercase()), ("", "")]
    {
        world.nobody().try_login(email, password).await.refused(401, "unauthorized");
    }
}

on_both_engines!(
    a_new_password_ends_all_sessions,
    ones_own_needs_the_old_one,
    a_password_has_ten_to_two_hundred_characters,
    an_unknown_address_takes_as_long,
    the_address_of_an_account_has_no_case,
);

on_both_engines!(std::future::ready => a_token_of_the_same_instant_is_void);
