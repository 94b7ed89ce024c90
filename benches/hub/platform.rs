//! The service as an operator runs it: database and Redis, hub and workers, each a process of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Row as _};
use tempfile::TempDir;
use xvault_core::Identity;
use xvault_core::secret::ExposeSecret;
use xvault_testkit::{Postgres, Redis};

use crate::api::Api;
use crate::program::Program;

/// The operator's login.
const OPERATOR: (&str, &str) = ("operator@bench.example", "operator password of the benches");
/// How long a program may take to answer after its start.
const START: Duration = Duration::from_secs(60);

/// Which database the hub is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// A server, with its own defaults of durability.
    Postgres,
    /// A file.
    Sqlite,
}

impl Engine {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }
}

/// The hub with what it needs. Fields are dropped in order: the hub ends before its database.
pub(crate) struct Platform {
    pub(crate) hub: Program,
    pub(crate) api: Api,
    /// The database, directly.
    pub(crate) sql: AnyPool,
    pub(crate) engine: Engine,
    base: String,
    bin: PathBuf,
    redis: Redis,
    env: Vec<(&'static str, String)>,
    dir: TempDir,
    _postgres: Option<Postgres>,
}

impl Platform {
    /// Starts all of it. Programs are taken from directory `bin`.
    pub(crate) async fn start(bin: &Path, engine: Engine) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("xvault-bench-hub").tempdir()?;
        let postgres = (engine == Engine::Postgres).then(Postgres::durable);
        let redis = Redis::start();
        let database_url = match &postgres {
            Some(postgres) => postgres.create_database(),
            None => format!("sqlite:{}", dir.path().join("hub.db").display()),
        };
        let listen = free_address()?;
        let env = vec![
            ("DATABASE_URL", database_url.clone()),
            ("REDIS_URL", redis.url()),
            ("HUB_ENCRYPTION_KEK", Identity::generate().to_secret().expose_secret().to_owned()),
            ("HUB_JWT_SECRET", "a secret of the benches that has thirty-two bytes".to_owned()),
            ("HUB_AUTO_MIGRATE", "true".to_owned()),
            ("HUB_OPERATOR_EMAIL", OPERATOR.0.to_owned()),
            ("HUB_OPERATOR_PASSWORD", OPERATOR.1.to_owned()),
            ("HUB_LISTEN_ADDR", listen.clone()),
            // As in deploy/.
            ("MALLOC_MMAP_THRESHOLD_", "1048576".to_owned()),
            ("MALLOC_TRIM_THRESHOLD_", "131072".to_owned()),
        ];
        let log = dir.path().join("hub.log");
        let mut hub = Program::start(&bin.join("xvault-hub"), &["serve"], &borrowed(&env), log)?;
        let base = format!("http://{listen}");
        let api = Api::new(base.clone())?;
        wait_for(&api, &mut hub).await?;
        sqlx::any::install_default_drivers();
        let sql = AnyPoolOptions::new().max_connections(1).connect(&database_url).await?;
        Ok(Self { hub, api, sql, engine, base, bin: bin.to_owned(), redis, env, dir, _postgres: postgres })
    }

    /// The API for the operator.
    pub(crate) async fn operator(&self) -> anyhow::Result<Api> {
        self.api.login(OPERATOR.0, OPERATOR.1).await
    }

    /// Makes worker `id` known, and gives its token.
    pub(crate) fn worker_token(&self, id: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.bin.join("xvault-hub"));
        command.args(["token", id]).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        let done = command.output()?;
        if !done.status.success() {
            bail!("xvault-hub token: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8(done.stdout)?.trim().to_owned())
    }

    /// Starts a worker program, with two jobs at a time as by default.
    pub(crate) fn worker(&self, id: &str) -> anyhow::Result<Program> {
        let storage = self.dir.path().join(id);
        std::fs::create_dir(&storage)?;
        let (token, redis) = (self.worker_token(id)?, self.redis.url());
        let storage = storage.to_str().context("a path of UTF-8 text")?;
        let env = [
            ("WORKER_ID", id),
            ("WORKER_TOKEN", &token),
            ("HUB_BASE_URL", &self.base),
            ("REDIS_URL", &redis),
            ("WORKER_STORAGE_BASE", storage),
            ("WORKER_EGRESS_ALLOW", "127.0.0.0/8,::1"),
        ];
        Program::start(&self.bin.join("xvault-worker"), &[], &env, self.dir.path().join(format!("{id}.log")))
    }

    /// A place for files of a case.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs one statement.
    pub(crate) async fn execute(&self, statement: &str) -> anyhow::Result<u64> {
        // The texts are our own; what they are made of are numbers and ids.
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&self.sql).await;
        Ok(done.with_context(|| statement.to_owned())?.rows_affected())
    }

    /// The number that `query` answers with, in its column `n`.
    pub(crate) async fn number(&self, query: &str) -> anyhow::Result<i64> {
        // The texts are our own, as above.
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&self.sql).await;
        Ok(row.with_context(|| query.to_owned())?.try_get("n")?)
    }
}

fn borrowed<'a>(env: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    env.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// An address of this machine that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Waits until the hub behind `api`, which `program` serves, is healthy.
pub(crate) async fn wait_for(api: &Api, program: &mut Program) -> anyhow::Result<()> {
    let until = Instant::now() + START;
    loop {
        program.check()?;
        match api.get::<serde_json::Value>("/healthz").await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => {
                return Err(error.context(format!("the hub does not answer:\n{}", program.log_tail())));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
