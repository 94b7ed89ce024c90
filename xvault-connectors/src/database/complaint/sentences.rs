//! What clients and servers really say: a sentence for each phrase that is looked for.

use super::{FORBIDDEN, Kind, LACKS, WORDS, is_about_the_server, kind};

const SENTENCES: [(&str, Option<Kind>); 38] = [
    ("FATAL:  password authentication failed for user \"u\"", Some(Kind::Login)),
    ("FATAL:  Peer authentication failed for user \"u\"", Some(Kind::Login)),
    ("fe_sendauth: no password supplied", Some(Kind::Login)),
    ("FATAL:  no pg_hba.conf entry for host \"10.0.0.7\", user \"u\"", Some(Kind::Login)),
    ("FATAL:  pg_hba.conf rejects connection for host \"10.0.0.7\", user \"u\"", Some(Kind::Login)),
    ("FATAL:  role \"u\" is not permitted to log in", Some(Kind::Login)),
    ("ERROR 1045 (28000): Access denied for user 'u'@'h' (using password: YES)", Some(Kind::Login)),
    ("ERROR 1130 (HY000): Host 'h' is not allowed to connect to this MariaDB server", Some(Kind::Login)),
    ("ERROR 1129 (HY000): Host 'h' is blocked because of many connection errors", Some(Kind::Login)),
    ("SSL error: certificate verify failed", Some(Kind::Certificate)),
    ("TLS/SSL error: Validation of SSL server certificate failed", Some(Kind::Certificate)),
    ("TLS/SSL error: self-signed certificate in certificate chain", Some(Kind::Certificate)),
    ("server certificate for \"a\" does not match host name \"b\"", Some(Kind::Certificate)),
    ("root certificate file \"/x\" does not exist", Some(Kind::Certificate)),
    ("FATAL:  connection requires a valid client certificate", Some(Kind::Certificate)),
    ("SSL connection error: error:0A000102:SSL routines::unsupported protocol", Some(Kind::Certificate)),
    ("server does not support SSL, but SSL was required", Some(Kind::Certificate)),
    ("ERROR 2026 (HY000): SSL is required, but the server does not support it", Some(Kind::Certificate)),
    ("FATAL:  database \"d\" does not exist", Some(Kind::Missing)),
    ("FATAL:  database \"d\" is not currently accepting connections", Some(Kind::Missing)),
    ("ERROR 1049 (42000): Unknown database 'd'", Some(Kind::Missing)),
    ("could not translate host name \"db\" to address: Name or service not known", Some(Kind::Network)),
    ("ERROR 2005 (HY000): Unknown server host 'db' (-2)", Some(Kind::Network)),
    ("ERROR 2005 (HY000): Unknown MySQL server host 'db' (-2)", Some(Kind::Network)),
    ("connection to server at \"10.0.0.7\", port 5432 failed: Connection refused", Some(Kind::Network)),
    ("connection to server at \"10.0.0.7\", port 5432 failed: timeout expired", Some(Kind::Network)),
    ("ERROR 2002 (HY000): Can't connect to server on 'db' (115)", Some(Kind::Network)),
    ("ERROR 2013 (HY000): Lost connection to server at 'reading authorization packet'", Some(Kind::Network)),
    ("server closed the connection unexpectedly", Some(Kind::Network)),
    ("mariadb-dump: Error 2006: Server has gone away when dumping table `t`", Some(Kind::Network)),
    ("FATAL:  terminating connection due to administrator command", Some(Kind::Network)),
    ("FATAL:  the database system is starting up", Some(Kind::Network)),
    // Names may be any of these.
    ("ERROR:  permission denied for table \"SSL error\"", None),
    ("ERROR:  permission denied to create \"SSL error\"", None),
    ("SELECT command denied to user 'u'@'h' for table `d`.`SSL error`", None),
    ("Couldn't execute 'show events': Access denied for user 'u'@'h' to database 'shop' (1044)", None),
    ("ERROR:  relation \"public.t\" does not exist", None),
    ("ERROR 1064 (42000): You have an error in your SQL syntax", None),
];

const LACKED: [&str; 34] = [
    "ERROR:  extension \"postgis\" is not available",
    "ERROR:  could not open extension control file \"/x/postgis.control\": No such file or directory",
    "ERROR:  could not access file \"$libdir/postgis-3\": No such file or directory",
    "ERROR:  permission denied to create extension \"postgres_fdw\"",
    "ERROR:  must be superuser to create a base type",
    "ERROR:  must be owner of extension plpgsql",
    "ERROR:  must be able to SET ROLE \"app\"",
    "ERROR:  must be member of role \"app\"",
    "ERROR:  role \"app\" does not exist",
    "ERROR:  unrecognized configuration parameter \"transaction_timeout\"",
    "ERROR:  invalid value for parameter \"default_tablespace\": \"fast\"",
    "pg_restore: error: unsupported version (1.16) in file header",
    "ERROR:  invalid locale name: \"de_DE.utf8\"",
    "ERROR:  collation \"de_DE\" for encoding \"UTF8\" does not exist",
    "ERROR:  could not write to file \"base/pgsql_tmp/x\": No space left on device",
    "ERROR:  could not extend file \"base/5/1\": wrote only 4096 of 8192 bytes at block 1",
    "ERROR:  out of shared memory",
    "ERROR:  out of memory",
    "ERROR 5 (HY000): Out of memory (Needed 1048576 bytes)",
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "FATAL:  too many connections for database \"d\"",
    "ERROR 1040 (HY000): Too many connections",
    "ERROR 1227 (42000) at line 90: Access denied; you need (at least one of) the SUPER privilege(s)",
    "ERROR 1142 (42000): CREATE VIEW command denied to user 'u'@'h' for table 'v'",
    "ERROR 1419 (HY000): you *might* want to use the less safe log_bin_trust_function_creators variable",
    "ERROR 1273 (HY000) at line 25: Unknown collation: 'utf8mb4_0900_ai_ci'",
    "ERROR 1115 (42000): Unknown character set: 'utf8mb4'",
    "ERROR 1286 (42000): Unknown storage engine 'TokuDB'",
    "ERROR 1193 (HY000): Unknown system variable 'GTID_PURGED'",
    "ERROR 1524 (HY000): Plugin 'mysql_native_password' is not loaded",
    "ERROR 1114 (HY000) at line 7: The table 't' is full",
    "ERROR 1021 (HY000): Disk full (/tmp/#sql_1); waiting for someone to free some space",
    "ERROR 1153 (08S01): Got a packet bigger than 'max_allowed_packet' bytes",
    "killed by signal 9",
];

#[test]
fn every_phrase_is_said_and_understood() {
    for (sentence, expected) in SENTENCES {
        assert_eq!(kind(sentence), expected, "{sentence}");
    }
    for sentence in LACKED {
        assert!(is_about_the_server(sentence), "{sentence}");
    }
    let said = |phrase: &str| {
        SENTENCES.iter().map(|(sentence, _)| *sentence).chain(LACKED).any(|s| s.contains(phrase))
    };
    let phrases = WORDS.iter().map(|(words, _)| *words).chain(FORBIDDEN).chain(LACKS);
    let unsaid: Vec<&str> = phrases.filter(|phrase| !said(phrase)).collect();
    assert_eq!(unsaid, Vec::<&str>::new(), "phrases without a sentence");
}
