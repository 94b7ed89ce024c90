//! Settings of MySQL and MariaDB.

use serde::{Deserialize, Serialize};

use super::InvalidSettings;
use super::database::{check_databases, check_names, database_source};
use super::server::invalid;

database_source! {
    /// Settings of [`SourceSettings::Mysql`](super::SourceSettings::Mysql): MySQL or MariaDB, which the server says itself.
    pub struct MysqlSettings ("MysqlSettings::default_port", port 3306)
    own [tables, exclude_tables]
    {
        /// Only these tables, by their whole names; for one database.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
        pub tables: Vec<String>,
        /// Not these tables, by their whole names, of any of the databases.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
        pub exclude_tables: Vec<String>,
    }
}

impl MysqlSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSettings> {
        self.validate_server()?;
        self.hooks.validate(self.use_ssh)?;
        check_databases(self.database.as_ref(), &self.databases)?;
        check_names("tables", &self.tables)?;
        check_names("exclude_tables", &self.exclude_tables)?;
        if !self.tables.is_empty() && self.names().len() != 1 {
            return invalid("tables", "it goes with one database only: name that in `database`");
        }
        Ok(())
    }
}
