//! A look into the hub's database, past the hub.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row};

use crate::wait::block_on;

/// The first column of all rows that `statement` gives: texts.
pub(crate) fn texts(url: &str, statement: &'static str) -> Vec<String> {
    rows(url, statement).iter().map(|row| row.get(0)).collect()
}

/// The only number that `statement` gives.
pub(crate) fn number(url: &str, statement: &'static str) -> i64 {
    let rows = rows(url, statement);
    assert_eq!(rows.len(), 1, "{statement}");
    rows[0].get(0)
}

/// The first column of all rows that `statement` gives: bytes.
pub(crate) fn blobs(url: &str, statement: &'static str) -> Vec<Vec<u8>> {
    rows(url, statement).iter().map(|row| row.get(0)).collect()
}

/// Lets a minute pass for every queued job: what is due in a minute is due now.
pub(crate) fn a_minute_passes(url: &str) {
    let _ = rows(url, "UPDATE jobs SET push_at = push_at - 60000 WHERE status = 'queued'");
}

/// Lets the time of every link to a download be over.
pub(crate) fn links_have_ended(url: &str) {
    let _ = rows(url, "UPDATE downloads SET expires_at = created_at");
}

/// Lets the time of every schedule come.
pub(crate) fn schedules_are_due(url: &str) {
    let _ = rows(url, "UPDATE schedules SET next_run_at = created_at");
}

/// Lets the time of every sweep of a store come.
pub(crate) fn sweeps_are_due(url: &str) {
    let _ = rows(url, "UPDATE store_sweeps SET next_at = 0");
}

fn rows(url: &str, statement: &'static str) -> Vec<AnyRow> {
    sqlx::any::install_default_drivers();
    block_on(async {
        let mut connection = AnyConnection::connect(url).await.unwrap();
        let rows = sqlx::query(statement).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows
    })
}
