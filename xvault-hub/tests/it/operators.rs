//! The first operator.

use std::process::Command;

use futures::future::join_all;
use serde_json::json;
use xvault_core::secret::ExposeSecret as _;
use xvault_hub::{Keys, OperatorError, reset_operator};

use crate::world::{Database, Dialect, OPERATOR, PASSWORD, World, serve, text};

async fn the_first_operator_is_made_up(engine: Dialect) {
    let database = Database::make(engine);
    let keys = Keys::generate();
    let hub = database.hub(&keys).await.unwrap();
    let login = hub.ensure_first_operator(None, None).await.unwrap().unwrap();
    assert_eq!(login.email, "operator@localhost");
    assert!(login.to_lines().expose_secret().contains(login.password.expose_secret()));
    assert!(hub.ensure_first_operator(None, None).await.unwrap().is_none(), "there is one");
    assert!(hub.ensure_first_operator(Some("b@x"), Some(PASSWORD.into())).await.unwrap().is_none());

    let world = World::start(engine).await;
    let base = serve(&hub, tokio_util::sync::CancellationToken::new()).await;
    let caller = world.nobody().at(&base).login(&login.email, login.password.expose_secret()).await;
    let me = caller.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["role"], "operator");
    let users = caller.get("/api/v1/users").await.expect(200);
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
}

async fn several_hubs_make_one_operator(engine: Dialect) {
    let database = Database::make(engine);
    database.connect().await;
    let keys = Keys::generate();
    // One check value and one operator come of it, whoever is first.
    let hubs = join_all((0..4).map(|_| database.hub(&keys))).await;
    let hubs: Vec<_> = hubs.into_iter().map(Result::unwrap).collect();
    let logins = join_all(hubs.iter().map(|hub| hub.ensure_first_operator(None, None))).await;
    let made = logins.into_iter().filter_map(Result::unwrap).count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn settings_of_the_first_operator_are_named_when_they_are_wrong() {
    let database = Database::make(Dialect::Sqlite);
    let hub = database.hub(&Keys::generate()).await.unwrap();
    for (email, password, named) in
        [("nobody", PASSWORD, "HUB_OPERATOR_EMAIL"), ("a@b", "too short", "HUB_OPERATOR_PASSWORD")]
    {
        let error =
            hub.ensure_first_operator(Some(email), Some(password.into())).await.unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains(password), "{error}");
    }
    assert!(hub.ensure_first_operator(Some("a@b"), None).await.unwrap().is_some(), "a password is made up");
}

async fn a_login_is_kept_before_it_is_good(engine: Dialect) {
    let database = Database::make(engine);
    let hub = database.hub(&Keys::generate()).await.unwrap();
    let refused = hub.ensure_first_operator_kept(None, None, |_| Err("the disk is full".into())).await;
    assert!(matches!(refused, Err(OperatorError::Keep(_))), "{refused:?}");
    let mut kept = None;
    let keep = |login: &xvault_hub::FirstLogin| {
        kept = Some(login.clone());
        Ok(())
    };
    let login = hub.ensure_first_operator_kept(None, None, keep).await.unwrap().unwrap();
    assert_eq!(kept.unwrap().password.expose_secret(), login.password.expose_secret());
    // What is given needs no keeping, and what is there is not made.
    let never = |_: &xvault_hub::FirstLogin| Err("nothing was made up".into());
    assert!(hub.ensure_first_operator_kept(None, None, never).await.unwrap().is_none());
    let other = Database::make(engine);
    let given = other.hub(&Keys::generate()).await.unwrap();
    let never = |_: &xvault_hub::FirstLogin| Err("nothing was made up".into());
    given.ensure_first_operator_kept(None, Some(PASSWORD.into()), never).await.unwrap();
}

async fn who_has_the_database_gets_in(world: World) {
    let acme = world.tenant("acme").await;
    let nobody = world.nobody();
    let second = json!({ "email": "second@platform.example", "password": PASSWORD, "role": "operator" });
    world.operator.post("/api/v1/users", second).await.expect(201);
    let me = text(&world.operator.get("/api/v1/auth/me").await.expect(200)["user"]["id"]);
    let second = nobody.login("second@platform.example", PASSWORD).await;
    second.put(&format!("/api/v1/users/{me}"), json!({ "status": "disabled" })).await.expect(200);

    // A forgotten password, and a disabled account.
    let login = reset_operator(&world.db, Some(OPERATOR), |_| Ok(())).await.unwrap();
    nobody.try_login(OPERATOR, PASSWORD).await.refused(401, "unauthorized");
    let again = nobody.login(OPERATOR, login.password.expose_secret()).await;
    let body = json!({ "refresh_token": world.operator.refresh_token });
    nobody.post("/api/v1/auth/refresh", body).await.refused(401, "unauthorized");
    world.operator.get("/api/v1/auth/me").await.refused(401, "unauthorized");
    let events = again.get("/api/v1/audit-events").await.expect(200);
    let told = events["audit_events"].as_array().unwrap();
    let reset = told.iter().find(|event| event["action"] == "user.reset").unwrap();
    assert_eq!((&reset["actor_type"], &reset["target_id"]), (&json!("system"), &json!(me)));
    assert!(!events.to_string().contains(login.password.expose_secret()));

    // Nobody of that name, somebody of a tenant, no name, and a login that nobody could keep.
    let new = reset_operator(&world.db, Some("third@platform.example"), |_| Ok(())).await.unwrap();
    let third = nobody.login("third@platform.example", new.password.expose_secret()).await;
    assert_eq!(third.get("/api/v1/auth/me").await.expect(200)["role"], "operator");
    let error = reset_operator(&world.db, Some(&acme.owner.email), |_| Ok(())).await.unwrap_err();
    assert!(error.to_string().contains(&acme.owner.email), "{error}");
    nobody.login(&acme.owner.email, PASSWORD).await;
    assert!(reset_operator(&world.db, Some("nobody"), |_| Ok(())).await.is_err());
    let lost = reset_operator(&world.db, Some(OPERATOR), |_| Err("no paper".into())).await;
    assert!(matches!(lost, Err(OperatorError::Keep(_))), "{lost:?}");
    nobody.login(OPERATOR, login.password.expose_secret()).await;
}

/// By the program, as `docs/operations.md` says.
async fn the_program_prints_a_password(world: World) {
    let url = world.database.url.clone();
    let run = move |email: &'static str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_xvault-hub"));
        program.args(["operator", email]).env_clear().env("DATABASE_URL", &url).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(move || (run("new@platform.example"), run("nobody")));
    let (made, refused) = output.await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let password = String::from_utf8(made.stdout).unwrap();
    world.nobody().login("new@platform.example", password.trim_end()).await;
    assert!(!String::from_utf8_lossy(&made.stderr).contains(password.trim_end()));
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
}

on_both_engines!(who_has_the_database_gets_in, the_program_prints_a_password);

on_both_engines!(std::future::ready => the_first_operator_is_made_up, several_hubs_make_one_operator, a_login_is_kept_before_it_is_good);
