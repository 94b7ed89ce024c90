//! Dumps into PostgreSQL: `pg_restore` for the custom format, `psql` for SQL.

use xvault_core::source::PostgresTarget;

use super::feed::{Frame, feed};
use super::{DumpReader, Format, Found, Loaded, Trial, unfit};
use crate::database::DatabaseLogin;
use crate::database::postgres::Postgres;
use crate::tool::Call;
use crate::{Control, Error};

/// How much of a dump says what it is.
const HEAD: usize = 4096;

/// What belongs to users.
const THINGS: &str = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// Tables, all their rows, and the size of the database.
const COUNTS: &str = "SELECT count(*), coalesce(sum((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM \
    %I.%I', n.nspname, c.relname), false, true, '')))[1]::text::bigint), 0), pg_database_size(current_database()) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

pub(super) async fn load(
    target: &PostgresTarget,
    login: &DatabaseLogin,
    mut dump: DumpReader,
    control: &Control,
) -> Result<Loaded, Error> {
    let postgres = control.run(connect(target, login)).await?;
    let found = control.run(look(&postgres, &target.database)).await?;
    let created = found.permits(&target.database, target.create, target.overwrite)?;
    let format = Format::of(control.run(dump.head(HEAD)).await?);
    if created {
        make(&postgres, &target.database).await?;
    }
    match run(&postgres, target, created, format, &mut dump, control).await {
        Ok(bytes) => Ok(Loaded { database: target.database.clone(), created, bytes }),
        Err(error) => {
            if created {
                tidy_up(&postgres, &target.database, control).await;
            }
            Err(error)
        }
    }
}

pub(super) async fn trial(
    target: &PostgresTarget,
    login: &DatabaseLogin,
    dump: DumpReader,
    control: &Control,
) -> Result<Trial, Error> {
    let loaded = load(target, login, dump, control).await?;
    let postgres = connect(target, login).await?;
    let counted = control.run(postgres.query(&target.database, COUNTS)).await;
    remove(&postgres, &target.database).await?;
    let rows = counted?;
    let field = |at: usize| rows.first().and_then(|row| row.get(at)).and_then(|text| text.parse().ok());
    match (field(0), field(1), field(2)) {
        (Some(tables), Some(rows), Some(database_bytes)) => {
            Ok(Trial { tables, rows, dump_bytes: loaded.bytes, database_bytes })
        }
        _ => Err(postgres.nonsense("the count of its tables is no number")),
    }
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
    let rows = postgres.query(name, THINGS).await?;
    let count = rows.first().and_then(|row| row.first()).and_then(|count| count.parse().ok());
    count.map(Found::Tables).ok_or_else(|| postgres.nonsense("the count of its tables is no number"))
}

async fn make(postgres: &Postgres, name: &str) -> Result<(), Error> {
    let sql = format!("CREATE DATABASE {} TEMPLATE template0", identifier(name));
    postgres.query(postgres.home(), &sql).await.map(drop)
}

async fn remove(postgres: &Postgres, name: &str) -> Result<(), Error> {
    let sql = format!("DROP DATABASE IF EXISTS {}", identifier(name));
    postgres.query(postgres.home(), &sql).await.map(drop)
}

/// After a failure: what can't be removed is told, and the failure stays the news.
async fn tidy_up(postgres: &Postgres, name: &str, control: &Control) {
    // A client that was just killed may be connected still.
    for _ in 0..20 {
        match remove(postgres, name).await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
    let name = name.escape_debug();
    control.progress().note(&format!("database `{name}` was made for this restore and could not be dropped"));
}

async fn run(
    postgres: &Postgres,
    target: &PostgresTarget,
    created: bool,
    format: Option<Format>,
    dump: &mut DumpReader,
    control: &Control,
) -> Result<u64, Error> {
    match format {
        Some(Format::PostgresCustom) => {
            let (tool, _) = control.run(postgres.tool("pg_restore")).await?;
            let mut call = postgres.call(&tool, &target.database);
            restore_options(&mut call, target, created);
            feed(&postgres.reach, call, &Frame::default(), dump, control).await
        }
        Some(Format::PostgresPlain) => {
            let mut call = postgres.psql(&target.database);
            for arg in ["-X", "-w", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"] {
                call.arg(arg);
            }
            dump.drop_restriction();
            feed(&postgres.reach, call, &frame(created), dump, control).await
        }
        Some(Format::Mysql) | None => Err(unfit("PostgreSQL")),
    }
}

/// One transaction, but for a database that is dropped when it fails: ten thousand tables take more locks than servers have.
fn restore_options(call: &mut Call, target: &PostgresTarget, created: bool) {
    call.arg("--exit-on-error").arg("--no-password");
    if !created {
        call.arg("--single-transaction");
    }
    if !target.keep_owner {
        call.arg("--no-owner").arg("--no-privileges");
    }
    if target.overwrite && !created {
        call.arg("--clean").arg("--if-exists");
    }
}

/// `psql` must not run commands of this machine that stand in a dump: they are forbidden by a word that is made now, so
/// nobody who made the dump can know it and allow them again.
fn frame(created: bool) -> Frame {
    let word = xvault_core::clock::new_id().replace('-', "");
    let restrict = format!("\\restrict {word}\n");
    if created {
        return Frame { before: restrict.into(), after: b"" };
    }
    Frame { before: format!("BEGIN;\n{restrict}").into(), after: b"\nCOMMIT;\n" }
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
