//! Secrets are not in the database, and do not print.

use serde_json::json;
use xvault_core::secret::SecretString;

use crate::world::{JWT_SECRET, PASSWORD, World, text};

async fn none_lies_in_the_database(world: World) {
    let acme = world.tenant("acme").await;
    let made = acme.owner.post("/api/v1/api-keys", json!({ "name": "k", "role": "owner" })).await.expect(201);
    let key = text(&made["key"]);
    acme.owner.with_token(&key).get("/api/v1/auth/me").await.expect(200);
    let body = json!({ "refresh_token": acme.member.refresh_token });
    let session = world.nobody().post("/api/v1/auth/refresh", body).await.expect(200);
    let new = "a password that nobody knows";
    let path = format!("/api/v1/users/{}/password", acme.member.user_id);
    acme.owner.put(&path, json!({ "password": new })).await.expect(204);
    world.nobody().try_login(&acme.member.email, "a password that was wrong").await.expect(401);

    let dump = world.database.dump();
    let holds = |text: &str| dump.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&acme.member.email) && holds("$argon2id$"), "the dump shows what is stored");
    assert!(
        holds(&key[..12]) && holds(&xvault_core::Recipient::to_string(&acme.public_key.parse().unwrap()))
    );
    let secrets = [
        PASSWORD,
        new,
        "a password that was wrong",
        &key[12..],
        &key,
        &acme.member.refresh_token[4..],
        &text(&session["refresh_token"])[4..],
        &text(&session["access_token"])[20..],
        acme.owner.token.as_ref().unwrap().rsplit('.').next().unwrap(),
        "AGE-SECRET-KEY",
        std::str::from_utf8(JWT_SECRET).unwrap(),
    ];
    for secret in secrets {
        assert!(!holds(secret), "{secret}");
    }
}

on_both_engines!(none_lies_in_the_database);

#[tokio::test]
async fn none_prints() {
    let world = World::start(crate::world::Dialect::Sqlite).await;
    let login = xvault_hub::FirstLogin { email: "a@b".into(), password: SecretString::from(PASSWORD) };
    let shown = format!("{:?} {login:?} {:?}", world.hub, login.to_lines());
    let bytes = format!("{:?}", &JWT_SECRET[..8]);
    for secret in
        [PASSWORD, std::str::from_utf8(JWT_SECRET).unwrap(), bytes.trim_matches(['[', ']']), "AGE-SECRET-KEY"]
    {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}
