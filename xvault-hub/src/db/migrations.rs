//! The schema: which migrations there are, and which this database has had.
//!
//! They are noted in a table of a name of its own: sqlx's default belongs to the program that the hub may be part of.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection as _, Row as _};

use super::pool::{WAIT, wait_for_locks};
use super::{Db, Dialect, Error, Result};

const TABLE: &str = "xvault_migrations";
/// What the table was called before.
const FORMER: &str = "_sqlx_migrations";
/// How long SQLite waits for others that change the schema, or work while it is to be changed.
const LONG_WAIT: Duration = Duration::from_secs(5 * 60);

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name(TABLE);
    migrator
});

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

impl Db {
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
        take_over(&mut conn, self.dialect).await?;
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
        let mut conn = self.conn().await?;
        if !has_table(&mut conn, self.dialect, TABLE).await? {
            return Ok(Vec::new());
        }
        let query = sqlx::query("SELECT version FROM xvault_migrations ORDER BY version");
        query.fetch_all(&mut *conn).await?.iter().map(|row| Ok(row.try_get("version")?)).collect()
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
        none_pending(&applied)
    }

    /// Refuses a database that lacks a migration. One of a newer program will do: while a fleet is brought up to date, hubs of the
    /// version before go on.
    ///
    /// # Errors
    /// [`Error::Behind`].
    pub(crate) async fn check_not_behind(&self) -> Result<()> {
        none_pending(&self.applied().await?)
    }
}

fn none_pending(applied: &[i64]) -> Result<()> {
    match MIGRATOR.iter().find(|migration| !applied.contains(&migration.version)) {
        Some(pending) => Err(Error::Behind { version: pending.version }),
        None => Ok(()),
    }
}

async fn migrate_at_once(connection: &mut AnyConnection) -> Result<()> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    take_over(&mut tx, Dialect::Sqlite).await?;
    MIGRATOR.run(&mut *tx).await?;
    Ok(tx.commit().await?)
}

async fn has_table(conn: &mut AnyConnection, dialect: Dialect, name: &str) -> Result<bool> {
    let sql = match dialect {
        Dialect::Sqlite => "SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'table' AND name = $1",
        Dialect::Postgres => {
            "SELECT COUNT(*) AS n FROM information_schema.tables
             WHERE table_schema = current_schema() AND table_name = $1"
        }
    };
    Ok(sqlx::query(sql).bind(name).fetch_one(conn).await?.try_get::<i64, _>("n")? > 0)
}

/// Databases that were made when the table had sqlx's name.
async fn take_over(conn: &mut AnyConnection, dialect: Dialect) -> Result<()> {
    if has_table(conn, dialect, TABLE).await? || !has_table(conn, dialect, FORMER).await? {
        return Ok(());
    }
    match rename_former(conn).await {
        // Another hub was faster.
        Err(_) if has_table(conn, dialect, TABLE).await? => Ok(()),
        done => done,
    }
}

/// Unless a row of it is not ours.
async fn rename_former(conn: &mut AnyConnection) -> Result<()> {
    if is_former_ours(conn).await? {
        sqlx::query("ALTER TABLE _sqlx_migrations RENAME TO xvault_migrations").execute(conn).await?;
    }
    Ok(())
}

async fn is_former_ours(conn: &mut AnyConnection) -> Result<bool> {
    let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations").fetch_all(conn).await?;
    for row in &rows {
        let (version, checksum): (i64, Vec<u8>) = (row.try_get("version")?, row.try_get("checksum")?);
        if !MIGRATOR.iter().any(|ours| ours.version == version && *ours.checksum == *checksum) {
            return Ok(false);
        }
    }
    Ok(!rows.is_empty())
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
}
