//! What the settings of database types share beside the server: names, and the credential.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::server::{DatabaseServer, invalid, is_name};
use super::{InvalidSettings, check_sizes};

/// Declares the settings of a database that is backed up: those of [`database_settings`](super::server::database_settings),
/// and which databases.
macro_rules! database_source {
    (
        $(#[$meta:meta])*
        pub struct $name:ident ($default_port:literal, port $port:literal) own [$($own_name:ident),*] { $($own:tt)* }
    ) => {
        crate::source::server::database_settings! {
            $(#[$meta])*
            pub struct $name ($default_port, port $port)
            own [database, databases, hooks, $($own_name),*]
            {
                /// The one database to back up. Neither this nor `databases`: all that the user can connect to, without those
                /// of the system and templates.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
                pub database: Option<String>,
                /// Several databases to back up.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
                pub databases: Vec<String>,
                /// Commands that are run on the SSH server before a backup, and after it; with `use_ssh` alone.
                #[serde(default, skip_serializing_if = "crate::source::Hooks::is_empty")]
                pub hooks: crate::source::Hooks,
                $($own)*
            }
        }

        impl $name {
            /// The databases by name; none stands for all.
            #[must_use]
            pub fn names(&self) -> Vec<&str> {
                self.database.iter().chain(&self.databases).map(String::as_str).collect()
            }
        }
    };
}
pub(super) use database_source;

pub(super) fn check_databases(one: Option<&String>, several: &[String]) -> Result<(), InvalidSettings> {
    check_database_names("databases", several)?;
    match one {
        Some(_) if !several.is_empty() => {
            invalid("databases", "it stands beside `database`: give one of them")
        }
        Some(name) => check_database_names("database", std::slice::from_ref(name)),
        None => Ok(()),
    }
}

fn check_database_names(field: &'static str, names: &[String]) -> Result<(), InvalidSettings> {
    check_names(field, names)?;
    let mut sorted: Vec<_> = names.iter().collect();
    sorted.sort();
    match sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        true => invalid(field, "a database is named twice"),
        false => Ok(()),
    }
}

/// Names of databases, schemas and tables: line breaks are possible, NUL is not.
pub(super) fn check_names(field: &'static str, names: &[String]) -> Result<(), InvalidSettings> {
    check_sizes(field, names)?;
    let fault = |name: &String| name.is_empty() || name.len() > super::MAX_NAME || name.contains('\0');
    match names.iter().any(fault) {
        true => invalid(field, "names of 1 to 255 bytes without NUL are needed"),
        false => Ok(()),
    }
}

/// What one logs in with: at the database, and at the SSH server in between.
#[derive(Debug, Clone, Default)]
pub struct DatabaseCredential {
    /// The database's password.
    pub password: Option<SecretString>,
    /// The SSH account's password or private key.
    pub ssh: Option<SecretString>,
}

/// Why a credential does not fit its source. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitCredential {
    /// Two secrets are needed.
    #[error(
        "for a database with a password that is reached through SSH, the credential is a JSON object: \
         {{\"password\": \"…\", \"ssh\": \"…\"}}, with the database's password, and the SSH account's private key or password"
    )]
    NoPair,
    /// What can't be in a password file.
    #[error("the database's password has a line break or a NUL in it, which its tools can't take")]
    BadPassword,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    password: SecretString,
    ssh: SecretString,
}

impl DatabaseCredential {
    /// Reads the text of a credential as `server` needs it: one secret is the text itself, two are a JSON object.
    ///
    /// # Errors
    /// When two are needed and it is no such object.
    pub fn parse(server: &DatabaseServer, text: SecretString) -> Result<Self, UnfitCredential> {
        let read = match (server.use_password, &server.ssh) {
            (true, Some(_)) => {
                let pair: Pair =
                    serde_json::from_str(text.expose_secret()).map_err(|_| UnfitCredential::NoPair)?;
                Self { password: Some(pair.password), ssh: Some(pair.ssh) }
            }
            (true, None) => Self { password: Some(text), ssh: None },
            (false, Some(_)) => Self { password: None, ssh: Some(text) },
            (false, None) => Self::default(),
        };
        match read.password.as_ref().is_some_and(Self::is_unfit) {
            true => Err(UnfitCredential::BadPassword),
            false => Ok(read),
        }
    }

    /// Whether no tool of a database can take the password: it would be several lines of the file that it is told by.
    #[must_use]
    pub fn is_unfit(password: &SecretString) -> bool {
        password.expose_secret().contains(['\n', '\r', '\0'])
    }
}

/// Checks the name of a database that is made or loaded into.
pub(super) fn check_target(name: &str) -> Result<(), InvalidSettings> {
    if is_name(name) {
        Ok(())
    } else {
        invalid("database", "a name of 1 to 255 bytes without control characters is needed")
    }
}
