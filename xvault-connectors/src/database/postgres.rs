//! A PostgreSQL server: its client, and what it says of itself.

mod tools;

use std::path::{Path, PathBuf};

use xvault_core::error::chain;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::source::{DatabaseServer, TlsMode};
use zeroize::Zeroizing;

use super::complaint::understood;
use super::{APPLICATION, CONNECT_TIMEOUT, DatabaseLogin, MAX_ANSWER, Reach, unhex};
use crate::Error;
use crate::tool::{CA_PATH, Call, Secret, Told, Version, authorities};
use tools::client;

pub(crate) use tools::dump_reader;

/// Databases that nearly every server has: to ask about others when none is named.
const USUAL: [&str; 2] = ["postgres", "template1"];

/// A server that was reached.
pub(crate) struct Postgres {
    pub(crate) reach: Reach,
    psql: PathBuf,
    /// A database that we may connect to.
    home: String,
    pub(crate) version: Version,
    /// `PostgreSQL 15.18`.
    pub(crate) name: String,
    pub(crate) is_superuser: bool,
}

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) encoding: String,
    /// Bytes on the server's disk; `None` where we may not know, or did not ask.
    pub(crate) size: Option<u64>,
    /// What an interrupted `DROP DATABASE` left: it can't be connected to, only dropped.
    pub(crate) is_invalid: bool,
    /// Whether this user holds the privilege to connect to it.
    pub(crate) is_granted: bool,
    /// How many subscriptions `pg_dump` leaves out, as this user is no superuser.
    pub(crate) subscriptions: u64,
}

impl Postgres {
    /// Connects through `named`, or a usual database when there is none, and asks what the server is.
    pub(crate) async fn connect(
        server: &DatabaseServer,
        login: &DatabaseLogin,
        named: Option<&str>,
    ) -> Result<Self, Error> {
        let reach = Reach::connect(server, login, None).await?;
        let psql = client(&reach).await?;
        let homes: Vec<&str> = named.map_or(USUAL.to_vec(), |named| vec![named]);
        let name = String::new();
        let mut postgres =
            Self { reach, psql, home: String::new(), version: Version::default(), name, is_superuser: false };
        let mut last = Error::NotFound("a database to connect to".to_owned());
        for home in homes {
            home.clone_into(&mut postgres.home);
            match postgres.introduce().await {
                // Missing, or closed to this user: another one tells as much.
                Err(error @ (Error::NotFound(_) | Error::Tool { .. })) => last = error,
                introduced => return introduced.map(|()| postgres),
            }
        }
        Err(last)
    }

    async fn introduce(&mut self) -> Result<(), Error> {
        let sql = "SELECT current_setting('server_version'), \
                   (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)";
        let rows = self.query(&self.home, sql).await?;
        let mut fields = rows.into_iter().next().unwrap_or_default().into_iter();
        let version = fields.next().unwrap_or_default();
        let number = version.split_whitespace().next().unwrap_or_default().to_owned();
        self.version = Version::parse(&number).ok_or_else(|| self.nonsense("its version is no number"))?;
        self.name = format!("PostgreSQL {}", number.escape_debug());
        self.is_superuser = fields.next().as_deref() == Some("t");
        Ok(())
    }

    pub(crate) fn nonsense(&self, detail: &str) -> Error {
        Error::Protocol { server: self.reach.server.place(), detail: detail.to_owned() }
    }

    /// A database that we may connect to, to ask about others.
    pub(crate) fn home(&self) -> &str {
        &self.home
    }

    /// All databases, or those that are no templates and take connections; with their sizes, which may take a while, or without.
    pub(crate) async fn databases(&self, all: bool, sized: bool) -> Result<Vec<Database>, Error> {
        let filter = if all { "true" } else { "datallowconn AND NOT datistemplate" };
        let subscriptions = if self.is_superuser || self.version.major < 10 {
            "0"
        } else {
            "(SELECT count(*) FROM pg_catalog.pg_subscription s WHERE s.subdbid = d.oid)"
        };
        let sql = format!(
            "SELECT encode(convert_to(datname::text, getdatabaseencoding()), 'hex'), \
             CASE WHEN {sized} AND has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END, datconnlimit = -2, {subscriptions}, \
             has_database_privilege(oid, 'CONNECT'), pg_encoding_to_char(encoding) \
             FROM pg_catalog.pg_database d WHERE {filter} ORDER BY datname"
        );
        let rows = self.query(&self.home, &sql).await?;
        rows.into_iter().map(|row| self.database(&row)).collect()
    }

    fn database(&self, row: &[String]) -> Result<Database, Error> {
        let name = row.first().and_then(|name| unhex(name));
        let name = name.ok_or_else(|| self.nonsense("the name of a database is not UTF-8"))?;
        let number = |place: usize| row.get(place).and_then(|number| number.parse().ok());
        let is_invalid = row.get(2).is_some_and(|answer| answer == "t");
        let is_granted = row.get(4).is_none_or(|answer| answer == "t");
        let encoding = row.get(5).cloned().unwrap_or_default();
        let subscriptions = number(3).unwrap_or_default();
        Ok(Database { name, encoding, size: number(1), is_invalid, is_granted, subscriptions })
    }

    /// Why `database` is [closed](is_closed) to this user. `None`: it is open.
    pub(crate) async fn closed(&self, database: &Database) -> Result<Option<String>, Error> {
        if !database.is_granted {
            return Ok(Some("this user has no CONNECT privilege on it".to_owned()));
        }
        match self.query(&database.name, "SELECT 1").await {
            Ok(_) => Ok(None),
            Err(error) if is_closed(&error) => Ok(Some(chain(&error))),
            Err(error) => Err(error),
        }
    }

    /// Runs `sql` in `database`, however long it takes: rows of fields. Neither line breaks nor `|` may be in a field.
    pub(crate) async fn query(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>, Error> {
        let mut call = self.call(&self.psql, database);
        // Each `-c` is a transaction of its own. A role's `statement_timeout` is for the application's statements.
        let unlimited = "SET statement_timeout = 0";
        for arg in ["-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", unlimited, "-c", sql] {
            call.arg(arg);
        }
        let answer = self.reach.run(call).await?.output(MAX_ANSWER).await;
        let answer = answer.map_err(|error| understood(error, &self.reach))?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
    }

    /// `psql` in `database`, without options.
    pub(crate) fn psql(&self, database: &str) -> Call {
        self.call(&self.psql, database)
    }

    /// A call of `program` that connects to `database` by `--dbname`.
    pub(crate) fn call(&self, program: &Path, database: &str) -> Call {
        let reach = &self.reach;
        let mut call = Call::new(program);
        call.port = Some(reach.port());
        call.arg(format!("--dbname={}", self.connection(database)));
        call.secret = reach.login.password.as_ref().map(password_file);
        if call.secret.is_none() && !reach.is_remote() {
            call.env.push(("PGPASSFILE", "/dev/null".to_owned()));
        }
        if !reach.is_remote() {
            call.ca = reach.server.tls_ca.clone();
        }
        call
    }

    /// libpq's words. No secret is among them: every user of the machine sees them.
    fn connection(&self, database: &str) -> String {
        let DatabaseServer { host, port, username, tls, tls_ca, .. } = &self.reach.server;
        let mut words = vec![
            ("host", host.clone()),
            ("user", username.clone()),
            ("dbname", database.to_owned()),
            ("connect_timeout", CONNECT_TIMEOUT.to_string()),
            // A server that is gone without a word is known as such in some minutes, however long a statement may take.
            ("keepalives_idle", "60".to_owned()),
            ("keepalives_interval", "30".to_owned()),
            ("keepalives_count", "5".to_owned()),
            ("application_name", APPLICATION.to_owned()),
            ("gssencmode", "disable".to_owned()),
            ("sslmode", tls.as_str().to_owned()),
        ];
        let (address, port) =
            self.reach.endpoint().map_or((None, *port), |(address, port)| (Some(address), port));
        words.push(("port", port.to_string()));
        // The name stays that of the server, for its certificate.
        words.extend(address.map(|address| ("hostaddr", address.to_string())));
        words.extend(root_certificates(*tls, tls_ca.is_some(), self.reach.is_remote()));
        words.iter().map(|(word, value)| format!("{word}={}", quoted(value))).collect::<Vec<_>>().join(" ")
    }
}

/// Whether this is what is said of a database to a user who is in another already: he may not connect, `pg_hba.conf` does not let him,
/// it takes no more connections, or it is gone.
pub(crate) fn is_closed(error: &Error) -> bool {
    match error {
        Error::Auth { .. } | Error::NotFound(_) => true,
        Error::Tool { reason, .. } => ["permission denied for database", "too many connections for database"]
            .iter()
            .any(|words| reason.contains(words)),
        _ => false,
    }
}

fn root_certificates(tls: TlsMode, own: bool, remote: bool) -> Option<(&'static str, String)> {
    if !tls.verifies() || remote {
        return None;
    }
    let file = if own { CA_PATH.to_owned() } else { authorities()?.display().to_string() };
    Some(("sslrootcert", file))
}

/// One line that fits every connection of the tool.
fn password_file(password: &SecretString) -> Secret {
    let mut content = Zeroizing::new(b"*:*:*:*:".to_vec());
    for byte in password.expose_secret().bytes() {
        if matches!(byte, b':' | b'\\') {
            content.push(b'\\');
        }
        content.push(byte);
    }
    content.push(b'\n');
    Secret { content, told: Told::Env("PGPASSFILE") }
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_names_are_escaped() {
        let secret = password_file(&SecretString::from(r"a:b\c 'd".to_owned()));
        assert_eq!(secret.content.as_slice(), b"*:*:*:*:a\\:b\\\\c 'd\n");
        assert_eq!(quoted(r"it's a \"), r"'it\'s a \\'");
    }
}
