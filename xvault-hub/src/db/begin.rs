//! Beginning transactions.
//!
//! sqlx 0.9.0 forgets what it had begun on PostgreSQL when nobody waits for it any more, as when a client goes away: the connection is
//! back in the pool with an open transaction that nobody knows of. What others write on it next is seen by nobody, and undone
//! (<https://github.com/launchbadge/sqlx/issues/4393>).

use sqlx::{Any, AnyPool, Transaction};

use super::{Db, Dialect, Error, Result};

impl Db {
    /// A transaction that may write from the start. Who stops waiting for it leaves none behind.
    ///
    /// # Errors
    /// As [`Db::conn`].
    pub async fn begin(&self) -> Result<Transaction<'static, Any>> {
        let begun = begin(self.pool.clone(), self.dialect);
        // In a task of its own it is begun to its end, and then rolled back if nobody is there to take it.
        let begun = tokio::spawn(begun).await;
        Ok(begun.map_err(|_| Error::Sql(sqlx::Error::WorkerCrashed))??)
    }
}

async fn begin(pool: AnyPool, dialect: Dialect) -> sqlx::Result<Transaction<'static, Any>> {
    match dialect {
        Dialect::Sqlite => pool.begin_with("BEGIN IMMEDIATE").await,
        Dialect::Postgres => pool.begin().await,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use crate::app::bench::{Bench, on_both_engines};
    use crate::db::{Scope, jobs};

    /// Lets a future go on so often, and no further.
    async fn given_up(future: impl Future, after: u32) {
        let mut future = pin!(future);
        for _ in 0..after {
            if futures::poll!(&mut future).is_ready() {
                return;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// As the hub's handlers are given up when their client goes away: at any moment.
    async fn a_transaction_that_nobody_waits_for_takes_no_writes_of_others_with_it(bench: Bench) {
        let other = bench.another_hub().await;
        for after in (0..8).cycle().take(40) {
            given_up(bench.hub.db().begin(), after).await;
            let (id, at) = (bench.backup().await, bench.hub.clock().now() + Duration::from_secs(7));
            jobs::push_failed(&mut bench.hub.db().conn().await.unwrap(), &id, at).await.unwrap();
            let seen = jobs::get(&mut other.db().conn().await.unwrap(), &Scope::All, &id).await.unwrap();
            assert_eq!(seen.push_at, at, "given up after {after} steps");
        }
    }

    on_both_engines!(a_transaction_that_nobody_waits_for_takes_no_writes_of_others_with_it);
}
