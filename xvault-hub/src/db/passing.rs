//! Failures of the database that pass by themselves.

/// Why the database could not do now what it can do later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// It is away: stopped, or out of reach.
    Away,
    /// It has no connection, lock, memory or room on its disk to spare.
    Busy,
    /// It called a transaction off because others changed the same at once. Nothing of it has happened.
    CalledOff,
}

/// What kind of a passing failure an error is. None: the same would fail again.
pub(crate) fn passing(error: &sqlx::Error) -> Option<Passing> {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => Some(Passing::Away),
        sqlx::Error::PoolTimedOut => Some(Passing::Busy),
        sqlx::Error::Database(refusal) => by_code(&refusal.code()?),
        _ => None,
    }
}

fn by_code(code: &str) -> Option<Passing> {
    // Those of PostgreSQL have five characters.
    if code.len() < 5 { by_sqlite_code(code) } else { by_sqlstate(code) }
}

fn by_sqlstate(code: &str) -> Option<Passing> {
    match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Some(Passing::CalledOff),
        // Lock not available, statement cancelled.
        "55P03" | "57014" => Some(Passing::Busy),
        // Insufficient resources.
        _ if code.starts_with("53") => Some(Passing::Busy),
        // Operator intervention, such as a shutdown; connection.
        _ if code.starts_with("57P") || code.starts_with("08") => Some(Passing::Away),
        _ => None,
    }
}

/// What is above the lowest byte says more about the same.
fn by_sqlite_code(code: &str) -> Option<Passing> {
    match code.parse::<u32>().ok()? & 0xff {
        // Busy, locked, without memory, full; and a turn at the write-ahead log that did not come for long.
        5 | 6 | 7 | 13 | 15 => Some(Passing::Busy),
        // The file can't be opened: its directory is not mounted, or the process has no file descriptor to spare.
        14 => Some(Passing::Away),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AnyConnection, AssertSqlSafe};
    use xvault_testkit::Postgres;

    use super::*;
    use crate::db::{Db, Error};

    async fn failure(conn: &mut AnyConnection, text: String) -> Option<Passing> {
        passing(&sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await.unwrap_err())
    }

    #[tokio::test]
    async fn what_postgres_can_do_later_passes() {
        let db = Db::connect(&Postgres::shared().create_database(), 1).await.unwrap();
        let mut conn = db.conn().await.unwrap();
        let cases = [
            ("53100", Some(Passing::Busy)),
            ("53200", Some(Passing::Busy)),
            ("53300", Some(Passing::Busy)),
            ("55P03", Some(Passing::Busy)),
            ("57014", Some(Passing::Busy)),
            ("57P03", Some(Passing::Away)),
            ("08006", Some(Passing::Away)),
            ("40001", Some(Passing::CalledOff)),
            ("40P01", Some(Passing::CalledOff)),
            ("22021", None),
            ("23514", None),
            ("42P01", None),
        ];
        for (code, expected) in cases {
            let text = format!("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$");
            assert_eq!(failure(&mut conn, text).await, expected, "{code}");
        }
    }

    #[test]
    fn what_is_above_the_lowest_byte_of_a_code_changes_nothing() {
        for code in ["5", "517", "6", "262", "7", "13", "15"] {
            assert_eq!(by_code(code), Some(Passing::Busy), "{code}");
        }
        for code in ["1", "11", "19", "2067", "x"] {
            assert_eq!(by_code(code), None, "{code}");
        }
    }

    #[tokio::test]
    async fn a_locked_or_full_file_passes() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite:{}", dir.path().join("hub.db").display()), 2).await.unwrap();
        let (writer, mut other) = (db.begin().await.unwrap(), db.conn().await.unwrap());
        let locked = "PRAGMA busy_timeout = 1; BEGIN IMMEDIATE".to_owned();
        assert_eq!(failure(&mut other, locked).await, Some(Passing::Busy));
        writer.rollback().await.unwrap();
        let full = "PRAGMA max_page_count = 1; CREATE TABLE t (x TEXT)".to_owned();
        assert_eq!(failure(&mut other, full).await, Some(Passing::Busy));
        assert_eq!(failure(&mut other, "SELECT * FROM nothing".to_owned()).await, None);
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_opened_is_away_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (place, away) = (dir.path().join("place"), dir.path().join("away"));
        std::fs::create_dir(&place).unwrap();
        let db = Db::connect(&format!("sqlite:{}", place.join("hub.db").display()), 2).await.unwrap();
        let _first = db.conn().await.unwrap();
        std::fs::rename(&place, &away).unwrap();
        let Error::Sql(refusal) = db.conn().await.unwrap_err() else { panic!("it has no file") };
        assert_eq!(passing(&refusal), Some(Passing::Away), "{refusal}");
        std::fs::rename(&away, &place).unwrap();
        db.conn().await.unwrap();
    }

    #[tokio::test]
    async fn a_server_without_a_free_connection_is_busy() {
        let server = Postgres::shared();
        let url = server.create_database();
        let made = server.psql(&url, "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1");
        assert_eq!(made, "");
        let place = url.split_once('@').unwrap().1;
        let db = Db::connect(&format!("postgres://few:few@{place}"), 2).await.unwrap();
        let _only = db.conn().await.unwrap();
        let Error::Sql(refusal) = db.conn().await.unwrap_err() else { panic!("no refusal of the server") };
        assert_eq!(passing(&refusal), Some(Passing::Busy), "{refusal}");
    }
}
