//! The database: one set of SQL on PostgreSQL and SQLite, a file per table.
//!
//! Functions take a connection, so that several make one transaction. Rows are private; what comes out are the types
//! of each file. Texts use `$n` only, and the types TEXT, BIGINT, DOUBLE PRECISION and BYTEA (sqlx's `Any` reads no others
//! from both engines). A transaction begins with a write, or with [`Db::begin`], which locks SQLite at once.

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod credentials;
pub(crate) mod job_logs;
pub(crate) mod jobs;
pub(crate) mod needs;
pub(crate) mod newest;
pub(crate) mod passing;
pub(crate) mod refresh_tokens;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod sealed;
pub(crate) mod settings;
pub(crate) mod snapshots;
pub(crate) mod sources;
pub(crate) mod standing;
pub(crate) mod status;
pub(crate) mod tenant_keys;
pub(crate) mod tenants;
pub(crate) mod users;
pub(crate) mod workers;

use std::time::Duration;

use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Row as _, Transaction};
use xvault_core::TenantId;

static MIGRATOR: Migrator = sqlx::migrate!();
/// How long SQLite waits for others that write.
const WAIT: Duration = Duration::from_secs(10);
/// And for others that change the schema, or work while it is to be changed.
const LONG_WAIT: Duration = Duration::from_secs(5 * 60);

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres,
}

/// A step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub description: String,
    /// Whether this database has had it.
    pub applied: bool,
}

/// A pool of connections. Clones share it.
#[derive(Debug, Clone)]
pub struct Db {
    pool: AnyPool,
    dialect: Dialect,
}

/// A statement, while its values are bound.
pub(crate) type Binds<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

/// Whose rows a statement may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One tenant's: any other row is as good as absent.
    Tenant(TenantId),
    /// Everybody's: operators.
    All,
}

impl Scope {
    /// Whether a row of `tenant` may be seen.
    #[must_use]
    pub(crate) fn admits(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Tenant(own) => own == tenant,
            Self::All => true,
        }
    }
}

/// A page of a list that goes from new to old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many rows at most.
    pub(crate) limit: u32,
    /// Only rows with a smaller id: the last one of the page before.
    pub(crate) before: Option<String>,
}

/// Longer than any id can be, of the last letter of those that ids are made of.
const ABOVE_ALL: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

impl Page {
    /// Without a page before: above every id in any collation, so that one statement serves the first page, too.
    pub(crate) fn before(&self) -> &str {
        self.before.as_deref().unwrap_or(ABOVE_ALL)
    }

    /// One row more than asked for tells whether there is another page.
    pub(crate) fn probe_limit(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// What can go wrong in the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such row in this scope.
    #[error("not found")]
    NotFound,
    /// A unique index refuses: the row is there already, or something that excludes it.
    #[error("a row like this exists already")]
    Duplicate,
    /// Another row refers to it.
    #[error("it is still in use")]
    InUse,
    /// A row holds what this program can't have written.
    #[error("column {column} holds an unreadable value")]
    Corrupt {
        /// Which column.
        column: &'static str,
    },
    /// `DATABASE_URL` is of no kind that is supported.
    #[error("DATABASE_URL must begin with postgres:// or sqlite:")]
    Url,
    /// The schema is older than this program.
    #[error(
        "the database lacks migration {version}: run `xvault-hub migrate`, or set HUB_AUTO_MIGRATE=true to have it done at start"
    )]
    Behind {
        /// The first that is missing.
        version: i64,
    },
    /// The schema is of a newer program.
    #[error(
        "a newer version of this program has changed the database (migration {version}): run that version, or restore the \
         database from before it"
    )]
    Ahead {
        /// The first that this program does not know.
        version: i64,
    },
    /// The schema could not be brought up to date.
    #[error("migrate the database")]
    Migrate(#[source] MigrateError),
    /// Anything else.
    #[error("database")]
    Sql(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::Database(refusal) if refusal.is_unique_violation() => Self::Duplicate,
            sqlx::Error::Database(refusal) if refusal.is_foreign_key_violation() => Self::InUse,
            _ => Self::Sql(error),
        }
    }
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::Ahead { version },
            error => Self::Migrate(error),
        }
    }
}

/// What functions of this module return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Db {
    /// Connects to `postgres://…` or `sqlite:PATH`. A missing SQLite file is made.
    ///
    /// # Errors
    /// When the URL is of another kind, or the database can't be reached.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let (dialect, url) = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            (Dialect::Postgres, url.to_owned())
        } else if url.starts_with("sqlite:") {
            make_private(url)?;
            (Dialect::Sqlite, creating(url))
        } else {
            return Err(Error::Url);
        };
        let options = AnyPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(move |connection, _| Box::pin(prepare(connection, dialect)));
        Ok(Self { pool: options.connect(&url).await?, dialect })
    }

    /// Which engine it is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// When none comes free in 10 s, or the database is gone.
    pub async fn conn(&self) -> Result<PoolConnection<Any>> {
        Ok(self.pool.acquire().await?)
    }

    /// A transaction that may write from the start.
    ///
    /// # Errors
    /// As [`Db::conn`].
    pub async fn begin(&self) -> Result<Transaction<'static, Any>> {
        Ok(match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Dialect::Postgres => self.pool.begin().await?,
        })
    }

    /// Brings the schema up to date. Several programs may do so at once, and others may use the database meanwhile.
    ///
    /// # Errors
    /// When a migration fails, or [`Error::Ahead`].
    pub async fn migrate(&self) -> Result<()> {
        match self.dialect {
            Dialect::Sqlite => self.migrate_file().await,
            Dialect::Postgres => self.migrate_server().await,
        }
    }

    /// The migrator takes a lock, and keeps it when it fails: it goes with the connection.
    async fn migrate_server(&self) -> Result<()> {
        let mut conn = self.conn().await?;
        let migrated = MIGRATOR.run(&mut *conn).await;
        if migrated.is_err() {
            conn.close().await?;
        }
        Ok(migrated?)
    }

    /// On SQLite the migrator takes no lock, so all of it is one transaction, and for that others are waited for.
    async fn migrate_file(&self) -> Result<()> {
        let mut conn = self.conn().await?;
        wait_for_locks(&mut conn, LONG_WAIT).await?;
        let migrated = migrate_at_once(&mut conn).await;
        wait_for_locks(&mut conn, WAIT).await?;
        migrated
    }

    /// What migrations there are, and which of them this database has had.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn migrations(&self) -> Result<Vec<Migration>> {
        let applied = self.applied().await?;
        let known = MIGRATOR.iter().map(|migration| Migration {
            version: migration.version,
            description: migration.description.to_string(),
            applied: applied.contains(&migration.version),
        });
        Ok(known.collect())
    }

    /// Versions of the migrations that were applied; none in a database that never had any.
    async fn applied(&self) -> Result<Vec<i64>> {
        let there = match self.dialect {
            Dialect::Sqlite => "SELECT COUNT(*) AS n FROM sqlite_master WHERE name = '_sqlx_migrations'",
            Dialect::Postgres => {
                "SELECT COUNT(*) AS n FROM information_schema.tables
                 WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'"
            }
        };
        if sqlx::query(there).fetch_one(&self.pool).await?.try_get::<i64, _>("n")? == 0 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("SELECT version FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok(row.try_get("version")?)).collect()
    }

    /// Refuses a database whose schema is not that of this program.
    ///
    /// # Errors
    /// [`Error::Behind`] when a migration is pending, [`Error::Ahead`] when there is one that this program does not know.
    pub async fn check_schema(&self) -> Result<()> {
        let applied = self.applied().await?;
        if let Some(&version) = applied.iter().find(|version| !MIGRATOR.version_exists(**version)) {
            return Err(Error::Ahead { version });
        }
        match MIGRATOR.iter().find(|migration| !applied.contains(&migration.version)) {
            Some(pending) => Err(Error::Behind { version: pending.version }),
            None => Ok(()),
        }
    }

    /// The database's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn now_millis(&self) -> Result<i64> {
        let sql = match self.dialect {
            Dialect::Sqlite => "SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT) AS now",
            Dialect::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now",
        };
        Ok(sqlx::query(sql).fetch_one(&self.pool).await?.try_get("now")?)
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes the file of a new SQLite database readable by its owner only, before SQLite makes one for everybody. What SQLite puts
/// beside it takes over its mode.
fn make_private(url: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or_default();
    // In memory, left to the user, or written with %-escapes that only SQLite's driver resolves.
    if path.is_empty() || path.starts_with(':') || path.contains('%') || url.contains("mode=") {
        return Ok(());
    }
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::Sql(error.into())),
        _ => Ok(()),
    }
}

/// SQLite makes the file unless the URL says otherwise.
fn creating(url: &str) -> String {
    if url.contains("mode=") {
        url.to_owned()
    } else {
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}mode=rwc")
    }
}

async fn prepare(connection: &mut AnyConnection, dialect: Dialect) -> sqlx::Result<()> {
    if dialect == Dialect::Sqlite {
        wait_for_locks(connection, WAIT).await?;
        use_wal(connection).await?;
    }
    Ok(())
}

/// How long SQLite waits for others' locks.
async fn wait_for_locks(connection: &mut AnyConnection, span: Duration) -> sqlx::Result<()> {
    let text = format!("PRAGMA busy_timeout = {}", span.as_millis());
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}

/// WAL lets readers go on while one writes; with it, `NORMAL` loses nothing but the last transactions at a power cut.
async fn use_wal(connection: &mut AnyConnection) -> sqlx::Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let set = sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
        match set.execute(&mut *connection).await {
            // While another program does the same to a new file, SQLite does not wait by itself.
            Err(error) if passing::passing(&error).is_some() && begun.elapsed() < WAIT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            done => return done.map(drop),
        }
    }
}

async fn migrate_at_once(connection: &mut AnyConnection) -> Result<()> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    MIGRATOR.run(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// `($1, $2), ($3, $4)`: the places of so many rows, for statements about many at once.
pub(crate) fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<_> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// A column parsed into a type of ours.
pub(crate) fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| Error::Corrupt { column })
}

/// A nullable column parsed into a type of ours.
pub(crate) fn parsed_opt<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<Option<T>> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_| Error::Corrupt { column })).transpose()
}

/// A column that holds JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|_| Error::Corrupt { column })
}

/// A nullable column that holds JSON.
pub(crate) fn json_opt<T: serde::de::DeserializeOwned>(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<T>> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| Error::Corrupt { column })).transpose()
}

/// A column that holds an instant.
pub(crate) fn instant(row: &AnyRow, column: &'static str) -> Result<jiff::Timestamp> {
    Ok(crate::clock::from_millis(row.try_get(column)?))
}

/// A nullable column that holds an instant.
pub(crate) fn instant_opt(row: &AnyRow, column: &'static str) -> Result<Option<jiff::Timestamp>> {
    let millis: Option<i64> = row.try_get(column)?;
    Ok(millis.map(crate::clock::from_millis))
}

/// An UPDATE or DELETE of one row: none touched means that there is none in scope.
pub(crate) fn touched(result: &sqlx::any::AnyQueryResult) -> Result<()> {
    if result.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite:{}", dir.path().join("hub.db").display()), 2).await.unwrap();
        assert!(db.migrations().await.unwrap().iter().all(|migration| !migration.applied));
        let error = db.check_schema().await.unwrap_err().to_string();
        assert!(error.contains("xvault-hub migrate"), "{error}");
        db.migrate().await.unwrap();
        db.check_schema().await.unwrap();
        db.migrate().await.unwrap();
    }

    #[tokio::test]
    async fn a_new_file_and_what_lies_beside_it_are_their_owners_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("hub.db").display());
        let db = Db::connect(&url, 2).await.unwrap();
        db.migrate().await.unwrap();
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap()).collect();
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", file.file_name());
        }
        // One that is there is opened as it is.
        Db::connect(&url, 2).await.unwrap().check_schema().await.unwrap();
    }

    #[tokio::test]
    async fn other_databases_are_refused_by_name() {
        let error = Db::connect("mysql://localhost/x", 1).await.unwrap_err();
        assert!(error.to_string().contains("DATABASE_URL"), "{error}");
    }
}
