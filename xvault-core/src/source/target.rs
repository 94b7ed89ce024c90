//! Where a dump is loaded into: the database target of a restore.

use serde::{Deserialize, Serialize};

use super::database::check_target;
use super::server::database_settings;
use super::{DatabaseServer, InvalidSettings};

/// A database that a dump is loaded into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "config", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DatabaseTarget {
    /// PostgreSQL.
    Postgres(PostgresTarget),
    /// MySQL or MariaDB.
    Mysql(MysqlTarget),
}

impl DatabaseTarget {
    /// The word for this kind in JSON and URLs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
        }
    }

    /// The name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        match self {
            Self::Postgres(target) => &target.database,
            Self::Mysql(target) => &target.database,
        }
    }

    /// The server and the way to it.
    #[must_use]
    pub fn server(&self) -> DatabaseServer {
        match self {
            Self::Postgres(target) => target.server(),
            Self::Mysql(target) => target.server(),
        }
    }

    /// One line that names the database; without secrets.
    #[must_use]
    pub fn address(&self) -> String {
        self.server().address(self.kind(), &[self.database()])
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        match self {
            Self::Postgres(target) => target.validate_server()?,
            Self::Mysql(target) => target.validate_server()?,
        }
        check_target(self.database())
    }
}

database_settings! {
    /// Settings of [`DatabaseTarget::Postgres`].
    pub struct PostgresTarget ("PostgresTarget::default_port", port 5432)
    own [database, create, overwrite, keep_owner]
    {
        /// The database to load into.
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
        pub database: String,
        /// Makes the database when it is missing.
        #[serde(default)]
        pub create: bool,
        /// Loads into a database that holds tables already. What the dump has too is replaced.
        #[serde(default)]
        pub overwrite: bool,
        /// Owners and privileges are restored too; the roles must be there. Otherwise all belongs to the user who loads.
        #[serde(default)]
        pub keep_owner: bool,
    }
}

database_settings! {
    /// Settings of [`DatabaseTarget::Mysql`].
    pub struct MysqlTarget ("MysqlTarget::default_port", port 3306)
    own [database, create, overwrite]
    {
        /// The database to load into.
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
        pub database: String,
        /// Makes the database when it is missing.
        #[serde(default)]
        pub create: bool,
        /// Loads into a database that holds tables already. Tables that the dump has too are replaced.
        #[serde(default)]
        pub overwrite: bool,
    }
}
