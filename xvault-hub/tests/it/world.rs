//! A hub in this process on a loopback port, with either database, and people to ask it.
//!
//! ```ignore
//! async fn a_tenant_sees_itself(world: World) {
//!     let acme = world.tenant("acme").await;
//!     let seen = acme.member.get(&format!("/api/v1/tenants/{}", acme.id)).await.expect(200);
//!     assert_eq!(seen["name"], "acme");
//! }
//! on_both_engines!(a_tenant_sees_itself);
//! ```

use std::future::Ready;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::AnyPool;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
pub(crate) use xvault_hub::Dialect;
use xvault_hub::queue::{JobQueue, LocalQueue};
use xvault_hub::{Clock, Db, Hub, HubParts, Keys, LoginLimit, Settings, StartError};
use xvault_testkit::Postgres;

/// What access tokens of these hubs are signed with.
pub(crate) const JWT_SECRET: &[u8] = b"jwt-secret-of-the-tests-0123456789";
/// The password of everybody whom [`World`] makes.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The operator's address.
pub(crate) const OPERATOR: &str = "root@platform.example";

/// Runs each named test on SQLite and on PostgreSQL. It is an `async fn(World)`, or takes what the function before `=>` makes of the
/// engine (`std::future::ready`: the engine itself); that function's path is read one module below the call.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        on_both_engines!(crate::world::World::start => $($name),*);
    };
    ($make:path => $($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::world::Dialect;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name($make(Dialect::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name($make(Dialect::Postgres).await).await;
            }
        }
    )*};
}

/// How a hub of the tests is made. Its clock stands still where [`WorldBuilder::manual_clock`] says so.
pub(crate) struct WorldBuilder {
    engine: Dialect,
    clock: Clock,
    settings: Settings,
    keys: Keys,
}

/// A hub that serves, with its database. Gone on drop.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) db: Db,
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) queue: LocalQueue,
    /// `http://127.0.0.1:PORT`
    pub(crate) base: String,
    /// Somebody who runs the platform.
    pub(crate) operator: Caller,
    http: Client,
    stop: CancellationToken,
    people: AtomicU32,
}

/// Where the rows lie.
pub(crate) struct Database {
    pub(crate) url: String,
    /// Of SQLite's file.
    dir: Option<TempDir>,
}

/// A tenant with one user of each role.
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) public_key: String,
    pub(crate) owner: Caller,
    pub(crate) admin: Caller,
    pub(crate) member: Caller,
}

/// Somebody with a token, or nobody.
#[derive(Clone)]
pub(crate) struct Caller {
    http: Client,
    base: String,
    pub(crate) token: Option<String>,
    /// Of the last login; empty for API keys and nobody.
    pub(crate) refresh_token: String,
    pub(crate) user_id: String,
    pub(crate) email: String,
}

/// What the hub says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Null when there is no body.
    pub(crate) body: Value,
}

impl Database {
    /// An empty one.
    pub(crate) fn make(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", dir.path().join("hub.db").display());
                Self { url, dir: Some(dir) }
            }
            Dialect::Postgres => Self { url: Postgres::shared().create_database(), dir: None },
        }
    }

    /// Connections to it, with the schema up to date.
    pub(crate) async fn connect(&self) -> Db {
        let db = Db::connect(&self.url, 8).await.unwrap();
        db.migrate().await.unwrap();
        db
    }

    /// One more hub on it, which serves nobody.
    pub(crate) async fn hub(&self, keys: &Keys) -> Result<Hub, StartError> {
        let parts = HubParts {
            db: self.connect().await,
            clock: Clock::system(),
            keys: keys.clone(),
            queue: Arc::new(LocalQueue::default()),
            settings: settings(),
        };
        Hub::new(parts).await
    }

    /// As if a newer program had migrated it: it has had migration 9001.
    pub(crate) async fn migrate_further(&self) {
        let newer = "INSERT INTO xvault_migrations (version, description, success, checksum, execution_time)
             SELECT 9001, 'from the future', success, checksum, execution_time FROM xvault_migrations WHERE version = 1";
        sqlx::raw_sql(newer).execute(&self.sql().await).await.unwrap();
    }

    /// Plain SQL, to see or do what the hub does not.
    pub(crate) async fn sql(&self) -> AnyPool {
        sqlx::any::install_default_drivers();
        AnyPool::connect(&self.url).await.unwrap()
    }

    /// Everything that is stored, as it lies there: SQLite's files, or `pg_dump`'s text.
    pub(crate) fn dump(&self) -> Vec<u8> {
        match &self.dir {
            None => Postgres::shared().dump(&self.url),
            Some(dir) => {
                let files = std::fs::read_dir(dir.path()).unwrap();
                files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
            }
        }
    }
}

impl WorldBuilder {
    /// A clock that stands still until the test moves it.
    pub(crate) fn manual_clock(mut self) -> Self {
        self.clock = Clock::manual(Timestamp::from_second(1_900_000_000).unwrap());
        self
    }

    /// Other key-encryption keys than a new one.
    pub(crate) fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Other settings.
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) async fn start(self) -> World {
        let database = Database::make(self.engine);
        let db = database.connect().await;
        let queue = LocalQueue::default();
        let hub = Hub::new(HubParts {
            db: db.clone(),
            clock: self.clock.clone(),
            keys: self.keys.clone(),
            queue: Arc::new(queue.clone()),
            settings: self.settings,
        })
        .await
        .unwrap();
        hub.ensure_first_operator(Some(OPERATOR), Some(PASSWORD.into())).await.unwrap();
        let stop = CancellationToken::new();
        let base = serve(&hub, stop.clone()).await;
        let http = http_client();
        let nobody = Caller::nobody(&http, &base);
        let operator = nobody.login(OPERATOR, PASSWORD).await;
        World {
            hub,
            db,
            database,
            clock: self.clock,
            keys: self.keys,
            queue,
            base,
            operator,
            http,
            stop,
            people: AtomicU32::new(0),
        }
    }
}

/// Of hubs that the tests log in to as often as they like.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::with_jwt_secret(JWT_SECRET).unwrap();
    let many = NonZeroU32::new(100_000).unwrap();
    settings.login_limit =
        LoginLimit { per_address: many, per_account: many, failures_per_account: many, passwords: many };
    settings
}

/// Serves until `stop`; gives `http://127.0.0.1:PORT`.
pub(crate) async fn serve(hub: &Hub, stop: CancellationToken) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let hub = hub.clone();
    tokio::spawn(async move { xvault_hub::serve_http(&hub, listener, stop).await });
    base
}

fn http_client() -> Client {
    // The client insists on a TLS provider, even for plain HTTP. The first test installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Where an answer leads away from the hub is what a test looks at: there is nobody there.
    let at_home = Policy::custom(|attempt| {
        if attempt.previous().iter().any(|url| url.host() == attempt.url().host()) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    Client::builder().no_proxy().redirect(at_home).build().unwrap()
}

impl World {
    /// A hub whose clock goes, and that lets the tests log in as often as they like.
    pub(crate) async fn start(engine: Dialect) -> Self {
        Self::builder(engine).start().await
    }

    /// How one is made, for tests that say more about it.
    pub(crate) fn unstarted(engine: Dialect) -> Ready<WorldBuilder> {
        std::future::ready(Self::builder(engine))
    }

    pub(crate) fn builder(engine: Dialect) -> WorldBuilder {
        WorldBuilder { engine, clock: Clock::system(), settings: settings(), keys: Keys::generate() }
    }

    /// Another hub on the same database, with another queue, which serves nobody yet.
    pub(crate) async fn another_hub(&self, queue: Arc<dyn JobQueue>) -> Hub {
        let parts = HubParts {
            db: self.db.clone(),
            clock: self.clock.clone(),
            keys: self.keys.clone(),
            queue,
            settings: settings(),
        };
        Hub::new(parts).await.unwrap()
    }

    /// Runs the hub's loops until `ask` gives something. A clock that is moved by hand goes on meanwhile: a hub that has just
    /// started ends no lease before one could have been renewed.
    pub(crate) async fn while_the_hub_runs<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let stop = CancellationToken::new();
        let (hub, token) = (self.hub.clone(), stop.clone());
        let loops = tokio::spawn(async move { hub.run_background(token).await });
        for _ in 0..300 {
            if let Some(answer) = ask().await {
                stop.cancel();
                loops.await.unwrap();
                return answer;
            }
            self.clock.advance(Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it never came to it");
    }

    /// Changes rows as no request would.
    pub(crate) async fn execute(&self, statement: &'static str) {
        let pool = self.database.sql().await;
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    /// Somebody without a token.
    pub(crate) fn nobody(&self) -> Caller {
        Caller::nobody(&self.http, &self.base)
    }

    /// A tenant with an owner, an admin and a member, all logged in.
    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let made = self.operator.post("/api/v1/tenants", json!({ "name": name })).await.expect(201);
        let id = text(&made["id"]);
        Tenant {
            owner: self.user(&id, "owner").await,
            admin: self.user(&id, "admin").await,
            member: self.user(&id, "member").await,
            public_key: text(&made["public_key"]),
            id,
        }
    }

    /// One more user of a tenant, logged in.
    pub(crate) async fn user(&self, tenant_id: &str, role: &str) -> Caller {
        let number = self.people.fetch_add(1, Ordering::Relaxed);
        let email = format!("{role}-{number}@people.example");
        let body = json!({ "tenant_id": tenant_id, "email": email, "password": PASSWORD, "role": role });
        self.operator.post("/api/v1/users", body).await.expect(201);
        self.nobody().login(&email, PASSWORD).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Caller {
    /// Somebody without a token, at a hub that no [`World`] has.
    pub(crate) fn stranger(base: &str) -> Self {
        Self::nobody(&http_client(), base)
    }

    fn nobody(http: &Client, base: &str) -> Self {
        let (http, base) = (http.clone(), base.to_owned());
        Self {
            http,
            base,
            token: None,
            refresh_token: String::new(),
            user_id: String::new(),
            email: String::new(),
        }
    }

    /// The same person at another hub.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same hub with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Logs in, which must succeed.
    pub(crate) async fn login(&self, email: &str, password: &str) -> Self {
        let session = self.try_login(email, password).await.expect(200);
        Self {
            token: Some(text(&session["access_token"])),
            refresh_token: text(&session["refresh_token"]),
            user_id: text(&session["user"]["id"]),
            email: email.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) async fn try_login(&self, email: &str, password: &str) -> Answer {
        self.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// A request to be completed by hand.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Any call with a JSON body, or none.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let json = body.map(|body| body.to_string().into_bytes());
        self.send_raw(method, path, json.as_ref().map(|_| "application/json"), json).await
    }

    /// A call whose answer is a stream.
    pub(crate) async fn stream(&self, path: &str, last_event_id: Option<&str>) -> reqwest::Response {
        let mut request = self.http.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        request.send().await.unwrap()
    }

    /// How the answer to a call begins that is a stream when all is well: its body is not read then.
    pub(crate) async fn begin(&self, path: &str) -> Answer {
        let response = self.stream(path, None).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = if status == 200 { Value::Null } else { response.json().await.unwrap() };
        Answer { request: format!("GET {path}"), status, headers, body }
    }

    /// Any call with whatever body.
    pub(crate) async fn send_raw(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Answer {
        let mut request = self.request(method.clone(), path);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        Answer::read(format!("{method} {path}"), request.send().await.unwrap()).await
    }
}

impl Answer {
    pub(crate) async fn read(request: String, response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Self { request, status, headers, body }
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.body);
        self.body
    }

    /// The body of an error, if the status and the code are these.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status, &self.body["code"]),
            (status, &json!(code)),
            "{}: {}",
            self.request,
            self.body
        );
        assert!(self.body["error"].is_string() && self.body.get("details").is_some(), "{}", self.body);
        self.body
    }
}

/// A JSON text.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
