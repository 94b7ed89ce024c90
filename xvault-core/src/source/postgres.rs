//! Settings of PostgreSQL.

use serde::{Deserialize, Serialize};

use super::InvalidSettings;
use super::database::{check_databases, check_names, database_source};
use super::server::invalid;

/// What a dump of a PostgreSQL database is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DumpFormat {
    /// `pg_restore` reads it, and can take single tables out of it.
    #[default]
    Custom,
    /// SQL for `psql`.
    Plain,
}

/// The longest that a lock may be waited for, in seconds: a day.
const MAX_LOCK_TIMEOUT: u32 = 86_400;

database_source! {
    /// Settings of [`SourceSettings::Postgres`](super::SourceSettings::Postgres).
    pub struct PostgresSettings ("PostgresSettings::default_port", port 5432)
    own [schemas, exclude_schemas, tables, exclude_tables, format, globals, lock_timeout_seconds]
    {
        /// Only schemas of these names; patterns as `pg_dump --schema` has them. Each must match something.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
        pub schemas: Vec<String>,
        /// No schemas of these names; patterns.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
        pub exclude_schemas: Vec<String>,
        /// Only tables of these names; patterns as `pg_dump --table` has them. Each must match something.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
        pub tables: Vec<String>,
        /// No tables of these names; patterns.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
        pub exclude_tables: Vec<String>,
        /// What a dump is.
        #[serde(default)]
        pub format: DumpFormat,
        /// Whether roles and tablespaces are kept too, as `globals.sql`. Passwords of roles are in it when the user may
        /// read them, which only superusers may; else it is made without them.
        #[serde(default)]
        pub globals: bool,
        /// How long a lock on a table is waited for before the backup fails: a minute when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 86400))]
        pub lock_timeout_seconds: Option<u32>,
    }
}

impl PostgresSettings {
    /// How long a lock is waited for.
    #[must_use]
    pub fn lock_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.lock_timeout_seconds.unwrap_or(60).into())
    }

    pub(super) fn validate(&self) -> Result<(), InvalidSettings> {
        self.validate_server()?;
        self.hooks.validate(self.use_ssh)?;
        check_databases(self.database.as_ref(), &self.databases)?;
        check_names("schemas", &self.schemas)?;
        check_names("exclude_schemas", &self.exclude_schemas)?;
        check_names("tables", &self.tables)?;
        check_names("exclude_tables", &self.exclude_tables)?;
        match self.lock_timeout_seconds {
            None | Some(1..=MAX_LOCK_TIMEOUT) => Ok(()),
            Some(_) => invalid("lock_timeout_seconds", "it must be between 1 and 86400"),
        }
    }
}
