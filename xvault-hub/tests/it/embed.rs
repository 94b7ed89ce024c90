//! The hub as part of a program that has a pool, tables, migrations and routes of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, Row as _, SqlSafeStr as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use xvault_hub::queue::LocalQueue;
use xvault_hub::{Clock, Db, DbError, Hub, HubParts, Keys, Mount, Settings};

use crate::world::{Caller, Database, Dialect, OPERATOR, PASSWORD, settings, text};

/// The program, without the hub: a database, and a pool for it.
struct Program {
    database: Database,
    pool: AnyPool,
}

impl Program {
    async fn start(engine: Dialect) -> Self {
        let database = Database::make(engine);
        let pool = pool_for_hub().connect(&url(&database, engine)).await.unwrap();
        let program = Self { database, pool };
        program.migrate().await;
        program
    }

    /// Its own migrations, with sqlx's own table for them.
    async fn migrate(&self) {
        migrate(&self.pool).await;
    }

    async fn hub(&self, change: impl FnOnce(&mut Settings)) -> Hub {
        let db = Db::from_pool(self.pool.clone()).await.unwrap();
        db.migrate().await.unwrap();
        hub(db, change).await
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) AS n FROM {table}"));
        sqlx::query(sql).fetch_one(&self.pool).await.unwrap().try_get("n").unwrap()
    }
}

async fn migrate(pool: &AnyPool) {
    let sql = "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT NOT NULL)".into_sql_str();
    let notes = Migration::new(1, "notes".into(), MigrationType::Simple, sql, false);
    Migrator::with_migrations(vec![notes]).run(pool).await.unwrap();
}

async fn hub(db: Db, change: impl FnOnce(&mut Settings)) -> Hub {
    let mut settings = settings();
    change(&mut settings);
    let (clock, keys, queue) = (Clock::system(), Keys::generate(), Arc::new(LocalQueue::default()));
    let hub = Hub::new(HubParts { db, clock, keys, queue, settings }).await.unwrap();
    hub.ensure_first_operator(Some(OPERATOR), Some(PASSWORD.into())).await.unwrap();
    hub
}

fn url(database: &Database, engine: Dialect) -> String {
    sqlx::any::install_default_drivers();
    match engine {
        Dialect::Sqlite => format!("{}?mode=rwc", database.url),
        Dialect::Postgres => database.url.clone(),
    }
}

fn pool_for_hub() -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(6).after_connect(|connection, _| Box::pin(Db::prepare(connection)))
}

async fn raw(connection: &mut AnyConnection, sql: &'static str) -> sqlx::Result<()> {
    sqlx::raw_sql(sql).execute(connection).await.map(|_| ())
}

/// Serves until the guard is dropped, as a program does that has a server of its own.
async fn served(router: Router) -> (String, DropGuard) {
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap() });
    (base, stop.drop_guard())
}

async fn a_program_mounts_the_hub_beside_its_own(engine: Dialect) {
    let program = Program::start(engine).await;
    sqlx::query("INSERT INTO notes (id, text) VALUES (1, 'mine')").execute(&program.pool).await.unwrap();
    let hub = program.hub(|_| {}).await;
    let own = Router::new().route("/", get(async || "the program's page"));
    let (base, _serving) = served(own.nest("/backup", hub.router())).await;
    let (outside, nobody) = (Caller::stranger(&base), Caller::stranger(&format!("{base}/backup")));

    assert_eq!(outside.get("/").await.expect(200), "the program's page");
    assert_eq!(outside.get("/api/v1/tenants").await.expect(404), json!(null));
    nobody.get("/api/v1/nothing").await.refused(404, "not_found");
    nobody.get("/api/v1/auth/login").await.refused(405, "method_not_allowed");
    let operator = nobody.login(OPERATOR, PASSWORD).await;
    operator.post("/api/v1/tenants", json!({ "name": "acme" })).await.expect(201);
    let events = operator.get("/api/v1/audit-events").await.expect(200);
    assert_eq!(events["audit_events"][1]["ip"], "127.0.0.1", "{events}");
    let page = text(&nobody.get("/metrics").await.expect(200));
    assert!(page.contains("route=\"/api/v1/auth/login\""), "{page}");

    // Both go on with the same database.
    program.migrate().await;
    let db = Db::from_pool(program.pool.clone()).await.unwrap();
    db.migrate().await.unwrap();
    assert_eq!(program.count("_sqlx_migrations").await, 1);
    let migrations = i64::try_from(db.migrations().await.unwrap().len()).unwrap();
    assert_eq!(program.count("xvault_migrations").await, migrations);
    assert_eq!((program.count("notes").await, program.count("tenants").await), (1, 1));
}

async fn the_docs_know_where_they_are(engine: Dialect) {
    let program = Program::start(engine).await;
    let router = program.hub(|_| {}).await.router();
    for (below, router) in [("/backup", router.clone()), ("/a/b", router)] {
        let (base, _serving) = served(Router::new().nest(below, router)).await;
        let nobody = Caller::stranger(&format!("{base}{below}"));
        let page = nobody.request(reqwest::Method::GET, "/docs").send().await.unwrap();
        assert_eq!((page.status().as_u16(), page.url().path()), (200, &*format!("{below}/docs/")));
        assert!(page.text().await.unwrap().contains("swagger-ui"));
        let script = text(&nobody.get("/docs/swagger-initializer.js").await.expect(200));
        assert!(script.contains("\"../api/v1/openapi.json\""), "{script}");
        nobody.get("/docs/nothing.js").await.refused(404, "not_found");
        let document = nobody.get("/api/v1/openapi.json").await.expect(200);
        assert_eq!(document["servers"], json!([{ "url": below }]));
    }
}

async fn parts_are_mounted_by_choice(engine: Dialect) {
    let program = Program::start(engine).await;
    let hub = program.hub(|_| {}).await;
    let for_people = hub.router_of(Mount { internal: false, metrics: false, ..Mount::ALL });
    let for_workers = hub.router_of(Mount { internal: true, ..Mount::NONE });
    let (people, _serving) = served(for_people).await;
    let (workers, _serving) = served(Router::new().nest("/backup", for_workers)).await;
    let (people, workers) = (Caller::stranger(&people), Caller::stranger(&format!("{workers}/backup")));
    for path in ["/metrics", "/internal/jobs/claim"] {
        people.get(path).await.refused(404, "not_found");
    }
    for path in ["/metrics", "/healthz", "/docs/", "/api/v1/openapi.json", "/api/v1/auth/me"] {
        workers.get(path).await.refused(404, "not_found");
    }
    workers.post("/internal/jobs/claim", json!({})).await.refused(401, "unauthorized");
    people.get("/healthz").await.expect(200);
    let document = people.get("/api/v1/openapi.json").await.expect(200);
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert!(paths.iter().any(|path| path.starts_with("/api/v1/")), "{paths:?}");
    assert!(!paths.iter().any(|path| path.starts_with("/internal") || *path == "/metrics"), "{paths:?}");
}

/// Makes a worker that was last heard of long ago look alive. A loop sees to that.
async fn raise_the_dead(pool: &AnyPool) {
    sqlx::query("UPDATE workers SET status = 'online', last_seen_at = 1").execute(pool).await.unwrap();
}

/// Whether the loops see to it before long.
async fn is_watched(pool: &AnyPool, patience: Duration) -> bool {
    raise_the_dead(pool).await;
    let deadline = tokio::time::Instant::now() + patience;
    while tokio::time::Instant::now() < deadline {
        let row = sqlx::query("SELECT status FROM workers").fetch_one(pool).await.unwrap();
        if row.try_get::<String, _>("status").unwrap() == "offline" {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn loops_run_until_the_program_stops_them(engine: Dialect) {
    let program = Program::start(engine).await;
    let hub = program.hub(|settings| settings.heartbeat = Duration::from_millis(10)).await;
    hub.issue_worker_token(&"w1".parse().unwrap()).await.unwrap();
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(500));
    assert!(!is_watched(&program.pool, short).await, "nothing runs by itself");
    let background = hub.start_background();
    assert!(is_watched(&program.pool, long).await);
    tokio::time::timeout(long, background.stop()).await.unwrap();
    assert!(!is_watched(&program.pool, short).await, "they are over when `stop` returns");
    let background = hub.start_background();
    assert!(is_watched(&program.pool, long).await, "and can be started anew");
    drop(background);
    let given_up = tokio::time::Instant::now() + long;
    while is_watched(&program.pool, short).await {
        assert!(tokio::time::Instant::now() < given_up, "they outlive their handle");
    }
}

async fn a_database_of_before_is_taken_over(engine: Dialect) {
    let database = Database::make(engine);
    let (db, other) = (database.connect().await, database.connect().await);
    let sql = database.sql().await;
    sqlx::query("ALTER TABLE xvault_migrations RENAME TO _sqlx_migrations").execute(&sql).await.unwrap();
    assert!(matches!(db.check_schema().await, Err(DbError::Behind { version: 1 })));
    let (first, second) = tokio::join!(db.migrate(), other.migrate());
    first.unwrap();
    second.unwrap();
    db.check_schema().await.unwrap();
    let former = sqlx::query("SELECT version FROM _sqlx_migrations").fetch_all(&sql).await;
    assert!(former.is_err(), "there is one table for them");
}

async fn a_name_that_is_taken_fails_and_leaves_no_lock(engine: Dialect) {
    let program = Program::start(engine).await;
    sqlx::query("CREATE TABLE tenants (name TEXT)").execute(&program.pool).await.unwrap();
    let db = Db::from_pool(program.pool.clone()).await.unwrap();
    assert!(matches!(db.migrate().await, Err(DbError::Migrate(_))));
    let others = program.database.sql().await;
    tokio::time::timeout(Duration::from_secs(20), migrate(&others)).await.unwrap();
}

/// What is wrong with a pool, as its refusal says.
async fn refusal(database: &str, options: AnyPoolOptions) -> String {
    sqlx::any::install_default_drivers();
    let pool = options.connect(database).await.unwrap();
    Db::from_pool(pool).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_pool_that_would_not_do_is_refused_by_setting_on_sqlite() {
    let database = Database::make(Dialect::Sqlite);
    let url = url(&database, Dialect::Sqlite);
    let text = refusal(&url, AnyPoolOptions::new()).await;
    assert!(text.contains("journal_mode = delete") && text.contains("needs wal"), "{text}");
    assert!(text.contains("Db::from_pool"), "{text}");
    for (sql, expected) in [
        ("PRAGMA foreign_keys = OFF", "foreign_keys = off"),
        ("PRAGMA busy_timeout = 0", "busy_timeout = 0"),
        ("PRAGMA synchronous = NORMAL", "synchronous = normal"),
        ("PRAGMA synchronous = OFF", "synchronous = off"),
    ] {
        let options = AnyPoolOptions::new().after_connect(move |connection, _| {
            Box::pin(async move {
                Db::prepare(connection).await?;
                raw(connection, sql).await
            })
        });
        let text = refusal(&url, options).await;
        assert!(text.contains(expected), "{text}");
    }
    let extra = AnyPoolOptions::new().after_connect(|connection, _| {
        Box::pin(async move {
            Db::prepare(connection).await?;
            raw(connection, "PRAGMA synchronous = EXTRA").await
        })
    });
    Db::from_pool(extra.connect(&url).await.unwrap()).await.unwrap();
    let text = refusal(&url, pool_for_hub().max_connections(1)).await;
    assert!(text.contains("max_connections = 1"), "{text}");
    let text = refusal("sqlite::memory:", pool_for_hub()).await;
    assert!(text.contains("journal_mode = memory"), "{text}");
}

#[tokio::test]
async fn a_pool_that_would_not_do_is_refused_by_setting_on_postgres() {
    let database = Database::make(Dialect::Postgres);
    for (sql, expected) in [
        ("SET default_transaction_isolation = 'serializable'", "transaction_isolation = serializable"),
        ("SET default_transaction_read_only = on", "transaction_read_only = on"),
    ] {
        let options =
            AnyPoolOptions::new().after_connect(move |connection, _| Box::pin(raw(connection, sql)));
        let text = refusal(&database.url, options).await;
        assert!(text.contains(expected), "{text}");
    }
}

/// A program that has a table `users` already.
#[tokio::test]
async fn the_hub_lives_in_a_schema_of_its_own() {
    let program = Program::start(Dialect::Postgres).await;
    let own = "CREATE SCHEMA backup; CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('mine')";
    sqlx::raw_sql(own).execute(&program.pool).await.unwrap();
    let options = AnyPoolOptions::new().max_connections(4).after_connect(|connection, _| {
        Box::pin(async move {
            Db::prepare(connection).await?;
            raw(connection, "SET search_path TO backup").await
        })
    });
    let db = Db::from_pool(options.connect(&program.database.url).await.unwrap()).await.unwrap();
    db.migrate().await.unwrap();
    db.check_schema().await.unwrap();
    let (base, _serving) = served(hub(db, |_| {}).await.router()).await;
    Caller::stranger(&base).login(OPERATOR, PASSWORD).await.get("/api/v1/tenants").await.expect(200);
    assert_eq!(program.count("users").await, 1);
    assert_eq!(program.count("backup.users").await, 1);
    let row = sqlx::query("SELECT email FROM backup.users").fetch_one(&program.pool).await.unwrap();
    assert_eq!(row.try_get::<String, _>("email").unwrap(), OPERATOR);
}

on_both_engines!(
    std::future::ready =>
    a_program_mounts_the_hub_beside_its_own,
    the_docs_know_where_they_are,
    parts_are_mounted_by_choice,
    loops_run_until_the_program_stops_them,
    a_database_of_before_is_taken_over,
    a_name_that_is_taken_fails_and_leaves_no_lock,
);
