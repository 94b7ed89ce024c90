//! What a failed client meant: from its last words to an error that tells what to do.

use crate::Error;

use super::Reach;

/// Words of clients and servers, and what they are about.
const WORDS: [(&str, Kind); 27] = [
    ("password authentication failed", Kind::Login),
    ("no password supplied", Kind::Login),
    ("no pg_hba.conf entry", Kind::Login),
    ("authentication failed for user", Kind::Login),
    ("role \"", Kind::Login),
    ("Access denied for user", Kind::Login),
    ("Host '", Kind::Login),
    ("certificate", Kind::Certificate),
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
        Some(Kind::Login) => Error::Auth { account: reach.account(), reason },
        Some(Kind::Certificate) => Error::Tls { server: reach.server.place(), reason },
        Some(Kind::Missing) => Error::NotFound(format!("the database ({reason})")),
        Some(Kind::Network) => Error::Connection { server: reach.server.place(), reason, source: None },
        None => Error::Tool { tool, reason },
    }
}

fn kind(reason: &str) -> Option<Kind> {
    // Of a role and of a database alike, PostgreSQL says that it does not exist.
    if reason.contains("database \"") && reason.contains("does not exist") {
        return Some(Kind::Missing);
    }
    WORDS.iter().find(|(words, _)| reason.contains(words)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ];
        for (reason, expected) in cases {
            assert_eq!(kind(reason), expected, "{reason}");
        }
    }
}
