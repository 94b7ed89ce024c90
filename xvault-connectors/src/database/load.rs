//! A dump into a database: the database side of a restore.

mod channel;
mod feed;
mod mysql;
mod own_name;
mod postgres;
mod scratch;

use serde::Serialize;
use xvault_core::source::DatabaseTarget;

use super::DatabaseLogin;
use crate::{Control, Error};

pub use channel::{DumpReader, DumpWriter, dump_channel};
pub use scratch::{Scratch, Trial};

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The database.
    pub database: String,
    /// Whether it was made for this.
    pub created: bool,
    /// Bytes of the dump.
    pub bytes: u64,
}

/// A database that one dump is loaded into.
#[derive(Debug, Clone)]
pub struct DatabaseLoad {
    target: DatabaseTarget,
    login: DatabaseLogin,
}

/// What a dump is, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    PostgresCustom,
    PostgresPlain,
    Mysql,
}

impl Format {
    /// `None`: nothing that is loaded.
    fn of(head: &[u8]) -> Option<Self> {
        let holds = |part: &[u8]| head.windows(part.len()).any(|window| window == part);
        if head.starts_with(b"PGDMP") {
            Some(Self::PostgresCustom)
        } else if holds(b"-- PostgreSQL database cluster dump") {
            // Of roles and all databases: such a dump has those of its databases in it.
            None
        } else if holds(b"-- PostgreSQL database dump") {
            Some(Self::PostgresPlain)
        } else if holds(b"-- MariaDB dump") || holds(b"-- MySQL dump") {
            Some(Self::Mysql)
        } else {
            None
        }
    }
}

impl DatabaseLoad {
    /// From saved settings and how to log in.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(target: &DatabaseTarget, login: DatabaseLogin) -> Result<Self, Error> {
        target.validate()?;
        Ok(Self { target: target.clone(), login })
    }

    /// Loads `dump`. A database that was made for it is dropped again when that fails; in one that was there,
    /// PostgreSQL undoes everything, and MySQL, which can't, keeps what was loaded so far.
    ///
    /// # Errors
    /// When the database is missing and may not be made, holds tables and may not be changed, does not take the dump, or
    /// the dump breaks off.
    pub async fn load(&self, dump: DumpReader, control: &Control) -> Result<Loaded, Error> {
        match &self.target {
            DatabaseTarget::Postgres(target) => postgres::load(target, &self.login, dump, control).await,
            DatabaseTarget::Mysql(target) => mysql::load(target, &self.login, dump, control).await,
            other => Err(Error::Target(format!("nothing is loaded into {}", other.kind()))),
        }
    }
}

/// Whether a database is loaded into as it is there, or is made first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Missing,
    /// With so many tables and the like.
    Tables(u64),
}

impl Found {
    /// Whether it must be made.
    fn permits(self, name: &str, create: bool, overwrite: bool) -> Result<bool, Error> {
        let name = || name.escape_debug().to_string();
        match self {
            Self::Missing if create => Ok(true),
            Self::Missing => Err(Error::NoDatabase { name: name() }),
            Self::Tables(count) if count > 0 && !overwrite => Err(Error::NotEmpty { name: name(), count }),
            Self::Tables(_) => Ok(false),
        }
    }
}

fn unfit(wanted: &str) -> Error {
    Error::Target(format!("this is no dump that can be loaded into {wanted}"))
}

/// For a dump that says with `statement` which database it goes into: that would be changed, and not the one that was named.
fn goes_elsewhere(statement: &[u8]) -> Error {
    const SHOWN: usize = 200;
    let statement = statement.trim_ascii();
    let shown = String::from_utf8_lossy(statement.get(..SHOWN).unwrap_or(statement));
    Error::Target(format!(
        "this dump names the database that it goes into (`{}`), so it can't be loaded into another one; to restore it, take it \
         out as a file and give it to the client by hand, or make dumps without `--create`, `--databases` and `--all-databases`",
        shown.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_are_known_by_their_beginning() {
        let cases: [(&[u8], Option<Format>); 6] = [
            (b"PGDMP\x01\x0e", Some(Format::PostgresCustom)),
            (b"--\n-- PostgreSQL database dump\n--\n", Some(Format::PostgresPlain)),
            (b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19", Some(Format::Mysql)),
            (b"--\n-- PostgreSQL database cluster dump\n", None),
            (b"--\n-- PostgreSQL database cluster dump\n--\n-- PostgreSQL database dump\n", None),
            (b"", None),
        ];
        for (head, expected) in cases {
            assert_eq!(Format::of(head), expected);
        }
    }

    #[test]
    fn what_is_there_is_left_alone_unless_asked() {
        assert!(Found::Missing.permits("d", true, false).unwrap());
        assert!(Found::Missing.permits("d", false, true).unwrap_err().to_string().contains("does not exist"));
        assert!(
            Found::Tables(3).permits("d", true, false).unwrap_err().to_string().contains("holds 3 tables")
        );
        assert!(!Found::Tables(3).permits("d", false, true).unwrap());
        assert!(!Found::Tables(0).permits("d", false, false).unwrap());
    }
}
