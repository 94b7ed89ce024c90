//! Databases with everything that dumps get wrong, and one text that says all that is in one.

/// Makes a PostgreSQL database nasty: names, types, objects. Run with `psql`, in an empty database.
pub const POSTGRES_SAMPLE: &str = include_str!("databases/sample.pg.sql");

/// Makes a MariaDB database nasty. Run with its client, in an empty database.
pub const MARIADB_SAMPLE: &str = include_str!("databases/sample.mariadb.sql");

/// Prints a line for each thing in a PostgreSQL database: tables with a checksum over every row, sequences with their values,
/// and the definitions of everything else.
pub(crate) const POSTGRES_CHECKSUMS: &str = include_str!("databases/checksums.pg.sql");

/// Prints statements that print, for each thing in the MariaDB database `DATABASE()`, what it is.
pub(crate) const MARIADB_CHECKSUMS: &str = include_str!("databases/checksums.mariadb.sql");
