//! Transactions that PostgreSQL calls off for the sake of others.

use std::time::Duration;

use serde_json::json;
use sqlx::{AnyPool, Row as _};

use crate::fake_worker::ssh_source;
use crate::world::{Dialect, World};

/// Waits until a statement of this database waits for a lock.
pub(crate) async fn somebody_waits(pool: &AnyPool) {
    let waiting = "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut rounds = 0..500;
    while sqlx::query(waiting).fetch_one(pool).await.unwrap().get::<i64, _>("n") == 0 {
        rounds.next().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_none_of_the_callers_business() {
    let world = World::start(Dialect::Postgres).await;
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let pool = world.database.sql().await;
    let mut other = pool.begin().await.unwrap();
    // The server ends whoever has waited for a second: that must not be this one.
    sqlx::query("SET LOCAL deadlock_timeout = '1min'").execute(&mut *other).await.unwrap();
    let lock = |text| sqlx::query(text);
    lock("UPDATE tenants SET updated_at = updated_at WHERE id = $1")
        .bind(&acme.id)
        .execute(&mut *other)
        .await
        .unwrap();
    let asking = tokio::spawn({
        let (caller, body) = (acme.member.clone(), json!({ "source_id": source, "type": "probe" }));
        async move { caller.post("/api/v1/jobs", body).await }
    });
    // It has the source and waits for the tenant, as this has the tenant and waits for the source.
    somebody_waits(&pool).await;
    lock("UPDATE sources SET updated_at = updated_at WHERE id = $1")
        .bind(&source)
        .execute(&mut *other)
        .await
        .unwrap();
    other.commit().await.unwrap();
    asking.await.unwrap().expect(201);
}
