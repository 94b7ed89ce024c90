//! Dumps into MySQL and MariaDB, by their client.

use bytes::Bytes;
use jiff::Timestamp;
use xvault_core::source::MysqlTarget;

use super::feed::{Frame, feed};
use super::scratch::{PREFIX, is_left_over, too_mighty};
use super::{DumpReader, Format, Found, Loaded, Trial, unfit};
use crate::database::mysql::{Mysql, identifier, text};
use crate::database::{DatabaseLogin, unhex};
use crate::tool::{Call, Words, before};
use crate::{Control, Error};

/// How much of a dump says what it is.
const HEAD: usize = 512;

/// How the first line of MariaDB's dumps begins. Other clients stumble over it; ours take no commands from a dump anyway.
const SANDBOX: &[u8] = b"/*M!999999\\- ";

/// So many tables are counted with one statement.
const TABLES_AT_ONCE: usize = 200;

pub(super) async fn load(
    target: &MysqlTarget,
    login: &DatabaseLogin,
    mut dump: DumpReader,
    control: &Control,
) -> Result<Loaded, Error> {
    let mysql = control.run(Mysql::connect(&target.server(), login)).await?;
    let found = control.run(look(&mysql, &target.database)).await?;
    let created = found.permits(&target.database, target.create, target.overwrite)?;
    let format = Format::of(control.run(dump.head(HEAD)).await?);
    if format != Some(Format::Mysql) {
        return Err(unfit("MySQL"));
    }
    dump.drop_first_line(SANDBOX);
    dump.drop_own_name();
    dump.must_end_with(b"\n-- Dump completed");
    if created {
        make(&mysql, &target.database).await?;
    }
    let call = client(&mysql, &target.database);
    // What the server says we know then, and can tell rows from other words.
    let english = format!("{}\n", control.run(mysql.in_english()).await?);
    let frame = Frame { before: Bytes::from(english), after: b"" };
    match feed(&mysql.reach, call, &frame, &mut dump, control).await {
        Ok(bytes) => Ok(Loaded { database: target.database.clone(), created, bytes }),
        Err(error) => {
            if created {
                tidy_up(&mysql, &target.database, control).await;
            }
            Err(error)
        }
    }
}

/// It runs no commands of its own, such as `\!`, whatever stands in a dump.
fn client(mysql: &Mysql, database: &str) -> Call {
    let mut call = mysql.client();
    call.arg("--binary-mode").arg("--batch").arg("--max-allowed-packet=1G");
    if mysql.client_tool().knows_sandbox() {
        call.arg("--sandbox");
    }
    call.arg("--").arg(database);
    call.words = Some(without_rows());
    call
}

/// What begins a value of a row in an error.
const VALUES: [&str; 6] = ["entry '", "near '", "value: '", "value '", "string '", "string: '"];

/// What older clients put before a statement that failed, and behind it.
const ECHO: &str = "--------------";

/// What the client says, without rows: those are the customer's alone, and errors and logs are kept by the service.
fn without_rows() -> Words {
    let (mut in_error, mut in_echo) = (false, false);
    Words::new(move |line| {
        if line == ECHO {
            in_echo = !in_echo;
            return None;
        }
        let begins = ["ERROR ", "mariadb: ", "mysql: ", "Warning"].iter().any(|word| line.starts_with(word));
        // A value may have line breaks.
        let goes_on = in_error && !begins;
        in_error = line.starts_with("ERROR ") || goes_on;
        (!in_echo && !goes_on).then(|| before(line, &VALUES))
    })
}

/// The server, with a scratch database of this name as what is loaded into.
pub(super) fn scratch(server: &MysqlTarget, name: String) -> MysqlTarget {
    MysqlTarget { database: name, create: true, overwrite: false, ..server.clone() }
}

pub(super) async fn trial(
    target: &MysqlTarget,
    (login, any_account): (&DatabaseLogin, bool),
    dump: DumpReader,
    control: &Control,
) -> Result<Trial, Error> {
    let mysql = control.run(Mysql::connect(&target.server(), login)).await?;
    if !any_account && control.run(mysql.rights_of_all_roles()).await?.is_mighty() {
        return Err(too_mighty(&mysql.reach.account()));
    }
    let loaded = load(target, login, dump, control).await?;
    let counted = control.run(count(&mysql, &target.database, loaded.bytes)).await;
    tidy_up(&mysql, &target.database, control).await;
    counted
}

pub(super) async fn sweep(
    server: &MysqlTarget,
    login: &DatabaseLogin,
    before: Timestamp,
) -> Result<u64, Error> {
    let mysql = Mysql::connect(&server.server(), login).await?;
    // The server would drop one that is being loaded into.
    let sql = format!(
        "SELECT HEX(SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE LEFT(SCHEMA_NAME, {}) = '{PREFIX}' \
         AND SCHEMA_NAME NOT IN (SELECT DB FROM information_schema.PROCESSLIST WHERE DB IS NOT NULL)",
        PREFIX.len()
    );
    let names = mysql.query(&sql).await?;
    let mut dropped = 0;
    for name in names.iter().filter_map(|row| unhex(row.first()?)).filter(|name| is_left_over(name, before)) {
        dropped += u64::from(remove(&mysql, &name).await.is_ok());
    }
    Ok(dropped)
}

async fn count(mysql: &Mysql, database: &str, dump_bytes: u64) -> Result<Trial, Error> {
    let sql = format!(
        "SELECT HEX(TABLE_NAME), COALESCE(DATA_LENGTH + INDEX_LENGTH, 0) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_TYPE = 'BASE TABLE'",
        text(database)
    );
    let found = mysql.query(&sql).await?;
    let mut trial = Trial { tables: found.len() as u64, rows: 0, dump_bytes, database_bytes: 0 };
    let sizes = found.iter().filter_map(|row| row.get(1)?.parse::<u64>().ok());
    trial.database_bytes = sizes.fold(0, u64::saturating_add);
    let names: Vec<String> = found.iter().filter_map(|row| unhex(row.first()?)).collect();
    for names in names.chunks(TABLES_AT_ONCE) {
        let counts = names
            .iter()
            .map(|name| format!("SELECT COUNT(*) AS n FROM {}.{}", identifier(database), identifier(name)));
        let sql = format!("SELECT SUM(n) FROM ({}) AS t", counts.collect::<Vec<_>>().join(" UNION ALL "));
        let rows = mysql.query(&sql).await?;
        let count = number(&rows).ok_or_else(|| mysql.nonsense("the count of its rows is no number"))?;
        trial.rows = trial.rows.saturating_add(count);
    }
    Ok(trial)
}

fn number(rows: &[Vec<String>]) -> Option<u64> {
    rows.first()?.first()?.parse().ok()
}

async fn look(mysql: &Mysql, name: &str) -> Result<Found, Error> {
    let name = text(name);
    let sql = format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}");
    if number(&mysql.query(&sql).await?) == Some(0) {
        return Ok(Found::Missing);
    }
    let counts = [("TABLES", "TABLE_SCHEMA"), ("ROUTINES", "ROUTINE_SCHEMA"), ("EVENTS", "EVENT_SCHEMA")];
    let counts = counts.map(|(kind, schema)| {
        format!("(SELECT COUNT(*) FROM information_schema.{kind} WHERE {schema} = {name})")
    });
    let count = number(&mysql.query(&format!("SELECT {}", counts.join(" + "))).await?);
    count.map(Found::Tables).ok_or_else(|| mysql.nonsense("the count of what it holds is no number"))
}

async fn make(mysql: &Mysql, name: &str) -> Result<(), Error> {
    let made = mysql.query(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", identifier(name))).await;
    made.map(drop).map_err(|error| match error {
        Error::Tool { reason, .. } => {
            Error::Target(format!("database `{}` could not be made: {reason}", name.escape_debug()))
        }
        error => error,
    })
}

async fn remove(mysql: &Mysql, name: &str) -> Result<(), Error> {
    mysql.query(&format!("DROP DATABASE IF EXISTS {}", identifier(name))).await.map(drop)
}

/// After a failure: what can't be removed is told, and the failure stays the news.
async fn tidy_up(mysql: &Mysql, name: &str, control: &Control) {
    if remove(mysql, name).await.is_err() {
        let name = name.escape_debug();
        control
            .progress()
            .note(&format!("database `{name}` was made for this restore and could not be dropped"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_told_and_what_failed_remains() {
        let echo = "--------------\nINSERT INTO t VALUES ('secret'),\n('ERROR secret')\n--------------\n\n";
        for (said, expected) in [
            (
                "ERROR 1136 (21S01) at line 3: Column count doesn't match value count at row 2\n",
                "ERROR 1136 (21S01) at line 3: Column count doesn't match value count at row 2\n",
            ),
            (
                "ERROR 1062 (23000) at line 3: Duplicate entry 'secret' for key 'b'\n",
                "ERROR 1062 (23000) at line 3: Duplicate entry \u{2026}\n",
            ),
            (
                "ERROR 1064 (42000) at line 3: You have an error in your SQL syntax; check the manual for the right syntax to use near ''a secret\nsecret' at line 1\nERROR 2013 (HY000) at line 4: Lost connection\n",
                "ERROR 1064 (42000) at line 3: You have an error in your SQL syntax; check the manual for the right syntax to use near \u{2026}\nERROR 2013 (HY000) at line 4: Lost connection\n",
            ),
            (
                "ERROR 1366 (22007) at line 3: Incorrect integer value: 'secret\nsecret' for column `d`.`t`.`a` at row 1\nmariadb: gone\nWarning: x\n",
                "ERROR 1366 (22007) at line 3: Incorrect integer value: \u{2026}\nmariadb: gone\nWarning: x\n",
            ),
            (
                "ERROR 1366 (HY000) at line 3: Incorrect string value 'secret' for column\nmysql: gone\n",
                "ERROR 1366 (HY000) at line 3: Incorrect string value \u{2026}\nmysql: gone\n",
            ),
            ("ERROR 7 (HY000): x\nsecret\nWarning: y\n", "ERROR 7 (HY000): x\nWarning: y\n"),
        ] {
            for said in [said.to_owned(), format!("{echo}{said}")] {
                let mut words = without_rows();
                let mut told = words.push(said.as_bytes());
                told.extend(words.rest());
                assert_eq!(String::from_utf8(told).unwrap(), expected);
            }
        }
    }
}
