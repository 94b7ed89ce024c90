//! The database: one set of SQL on PostgreSQL and SQLite, a file per table.
//!
//! Functions take a connection, so that several make one transaction. Rows are private; what comes out are the types
//! of each file. Texts use `$n` only, and the types TEXT, BIGINT, DOUBLE PRECISION and BYTEA (sqlx's `Any` reads no others
//! from both engines). A transaction begins with a write, or with [`Db::begin`], which locks SQLite at once.

pub(crate) mod api_keys;
pub(crate) mod audit;
mod begin;
pub(crate) mod copy_attempts;
pub(crate) mod credentials;
pub(crate) mod downloads;
pub(crate) mod job_logs;
pub(crate) mod jobs;
mod migrations;
pub(crate) mod needs;
pub(crate) mod newest;
pub(crate) mod passing;
mod pool;
pub(crate) mod recipient_challenges;
pub(crate) mod recovery;
pub(crate) mod refresh_tokens;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod sealed;
pub(crate) mod settings;
pub(crate) mod snapshot_copies;
pub(crate) mod snapshots;
pub(crate) mod sources;
pub(crate) mod standing;
pub(crate) mod status;
pub(crate) mod store_attempts;
pub(crate) mod store_keys;
pub(crate) mod store_sweeps;
pub(crate) mod stores;
pub(crate) mod tenant_keys;
pub(crate) mod tenants;
pub(crate) mod users;
pub(crate) mod workers;

use sqlx::any::AnyRow;
use sqlx::migrate::MigrateError;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, Row as _};
use xvault_core::TenantId;

pub use migrations::Migration;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres,
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
    /// A pool is of another engine.
    #[error("the hub runs on PostgreSQL and SQLite, and the pool is of {engine}")]
    Engine {
        /// As its driver calls it.
        engine: String,
    },
    /// A pool's connections are not as [`Db::from_pool`] needs them.
    #[error("the pool has {setting} = {found}, and the hub needs {needed}: see `Db::from_pool`")]
    Pool {
        /// What is to be set otherwise.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        needed: &'static str,
    },
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

    /// Ends all connections of the pool, whoever made it.
    pub async fn close(&self) {
        self.pool.close().await;
    }
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
