//! What a failed client meant: from its last words to an error that tells what to do.

use crate::{Door, Error};

use super::Reach;

/// Words of clients and servers, and what they are about.
const WORDS: &[(&str, Kind)] = &[
    ("password authentication failed", Kind::Login),
    ("no password supplied", Kind::Login),
    ("no pg_hba.conf entry", Kind::Login),
    ("pg_hba.conf rejects", Kind::Login),
    ("authentication failed for user", Kind::Login),
    ("FATAL:  role \"", Kind::Login),
    ("Access denied for user", Kind::Login),
    ("is not allowed to connect to this", Kind::Login),
    ("is blocked because of many connection errors", Kind::Login),
    ("certificate verify failed", Kind::Certificate),
    ("certificate failed", Kind::Certificate),
    ("server certificate for \"", Kind::Certificate),
    ("certificate file \"", Kind::Certificate),
    ("self-signed certificate", Kind::Certificate),
    ("valid client certificate", Kind::Certificate),
    ("SSL error", Kind::Certificate),
    ("SSL connection error", Kind::Certificate),
    ("TLS/SSL error", Kind::Certificate),
    ("does not support SSL", Kind::Certificate),
    ("SSL is required", Kind::Certificate),
    ("does not match host name", Kind::Certificate),
    ("Unknown database", Kind::Missing),
    ("is not currently accepting connections", Kind::Missing),
    ("could not translate host name", Kind::Network),
    ("Unknown server host", Kind::Network),
    ("Unknown MySQL server host", Kind::Network),
    ("Connection refused", Kind::Network),
    ("timeout expired", Kind::Network),
    ("Can't connect to", Kind::Network),
    ("Lost connection", Kind::Network),
    ("server closed the connection", Kind::Network),
    ("has gone away", Kind::Network),
    ("terminating connection", Kind::Network),
    ("the database system is", Kind::Network),
];

/// What MySQL's and MariaDB's clients say of a plugin that they lack.
const PLUGIN: [&str; 2] = ["cannot be loaded", "could not be loaded"];

/// What servers say to who was let in and may not have something: its name may hold any of the [`WORDS`].
const FORBIDDEN: [&str; 4] =
    ["permission denied for", "permission denied to", "command denied to user", "' to database '"];

/// What servers say that lack something which a dump needs: nothing is wrong with the dump then.
const LACKS: [&str; 33] = [
    "is not available",
    "could not open extension control file",
    "could not access file",
    "permission denied",
    "must be superuser",
    "must be owner",
    "must be able to SET ROLE",
    "must be member of role",
    "unrecognized configuration parameter",
    "parameter \"default_tablespace\"",
    "unsupported version",
    "invalid locale name",
    "for encoding",
    "No space left on device",
    "could not extend file",
    "out of shared memory",
    "out of memory",
    "Out of memory",
    "remaining connection slots",
    "too many connections",
    "Too many connections",
    "Access denied",
    "command denied to user",
    "log_bin_trust_function_creators",
    "Unknown collation",
    "Unknown character set",
    "Unknown storage engine",
    "Unknown system variable",
    "is not loaded",
    "is full",
    "Disk full",
    "max_allowed_packet",
    "killed by signal",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Login,
    Certificate,
    Missing,
    Network,
}

/// The error that a tool's failure stands for; other errors stay as they are.
pub(crate) fn understood(error: Error, reach: &Reach) -> Error {
    let Error::Tool { tool, reason } = error else { return error };
    match kind(&reason) {
        Some(Kind::Login) => {
            let reason = without_files(&reason);
            Error::Auth { account: reach.account(), reason, door: Door::Database }
        }
        Some(Kind::Certificate) => Error::Tls { server: reach.server.place(), reason },
        Some(Kind::Missing) => Error::NotFound(missing(&reason)),
        Some(Kind::Network) => {
            Error::Connection { server: reach.server.place(), reason: explained(reason), source: None }
        }
        None => Error::Tool { tool, reason: explained(reason) },
    }
}

/// The database that is not there. That it does not exist the error says.
fn missing(reason: &str) -> String {
    let named = [("database \"", "\" does not exist"), ("Unknown database '", "'")];
    let name = named.iter().find_map(|(start, end)| {
        let (_, rest) = reason.split_once(start)?;
        Some(rest.rsplit_once(end)?.0)
    });
    name.map_or_else(
        || format!("the database ({reason})"),
        |name| format!("database `{}`", name.escape_debug()),
    )
}

/// Without what libpq tells of the files that we gave it the password in, or gave it none.
fn without_files(reason: &str) -> String {
    let parts = reason.split("; ").filter(|part| {
        !part.starts_with("password retrieved from file") && !part.contains("is not a plain file")
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// What the tool's own words leave out. `pg_dump` lets PostgreSQL end a lock that takes too long as a statement that does; a client
/// without the plugin that a password takes says which file is missing, and no more.
fn explained(reason: String) -> String {
    if reason.contains("statement timeout") && reason.contains("LOCK TABLE") {
        return format!("somebody holds a lock on a table for longer than `lock_timeout_seconds`: {reason}");
    }
    if reason.contains("lugin ") && PLUGIN.iter().any(|words| reason.contains(words)) {
        return format!(
            "this client can't log in as this user's password asks: MySQL's clients since 9 have no mysql_native_password, which \
             MariaDB's users have (install mariadb-client), and some of MySQL's (install mariadb-client, or ALTER USER … \
             IDENTIFIED WITH caching_sha2_password): {reason}"
        );
    }
    if reason.contains("Error 2013") && reason.contains("when dumping table") {
        return format!(
            "{reason}; a server ends a dump that nobody takes on for as long as its net_write_timeout, 60 seconds: where the store was slow or \
             away, SET GLOBAL net_write_timeout = 600 helps"
        );
    }
    if reason.contains("max_allowed_packet") {
        return format!(
            "{reason}; a dump writes two bytes for each of binary data: SET GLOBAL max_allowed_packet = 1073741824 for as long as \
             this takes"
        );
    }
    if reason.contains("requires secure connection") {
        return format!(
            "without TLS this client sends such a password only where nobody can be in between: use TLS (`tls_mode`), or SSH: \
             {reason}"
        );
    }
    reason
}

/// As [`understood`], for the failure of a tool that was loading a dump into a server which had let us in: either the server
/// lacks something, or it is the dump that can't be loaded.
pub(crate) fn of_a_dump(error: Error, reach: &Reach) -> Error {
    match error {
        Error::Tool { tool, reason } if is_about_the_server(&reason) => {
            let reason = explained(reason);
            Error::Target(format!("{} can't take this dump: {tool}: {reason}", reach.server.place()))
        }
        // How older servers refuse a row that is longer than they take.
        Error::Tool { tool, reason } if reason.contains("has gone away") => {
            let hint = "where a row is longer than its max_allowed_packet, a server ends the connection";
            understood(Error::Tool { tool, reason: format!("{reason}; {hint}") }, reach)
        }
        Error::Tool { tool, reason } if kind(&reason) != Some(Kind::Network) => {
            Error::DumpRefused { tool, reason }
        }
        other => understood(other, reach),
    }
}

/// Roles and other databases are not in a dump, so it is the server that lacks them.
fn is_about_the_server(reason: &str) -> bool {
    let lacks = LACKS.iter().any(|words| reason.contains(words));
    // Roles are not in a dump, either.
    let role = reason.contains("role \"") && reason.contains("does not exist");
    lacks || role || matches!(kind(reason), Some(Kind::Login | Kind::Certificate | Kind::Missing))
}

fn kind(reason: &str) -> Option<Kind> {
    // Of a role and of a database alike, PostgreSQL says that it does not exist.
    if reason.contains("database \"") && reason.contains("does not exist") {
        return Some(Kind::Missing);
    }
    if FORBIDDEN.iter().any(|words| reason.contains(words)) {
        return None;
    }
    WORDS.iter().find(|(words, _)| reason.contains(words)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod sentences;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_lacks_is_no_fault_of_a_dump() {
        for reason in [
            "ERROR:  extension \"postgis\" is not available",
            "ERROR:  role \"app\" does not exist",
            "ERROR:  permission denied to create extension \"postgres_fdw\"",
            "pg_restore: error: unsupported version (1.16) in file header",
            "ERROR 1227 (42000) at line 90: Access denied; you need (at least one of) the SUPER privilege(s)",
            "ERROR 1273 (HY000) at line 25: Unknown collation: 'utf8mb4_0900_ai_ci'",
            "ERROR 1049 (42000): Unknown database 'other'",
            "FATAL:  password authentication failed for user \"u\"",
            "psql: error: SSL error: certificate verify failed",
            "ERROR 1114 (HY000) at line 7: The table 't' is full",
        ] {
            assert!(is_about_the_server(reason), "{reason}");
        }
        for reason in [
            "ERROR:  syntax error at or near \"CRAETE\"",
            "ERROR:  relation \"public.t\" does not exist",
            "ERROR:  insert or update on table \"child\" violates foreign key constraint \"child_parent_fkey\"",
            "pg_restore: error: corrupt tar header found",
            "pg_restore: error: could not read from input file: end of file",
            "ERROR 1064 (42000) at line 30: You have an error in your SQL syntax",
            "ERROR 1062 (23000) at line 30: Duplicate entry '1' for key 'PRIMARY'",
        ] {
            assert!(!is_about_the_server(reason), "{reason}");
        }
    }

    #[test]
    fn a_lock_that_took_too_long_is_called_that() {
        let reason = "ERROR:  canceling statement due to statement timeout; LOCK TABLE public.held IN ACCESS SHARE MODE";
        assert!(explained(reason.into()).starts_with("somebody holds a lock"));
        assert_eq!(explained("statement timeout".into()), "statement timeout");
    }

    #[test]
    fn a_client_that_can_not_log_in_as_the_password_asks_says_what_to_install() {
        for reason in [
            "Got error: 2059: Authentication plugin 'mysql_native_password' cannot be loaded: /usr/lib/x.so: cannot open shared object file",
            "ERROR 1156 (HY000): Plugin caching_sha2_password could not be loaded: no such file",
        ] {
            assert!(explained(reason.into()).contains("install mariadb-client"), "{reason}");
        }
        let insecure = "ERROR 2061 (HY000): Authentication plugin 'caching_sha2_password' reported error: Authentication requires secure connection.";
        assert!(explained(insecure.into()).contains("use TLS (`tls_mode`), or SSH"));
        assert!(explained("cannot be loaded".into()) == "cannot be loaded");
    }

    #[test]
    fn a_dump_that_nobody_took_on_says_what_helps() {
        let lost = "mariadb-dump: Error 2013: Lost connection to server during query when dumping table `t` at row: 7";
        assert_eq!(kind(lost), Some(Kind::Network));
        assert!(explained(lost.into()).contains("net_write_timeout = 600"));
        let packet =
            explained("ERROR 1153 (08S01): Got a packet bigger than 'max_allowed_packet' bytes".into());
        assert!(packet.contains("SET GLOBAL max_allowed_packet = 1073741824"), "{packet}");
        let login = "ERROR 2013 (HY000): Lost connection to server at 'reading authorization packet'";
        assert_eq!(explained(login.into()), login);
    }

    #[test]
    fn a_missing_database_is_named_and_our_own_files_are_not() {
        let reason = "psql: error: connection to server at \"198.51.100.8\", port 5432 failed: FATAL:  database \"s\"hp\" does not exist";
        assert_eq!(missing(reason), "database `s\\\"hp`");
        assert_eq!(missing("ERROR 1049 (42000): Unknown database 'it's'"), "database `it\\'s`");
        assert_eq!(missing("closed"), "the database (closed)");
        let reason = "WARNING: password file \"/dev/null\" is not a plain file; psql: error: fe_sendauth: no password supplied";
        assert_eq!(without_files(reason), "psql: error: fe_sendauth: no password supplied");
        let reason = "FATAL:  password authentication failed for user \"u\"; password retrieved from file \"/proc/self/fd/3\"";
        assert_eq!(without_files(reason), "FATAL:  password authentication failed for user \"u\"");
    }

    #[test]
    fn each_kind_of_trouble_is_told_apart() {
        let cases = [
            ("FATAL:  password authentication failed for user \"u\"", Some(Kind::Login)),
            ("FATAL:  database \"d\" does not exist", Some(Kind::Missing)),
            ("FATAL:  role \"u\" does not exist", Some(Kind::Login)),
            ("ERROR 1045 (28000): Access denied for user 'u'@'h' (using password: YES)", Some(Kind::Login)),
            ("SSL error: certificate verify failed", Some(Kind::Certificate)),
            ("Connection refused", Some(Kind::Network)),
            ("pg_dump: error: permission denied for table t", None),
            ("Couldn't execute 'SHOW CREATE TABLE': SELECT command denied", None),
            (
                "Couldn't execute 'show events': Access denied for user 'u'@'h' to database 'shop' (1044)",
                None,
            ),
            ("pg_dump: error: query failed: ERROR:  permission denied for table certificates", None),
            ("SELECT command denied to user 'u'@'h' for table `d`.`certificate`", None),
            ("FATAL:  permission denied for database \"postgres\"", None),
            ("ERROR:  relation \"public.certificates\" does not exist", None),
            ("ERROR:  column \"role\" of relation \"Host 'x'\" does not exist", None),
            (
                "Couldn't execute 'SHOW TRIGGERS LIKE 'certificate'': Table 'd.Host ' doesn't exist (1146)",
                None,
            ),
            (
                "ERROR 1130 (HY000): Host '10.0.0.7' is not allowed to connect to this MariaDB server",
                Some(Kind::Login),
            ),
            (
                "ERROR 1129 (HY000): Host '10.0.0.7' is blocked because of many connection errors",
                Some(Kind::Login),
            ),
            ("FATAL:  role \"u\" is not permitted to log in", Some(Kind::Login)),
            ("server certificate for \"a\" does not match host name \"b\"", Some(Kind::Certificate)),
            ("root certificate file \"/x\" does not exist", Some(Kind::Certificate)),
            ("TLS/SSL error: self-signed certificate in certificate chain", Some(Kind::Certificate)),
            (
                "ERROR 2026 (HY000): TLS/SSL error: Validation of SSL server certificate failed",
                Some(Kind::Certificate),
            ),
            (
                "SSL connection error: error:0A000086:SSL routines::certificate verify failed",
                Some(Kind::Certificate),
            ),
        ];
        for (reason, expected) in cases {
            assert_eq!(kind(reason), expected, "{reason}");
        }
    }
}
