//! Connections: how the hub makes them, and what it asks of those that it is given.

use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row as _};

use super::passing::passing;
use super::{Db, Dialect, Error, Result};

/// A pool of one stands still when a call needs a second connection.
const FEWEST: u32 = 2;
/// How long SQLite waits for others that write.
pub(super) const WAIT: Duration = Duration::from_secs(10);

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
            .after_connect(|connection, _| Box::pin(Self::prepare(connection)));
        Ok(Self { pool: options.connect(&url).await?, dialect })
    }

    /// The database of the program that the hub is part of. The program makes the pool, and may use it as it likes.
    ///
    /// Every connection must have gone through [`Db::prepare`]: give it to the pool's `after_connect`. Two connections are the least,
    /// and 8 do well. On SQLite it must be a file, as each connection to a database in memory has one of its own.
    ///
    /// The hub's tables lie beside the program's: `tenants`, `users`, `jobs` and so on. Where such a name is taken, give the hub
    /// another SQLite file, or a schema of its own on PostgreSQL (`SET search_path TO xvault` in `after_connect`). Which migrations it
    /// had stands in `xvault_migrations`: sqlx's `_sqlx_migrations` is the program's.
    ///
    /// ```
    /// use sqlx::any::AnyPoolOptions;
    /// use xvault_hub::Db;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}?mode=rwc", dir.path().join("program.db").display());
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// sqlx::any::install_default_drivers();
    /// let pool = AnyPoolOptions::new()
    ///     .after_connect(|connection, _| Box::pin(Db::prepare(connection)))
    ///     .connect(&url)
    ///     .await?;
    /// let db = Db::from_pool(pool.clone()).await?;
    /// # drop(db);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Engine`] for another engine, [`Error::Pool`] with what is set otherwise, and when the database can't be reached.
    pub async fn from_pool(pool: AnyPool) -> Result<Self> {
        let size = pool.options().get_max_connections();
        if size < FEWEST {
            return Err(Error::Pool {
                setting: "max_connections",
                found: size.to_string(),
                needed: "2 or more",
            });
        }
        let mut connection = pool.acquire().await?;
        let dialect = dialect(&connection)?;
        for asked in asked(dialect) {
            asked.check(&mut connection).await?;
        }
        drop(connection);
        Ok(Self { pool, dialect })
    }

    /// Sets what the hub needs of a connection; for `after_connect` of a program's own pool.
    ///
    /// On SQLite: foreign keys, WAL with `synchronous = FULL`, and up to 10 s of waiting for another writer. On PostgreSQL: the
    /// isolation level `READ COMMITTED`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prepare(connection: &mut AnyConnection) -> sqlx::Result<()> {
        match dialect(connection) {
            Ok(Dialect::Sqlite) => {
                wait_for_locks(connection, WAIT).await?;
                sqlx::raw_sql("PRAGMA foreign_keys = ON").execute(&mut *connection).await?;
                use_wal(connection).await
            }
            Ok(Dialect::Postgres) => {
                let text = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED";
                sqlx::raw_sql(text).execute(connection).await.map(drop)
            }
            Err(_) => Ok(()),
        }
    }
}

/// How long SQLite waits for others' locks.
pub(super) async fn wait_for_locks(connection: &mut AnyConnection, span: Duration) -> sqlx::Result<()> {
    let text = format!("PRAGMA busy_timeout = {}", span.as_millis());
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}

/// WAL lets readers go on while one writes. `FULL`: with `NORMAL` a power cut undoes the last commits, and workers act on what was
/// committed. A snapshot would be back on record whose bytes are gone.
async fn use_wal(connection: &mut AnyConnection) -> sqlx::Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let set = sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
        match set.execute(&mut *connection).await {
            // While another program does the same to a new file, SQLite does not wait by itself.
            Err(error) if passing(&error).is_some() && begun.elapsed() < WAIT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            done => return done.map(drop),
        }
    }
}

fn dialect(connection: &AnyConnection) -> Result<Dialect> {
    match connection.backend_name() {
        "SQLite" => Ok(Dialect::Sqlite),
        "PostgreSQL" => Ok(Dialect::Postgres),
        other => Err(Error::Engine { engine: other.to_owned() }),
    }
}

/// Something that must be so on every connection.
struct Asked {
    setting: &'static str,
    /// Gives a text.
    sql: &'static str,
    needed: &'static str,
}

impl Asked {
    async fn check(&self, connection: &mut AnyConnection) -> Result<()> {
        let found: String = sqlx::query(self.sql).fetch_one(connection).await?.try_get(0)?;
        if found == self.needed {
            return Ok(());
        }
        Err(Error::Pool { setting: self.setting, found, needed: self.needed })
    }
}

fn asked(dialect: Dialect) -> &'static [Asked] {
    match dialect {
        Dialect::Sqlite => &[
            Asked {
                setting: "foreign_keys",
                sql: "SELECT CASE foreign_keys WHEN 0 THEN 'off' ELSE 'on' END FROM pragma_foreign_keys",
                needed: "on",
            },
            Asked {
                setting: "journal_mode",
                sql: "SELECT journal_mode FROM pragma_journal_mode",
                needed: "wal",
            },
            Asked {
                setting: "synchronous",
                sql: "SELECT CASE synchronous WHEN 0 THEN 'off' WHEN 1 THEN 'normal' ELSE 'full' END FROM pragma_synchronous",
                needed: "full",
            },
            Asked {
                setting: "busy_timeout",
                sql: "SELECT CASE timeout WHEN 0 THEN '0' ELSE 'some' END FROM pragma_busy_timeout",
                needed: "some",
            },
        ],
        Dialect::Postgres => &[
            Asked {
                setting: "transaction_isolation",
                sql: "SELECT current_setting('transaction_isolation')",
                needed: "read committed",
            },
            Asked {
                setting: "transaction_read_only",
                sql: "SELECT current_setting('transaction_read_only')",
                needed: "off",
            },
        ],
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

#[cfg(test)]
mod tests {
    use super::*;

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
    async fn connections_of_the_hubs_own_are_as_it_asks_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite:{}", dir.path().join("hub.db").display()), 2).await.unwrap();
        let mut both = [db.conn().await.unwrap(), db.conn().await.unwrap()];
        for connection in &mut both {
            for asked in asked(Dialect::Sqlite) {
                asked.check(connection).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn other_databases_are_refused_by_name() {
        let error = Db::connect("mysql://localhost/x", 1).await.unwrap_err();
        assert!(error.to_string().contains("DATABASE_URL"), "{error}");
    }
}
