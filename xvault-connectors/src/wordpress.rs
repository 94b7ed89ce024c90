//! WordPress: what `wp-config.php` says of a site's database.
//!
//! The file is a program. [`WpConfig::read`] follows it as PHP would, as far as that can be done without running anything.

mod config;
mod db_host;
mod layout;
mod php;
mod version;

pub use config::{ConfigFault, MAX_CONFIG_LEN, WpConfig};
pub use db_host::DbHost;
pub use layout::{Folder, Layout, UserTable, abspath_of};
pub(crate) use php::is_of_one_database;
pub(crate) use version::version;
