//! Dumps into PostgreSQL: `pg_restore` for the custom format, `psql` for SQL.

mod contents;
mod locale;
mod make;
mod origin;
mod property;
mod rows;
mod run;
mod statement;

use jiff::Timestamp;
use xvault_core::source::PostgresTarget;

use super::scratch::{PREFIX, is_left_over, too_mighty};
use super::{DumpReader, Found, Loaded, Trial};
use crate::database::postgres::Postgres;
use crate::database::{DatabaseLogin, unhex};
use crate::{Control, Error};
use locale::Locale;
use origin::Origin;
use run::run;
use statement::{identifier, literal};

/// What belongs to users.
const THINGS: &str = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// The names of all tables that hold rows, quoted, in hexadecimal; a partitioned table's rows are in its parts.
const TABLES: &str = "SELECT encode(convert_to(format('%I.%I', n.nspname, c.relname), 'UTF8'), 'hex') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// What lets an account run programs of the server, or read and write its files, or give itself what does (before PostgreSQL 16).
const MIGHT: &str = "SELECT rolname FROM pg_catalog.pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER') AND (rolsuper OR \
    rolcreaterole AND current_setting('server_version_num')::int < 160000 OR rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))";

/// So many tables are counted with one statement: each takes a lock.
const TABLES_AT_ONCE: usize = 200;

pub(super) async fn load(
    target: &PostgresTarget,
    login: &DatabaseLogin,
    mut dump: DumpReader,
    control: &Control,
) -> Result<Loaded, Error> {
    let postgres = control.run(connect(target, login)).await?;
    let origin = control.run(Origin::of(&mut dump)).await?;
    let loaded = load_from(&postgres, target, &origin, &mut dump, control).await?;
    if loaded.created
        && let Err(error) = make::properties(&postgres, target, &origin, control).await
    {
        let _ = tidy_up(&postgres, &target.database, control).await;
        return Err(error);
    }
    Ok(loaded)
}

/// All but what belongs to the database itself.
async fn load_from(
    postgres: &Postgres,
    target: &PostgresTarget,
    origin: &Origin,
    dump: &mut DumpReader,
    control: &Control,
) -> Result<Loaded, Error> {
    let name = &target.database;
    let created = control.run(look(postgres, name)).await?.permits(name, target.create, target.overwrite)?;
    origin.check()?;
    if created {
        make(postgres, name, &origin.locale, control).await?;
    } else {
        control.run(make::check(postgres, name, &origin.locale, control)).await?;
    }
    match run(postgres, target, created, origin, dump, control).await {
        Ok(bytes) => Ok(Loaded { database: name.clone(), created, bytes }),
        Err(error) => {
            if created {
                let _ = tidy_up(postgres, name, control).await;
            }
            Err(error)
        }
    }
}

/// Makes a database, which is dropped again when it can't be looked at.
async fn make(postgres: &Postgres, name: &str, locale: &Locale, control: &Control) -> Result<(), Error> {
    let refusal = make::database(postgres, name, locale).await?;
    let told = control.run(make::tell(postgres, name, locale, refusal, control)).await;
    let Err(error) = told else { return Ok(()) };
    Err(if tidy_up(postgres, name, control).await { make::unseen(error, name) } else { error })
}

/// The server, with a scratch database of this name as what is loaded into.
pub(super) fn scratch(server: &PostgresTarget, name: String) -> PostgresTarget {
    PostgresTarget { database: name, create: true, overwrite: false, keep_owner: false, ..server.clone() }
}

pub(super) async fn trial(
    target: &PostgresTarget,
    (login, any_account): (&DatabaseLogin, bool),
    mut dump: DumpReader,
    control: &Control,
) -> Result<Trial, Error> {
    let postgres = control.run(connect(target, login)).await?;
    if !any_account && !control.run(postgres.query(postgres.home(), MIGHT)).await?.is_empty() {
        return Err(too_mighty(&postgres.reach.account()));
    }
    let origin = control.run(Origin::of(&mut dump)).await?;
    let loaded = load_from(&postgres, target, &origin, &mut dump, control).await?;
    let counted = control.run(count(&postgres, &target.database, loaded.bytes)).await;
    let _ = tidy_up(&postgres, &target.database, control).await;
    counted
}

async fn count(postgres: &Postgres, database: &str, dump_bytes: u64) -> Result<Trial, Error> {
    let names: Vec<String> =
        postgres.query(database, TABLES).await?.iter().filter_map(|row| unhex(row.first()?)).collect();
    let rows = postgres.query(database, "SELECT pg_database_size(current_database())").await?;
    let database_bytes = number(&rows).unwrap_or_default();
    let mut trial = Trial { tables: names.len() as u64, rows: 0, dump_bytes, database_bytes };
    for names in names.chunks(TABLES_AT_ONCE) {
        let counts = names.iter().map(|name| format!("SELECT count(*) AS n FROM ONLY {name}"));
        let sql = format!("SELECT sum(n) FROM ({}) AS t", counts.collect::<Vec<_>>().join(" UNION ALL "));
        let rows = postgres.query(database, &sql).await?;
        let count = number(&rows).ok_or_else(|| postgres.nonsense("the count of its rows is no number"))?;
        trial.rows = trial.rows.saturating_add(count);
    }
    Ok(trial)
}

pub(super) async fn sweep(
    server: &PostgresTarget,
    login: &DatabaseLogin,
    before: Timestamp,
) -> Result<u64, Error> {
    let postgres = connect(server, login).await?;
    let sql = format!("SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname, '{PREFIX}')");
    let names = postgres.query(postgres.home(), &sql).await?;
    let mut dropped = 0;
    for name in names.iter().filter_map(|row| row.first()).filter(|name| is_left_over(name, before)) {
        // The server drops none that somebody is connected to.
        dropped += u64::from(remove(&postgres, name).await.is_ok());
    }
    Ok(dropped)
}

fn number(rows: &[Vec<String>]) -> Option<u64> {
    rows.first()?.first()?.parse().ok()
}

/// Through a usual database; or through the target itself, where its user may connect to no other.
async fn connect(target: &PostgresTarget, login: &DatabaseLogin) -> Result<Postgres, Error> {
    match Postgres::connect(&target.server(), login, None).await {
        Err(Error::NotFound(_) | Error::Tool { .. }) => {
            Postgres::connect(&target.server(), login, Some(&target.database)).await
        }
        connected => connected,
    }
}

async fn look(postgres: &Postgres, name: &str) -> Result<Found, Error> {
    let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
    if postgres.query(postgres.home(), &sql).await?.is_empty() {
        return Ok(Found::Missing);
    }
    let count = number(&postgres.query(name, THINGS).await?);
    count.map(Found::Tables).ok_or_else(|| postgres.nonsense("the count of its tables is no number"))
}

async fn remove(postgres: &Postgres, name: &str) -> Result<(), Error> {
    let sql = format!("DROP DATABASE IF EXISTS {}", identifier(name));
    postgres.query(postgres.home(), &sql).await.map(drop)
}

/// What a client that was killed has begun goes on in the server, which looks at its connection when that is done: an index of a large table.
async fn end_sessions(postgres: &Postgres, name: &str) -> Result<(), Error> {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = {} AND usename = session_user \
         AND pid <> pg_backend_pid()",
        literal(name)
    );
    postgres.query(postgres.home(), &sql).await.map(drop)
}

/// After a failure: what can't be removed is told, and the failure stays the news. Gives whether it is gone.
async fn tidy_up(postgres: &Postgres, name: &str, control: &Control) -> bool {
    // A client that was just killed may be connected still.
    for _ in 0..20 {
        // What follows says what is in the way.
        let _ = end_sessions(postgres, name).await;
        match remove(postgres, name).await {
            Ok(()) => return true,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
    let name = name.escape_debug();
    control.progress().note(&format!("database `{name}` was made for this restore and could not be dropped"));
    false
}
