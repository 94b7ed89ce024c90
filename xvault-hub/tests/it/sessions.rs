//! Refresh tokens: one use each, and what a second one means.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use xvault_hub::Registration;

use crate::world::{Answer, Caller, Dialect, PASSWORD, World, text};

async fn refresh(caller: &Caller, token: &str) -> Answer {
    caller.post("/api/v1/auth/refresh", json!({ "refresh_token": token })).await
}

async fn logout(caller: &Caller, token: &str) {
    caller.post("/api/v1/auth/logout", json!({ "refresh_token": token })).await.expect(204);
}

/// How often `action` stands in the log of the caller's tenant.
async fn count(caller: &Caller, action: &str) -> usize {
    let events = caller.get("/api/v1/audit-events?limit=200").await.expect(200);
    events["audit_events"].as_array().unwrap().iter().filter(|event| event["action"] == action).count()
}

async fn a_refresh_token_is_good_for_one_use(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let first = acme.member.refresh_token.as_str();
    let other_session = nobody.login(&acme.member.email, PASSWORD).await;
    let session = refresh(&nobody, first).await.expect(200);
    assert_eq!((&session["token_type"], &session["expires_in"]), (&json!("Bearer"), &json!(900)));
    let second = text(&session["refresh_token"]);
    assert_ne!(second, first);
    let access = nobody.with_token(&text(&session["access_token"]));
    access.get("/api/v1/auth/me").await.expect(200);

    let third = text(&refresh(&nobody, &second).await.expect(200)["refresh_token"]);
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 0);
    // However soon: who used the second one has had the answer to the first.
    refresh(&nobody, first).await.refused(401, "unauthorized");
    refresh(&nobody, &third).await.refused(401, "unauthorized");
    refresh(&nobody, first).await.refused(401, "unauthorized");
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 1);
    refresh(&nobody, &other_session.refresh_token).await.expect(200);
}

/// A world whose clock stands still.
async fn still(engine: Dialect) -> World {
    World::builder(engine).manual_clock().start().await
}

/// The one that won. All others are told to look for its answer.
fn one_of(answers: Vec<Answer>) -> Answer {
    let (mut won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    for answer in lost {
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert_eq!(answer.headers["retry-after"], "2");
        answer.refused(401, "refresh_superseded");
    }
    assert_eq!(won.len(), 1);
    won.remove(0)
}

async fn of_many_at_once_one_wins(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let first = acme.member.refresh_token.as_str();
    let at_once = async || one_of(join_all((0..8).map(|_| refresh(&nobody, first))).await);
    at_once().await;
    // Nobody had the answer; then all try again.
    world.clock.advance(Duration::from_secs(2));
    let won = at_once().await;
    // Two tabs of one browser: neither is logged out.
    refresh(&nobody, &text(&won.body["refresh_token"])).await.expect(200);
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 0);
}

async fn a_lost_answer_is_given_again(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let first = acme.member.refresh_token.as_str();
    refresh(&nobody, first).await.expect(200);
    world.clock.advance(Duration::from_millis(1999));
    refresh(&nobody, first).await.refused(401, "refresh_superseded");
    world.clock.advance(Duration::from_millis(1));
    refresh(&nobody, first).await.expect(200);
    // That answer takes its time, too.
    refresh(&nobody, first).await.refused(401, "refresh_superseded");
    world.clock.advance(Duration::from_secs(58));
    let session = refresh(&nobody, first).await.expect(200);
    assert_eq!(count(&acme.owner, "auth.refresh_again").await, 2);

    let access = nobody.with_token(&text(&session["access_token"]));
    access.get("/api/v1/auth/me").await.expect(200);
    let next = text(&refresh(&nobody, &text(&session["refresh_token"])).await.expect(200)["refresh_token"]);
    refresh(&nobody, &next).await.expect(200);
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 0);
}

async fn after_a_minute_a_used_token_is_a_copy(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let first = acme.member.refresh_token.as_str();
    let second = text(&refresh(&nobody, first).await.expect(200)["refresh_token"]);
    world.clock.advance(Duration::from_millis(60_001));
    refresh(&nobody, first).await.refused(401, "unauthorized");
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 1);
    refresh(&nobody, &second).await.refused(401, "unauthorized");
}

async fn a_token_whose_successor_was_used_is_a_copy(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    // In the same instant.
    let first = acme.admin.refresh_token.as_str();
    let second = text(&refresh(&nobody, first).await.expect(200)["refresh_token"]);
    let third = text(&refresh(&nobody, &second).await.expect(200)["refresh_token"]);
    refresh(&nobody, first).await.refused(401, "unauthorized");
    refresh(&nobody, &third).await.refused(401, "unauthorized");
    // After a lost answer.
    let first = acme.member.refresh_token.as_str();
    refresh(&nobody, first).await.expect(200);
    world.clock.advance(Duration::from_secs(2));
    let second = text(&refresh(&nobody, first).await.expect(200)["refresh_token"]);
    let third = text(&refresh(&nobody, &second).await.expect(200)["refresh_token"]);
    world.clock.advance(Duration::from_secs(2));
    refresh(&nobody, first).await.refused(401, "unauthorized");
    refresh(&nobody, &third).await.refused(401, "unauthorized");
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 2);
}

/// A thief who shows a used token in time is found out by the next call of either.
async fn a_thief_gets_no_further_than_the_next_refresh(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    for (caller, thief_is_first) in [(&acme.member, false), (&acme.admin, true)] {
        let first = caller.refresh_token.as_str();
        let own = text(&refresh(&nobody, first).await.expect(200)["refresh_token"]);
        world.clock.advance(Duration::from_secs(30));
        let mut stolen = text(&refresh(&nobody, first).await.expect(200)["refresh_token"]);
        if thief_is_first {
            stolen = text(&refresh(&nobody, &stolen).await.expect(200)["refresh_token"]);
        }
        let before = count(&acme.owner, "auth.refresh_reuse").await;
        refresh(&nobody, &own).await.refused(401, "unauthorized");
        assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, before + 1);
        for token in [&stolen, &own] {
            refresh(&nobody, token).await.refused(401, "unauthorized");
        }
        assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, before + 1, "it is written down once");
    }
}

fn session_ids(list: &Value) -> Vec<String> {
    list["sessions"].as_array().unwrap().iter().map(|session| text(&session["id"])).collect()
}

async fn people_see_and_end_their_sessions(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let path = "/api/v1/auth/sessions";
    let began = world.clock.now();
    world.clock.advance(Duration::from_secs(60));
    let phone = nobody.login(&acme.member.email, PASSWORD).await;
    world.clock.advance(Duration::from_secs(60));
    let desk = refresh(&nobody, &acme.member.refresh_token).await.expect(200);
    let list = acme.member.get(path).await.expect(200);
    let [first, second] = list["sessions"].as_array().unwrap().as_slice() else { panic!("{list}") };
    let later = |secs| json!(began + jiff::SignedDuration::from_secs(secs));
    let month = 30 * 24 * 3600;
    assert_eq!((&first["created_at"], &first["last_used_at"]), (&later(0), &later(120)), "{list}");
    assert_eq!((&second["created_at"], &second["last_used_at"]), (&later(60), &later(60)), "{list}");
    assert_eq!((&first["ip"], &first["expires_at"]), (&json!("127.0.0.1"), &later(120 + month)), "{list}");
    let page = acme.member.get(&format!("{path}?limit=1")).await.expect(200);
    let next = format!("{path}?limit=1&cursor={}", text(&page["next_cursor"]));
    assert_eq!(session_ids(&acme.member.get(&next).await.expect(200)), [text(&second["id"])]);

    // Nobody else's, not even of one's own tenant.
    let lost = format!("{path}/{}", text(&second["id"]));
    for caller in [&acme.owner, &acme.admin, &world.operator] {
        assert!(!session_ids(&caller.get(path).await.expect(200)).contains(&text(&second["id"])));
        caller.delete(&lost).await.refused(404, "not_found");
    }
    acme.member.delete(&format!("{path}/%00")).await.refused(404, "not_found");
    acme.member.delete(&lost).await.expect(204);
    acme.member.delete(&lost).await.refused(404, "not_found");
    refresh(&nobody, &phone.refresh_token).await.refused(401, "unauthorized");
    assert_eq!(session_ids(&acme.member.get(path).await.expect(200)), [text(&first["id"])]);
    refresh(&nobody, &text(&desk["refresh_token"])).await.expect(200);
    assert_eq!(count(&acme.owner, "auth.end_session").await, 1);
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 0);
}

async fn a_session_that_was_ended_stays_so(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    refresh(&nobody, &acme.member.refresh_token).await.expect(200);
    logout(&nobody, &acme.member.refresh_token).await;
    world.clock.advance(Duration::from_secs(2));
    refresh(&nobody, &acme.member.refresh_token).await.refused(401, "unauthorized");
    assert_eq!(count(&acme.owner, "auth.refresh_reuse").await, 0);
}

async fn logging_out_ends_one_session(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let other_session = nobody.login(&acme.member.email, PASSWORD).await;
    let second = text(&refresh(&nobody, &acme.member.refresh_token).await.expect(200)["refresh_token"]);
    logout(&nobody, &acme.member.refresh_token).await;
    refresh(&nobody, &second).await.refused(401, "unauthorized");
    logout(&nobody, &second).await;
    logout(&nobody, "xvr_unknown").await;
    assert_eq!(count(&acme.owner, "auth.logout").await, 1);
    refresh(&nobody, &other_session.refresh_token).await.expect(200);
}

async fn other_tokens_buy_nothing(world: World) {
    let (acme, nobody) = (world.tenant("acme").await, world.nobody());
    let access = acme.member.token.clone().unwrap();
    for token in ["", "xvr_", "hunter2", &access, &"x".repeat(10_000)] {
        refresh(&nobody, token).await.refused(401, "unauthorized");
    }
    acme.owner.delete(&format!("/api/v1/users/{}", acme.member.user_id)).await.expect(204);
    refresh(&nobody, &acme.member.refresh_token).await.refused(401, "unauthorized");
    logout(&nobody, &acme.member.refresh_token).await;
}

async fn a_refresh_token_ends(engine: Dialect) {
    let world = World::builder(engine).manual_clock().start().await;
    let month = Duration::from_secs(30 * 24 * 3600);
    world.clock.advance(month - Duration::from_secs(1));
    let session = refresh(&world.nobody(), &world.operator.refresh_token).await.expect(200);
    world.clock.advance(month);
    let token = text(&session["refresh_token"]);
    refresh(&world.nobody(), &token).await.refused(401, "unauthorized");
}

fn registration(tenant: &str, email: &str) -> serde_json::Value {
    json!({ "tenant_name": tenant, "email": email, "password": PASSWORD })
}

async fn strangers_register_where_they_may(engine: Dialect) {
    let world = World::builder(engine).settings(|s| s.registration = Registration::Open).start().await;
    let nobody = world.nobody();
    let made =
        nobody.post("/api/v1/auth/register", registration("acme", "Ada@Acme.example")).await.expect(201);
    assert!(text(&made["tenant"]["public_key"]).starts_with("age1"));
    assert_eq!(made["session"]["user"]["email"], "ada@acme.example");
    assert_eq!(made["session"]["user"]["role"], "owner");
    let ada = nobody.with_token(&text(&made["session"]["access_token"]));
    let me = ada.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["tenant_id"], made["tenant"]["id"]);
    assert_eq!(count(&ada, "tenant.register").await, 1);
    nobody.login("ada@acme.example", PASSWORD).await;

    nobody
        .post("/api/v1/auth/register", registration("b", "ada@acme.example"))
        .await
        .refused(409, "email_unusable");
    let tenants = world.operator.get("/api/v1/tenants").await.expect(200);
    assert_eq!(tenants["tenants"].as_array().unwrap().len(), 1, "no tenant without an owner");
    for (tenant, email, field) in [(" ", "b@x", "tenant_name"), ("b", "b", "email")] {
        let body = nobody.post("/api/v1/auth/register", registration(tenant, email)).await.expect(422);
        assert_eq!(body["details"]["field"], field);
    }
}

async fn strangers_stay_out_by_default(world: World) {
    let answer = world.nobody().post("/api/v1/auth/register", registration("acme", "ada@acme.example")).await;
    answer.refused(403, "forbidden");
    world.nobody().try_login("ada@acme.example", PASSWORD).await.refused(401, "unauthorized");
}

on_both_engines!(
    a_refresh_token_is_good_for_one_use,
    logging_out_ends_one_session,
    other_tokens_buy_nothing,
    strangers_stay_out_by_default,
);

on_both_engines!(std::future::ready => a_refresh_token_ends, strangers_register_where_they_may);

on_both_engines!(
    super::still =>
    of_many_at_once_one_wins,
    a_lost_answer_is_given_again,
    after_a_minute_a_used_token_is_a_copy,
    a_token_whose_successor_was_used_is_a_copy,
    a_thief_gets_no_further_than_the_next_refresh,
    a_session_that_was_ended_stays_so,
    people_see_and_end_their_sessions,
);
