//! The first operator.

use futures::future::join_all;
use xvault_core::secret::ExposeSecret as _;
use xvault_hub::Keys;

use crate::world::{Database, Dialect, PASSWORD, World, serve};

async fn one_is_made_up(engine: Dialect) {
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

#[tokio::test]
async fn the_first_operator_is_made_up_on_sqlite() {
    one_is_made_up(Dialect::Sqlite).await;
}

#[tokio::test]
async fn the_first_operator_is_made_up_on_postgres() {
    one_is_made_up(Dialect::Postgres).await;
}

async fn several_hubs(engine: Dialect) {
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
async fn several_hubs_make_one_operator_on_sqlite() {
    several_hubs(Dialect::Sqlite).await;
}

#[tokio::test]
async fn several_hubs_make_one_operator_on_postgres() {
    several_hubs(Dialect::Postgres).await;
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
