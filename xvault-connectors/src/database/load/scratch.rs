//! Scratch databases: each made for one trial, under a name that nobody else gives, and dropped after it.

use jiff::Timestamp;
use serde::Serialize;
use xvault_core::clock;
use xvault_core::source::DatabaseTarget;

use super::{DumpReader, Format, mysql, postgres};
use crate::database::DatabaseLogin;
use crate::{Control, Error};

/// How the names of all scratch databases begin. 32 hexadecimal digits follow: a `UUIDv7`, which tells when it was made.
pub(super) const PREFIX: &str = "xvault_test_";

/// How much of a dump says what it is.
const HEAD: usize = 4096;

/// What a database held after a dump was loaded for a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Tables.
    pub tables: u64,
    /// Rows of all tables, counted.
    pub rows: u64,
    /// Bytes of the dump.
    pub dump_bytes: u64,
    /// Bytes of the database, as far as its server knows.
    pub database_bytes: u64,
}

/// A database server that dumps are loaded into to see whether they can be.
///
/// A dump is a program that its author lets run there. So the server should serve nothing else; and an account that could
/// reach beyond the databases, to the server's files and programs, is refused unless [`Scratch::any_account`] says otherwise.
#[derive(Debug, Clone)]
pub struct Scratch {
    server: DatabaseTarget,
    login: DatabaseLogin,
    any_account: bool,
}

impl Scratch {
    /// On this server. The database that is named there is not touched; where an account may connect to no usual one, the way goes through it.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(server: &DatabaseTarget, login: DatabaseLogin) -> Result<Self, Error> {
        server.validate()?;
        Ok(Self { server: server.clone(), login, any_account: false })
    }

    /// Takes superusers, too: dumps may do to this server, and as its system user, whatever they like.
    #[must_use]
    pub fn any_account(self) -> Self {
        Self { any_account: true, ..self }
    }

    /// One line that names the server; without secrets.
    #[must_use]
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Loads `dump` into a new database, counts what is in it, and drops it, whatever came of it. One that could not be
    /// dropped is noted, and is for [`Scratch::sweep`].
    ///
    /// # Errors
    /// [`Error::DumpRefused`] when it is the dump that can't be loaded; anything else says nothing of it.
    pub async fn trial(&self, mut dump: DumpReader, control: &Control) -> Result<Trial, Error> {
        let format = Format::of(control.run(dump.head(HEAD)).await?);
        let name = name();
        match &self.server {
            DatabaseTarget::Postgres(server) => {
                fits(format, &[Format::PostgresCustom, Format::PostgresPlain], "PostgreSQL")?;
                let server = postgres::scratch(server, name);
                postgres::trial(&server, (&self.login, self.any_account), dump, control).await
            }
            DatabaseTarget::Mysql(server) => {
                fits(format, &[Format::Mysql], "MySQL")?;
                let server = mysql::scratch(server, name);
                mysql::trial(&server, (&self.login, self.any_account), dump, control).await
            }
            other => Err(Error::Target(format!("nothing is loaded into {}", other.kind()))),
        }
    }

    /// Drops scratch databases that were made before `before`, and that nobody is connected to: of trials whose program was
    /// killed. Others are not touched, whatever their name. Gives how many were dropped.
    ///
    /// # Errors
    /// When the server can't be asked. What can't be dropped now is left for another time.
    pub async fn sweep(&self, before: Timestamp) -> Result<u64, Error> {
        match &self.server {
            DatabaseTarget::Postgres(server) => postgres::sweep(server, &self.login, before).await,
            DatabaseTarget::Mysql(server) => mysql::sweep(server, &self.login, before).await,
            _ => Ok(0),
        }
    }
}

fn fits(format: Option<Format>, wanted: &[Format], server: &str) -> Result<(), Error> {
    if format.is_some_and(|format| wanted.contains(&format)) {
        return Ok(());
    }
    Err(Error::DumpRefused {
        tool: server.to_owned(),
        reason: "this is no dump that it can be made from".to_owned(),
    })
}

fn name() -> String {
    format!("{PREFIX}{}", clock::new_id().replace('-', ""))
}

/// Whether a database is a scratch database that was made before `before`.
pub(super) fn is_left_over(name: &str, before: Timestamp) -> bool {
    made_at(name).is_some_and(|made| made < before)
}

/// When a scratch database was made. None: it is no such database.
fn made_at(name: &str) -> Option<Timestamp> {
    clock::made_at(name.strip_prefix(PREFIX).filter(|digits| digits.len() == 32)?)
}

/// An account that reaches beyond the databases.
pub(super) fn too_mighty(account: &str) -> Error {
    Error::Target(format!(
        "{account} may use the files or the programs of the server's machine, and so could every dump that is loaded: use an \
         account that may make databases, and no more"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bears_our_name_and_is_old_is_left_over() {
        let now = clock::now();
        let (later, earlier) =
            (now + jiff::SignedDuration::from_secs(60), now - jiff::SignedDuration::from_secs(60));
        let own = name();
        assert!(is_left_over(&own, later) && !is_left_over(&own, earlier), "{own}");
        let digits = own.strip_prefix(PREFIX).unwrap();
        for other in [
            "xvault_test_",
            "xvault_test_results",
            digits,
            &format!("{PREFIX}{}", digits.to_uppercase()),
            &format!("{PREFIX}{digits}0"),
            &format!("my_{own}"),
            // Not of the version that holds a time.
            &format!("{PREFIX}{}4{}", &digits[..12], &digits[13..]),
        ] {
            assert!(!is_left_over(other, later), "{other}");
        }
    }
}
