//! Writes down who did what, in the transaction that does it.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::AnyConnection;
use xvault_core::{TenantId, WorkerId};

use crate::Hub;
use crate::api::principal::{Actor, Principal, Role};
use crate::db::{self, audit};

/// What was done to what.
#[derive(Debug)]
pub(crate) struct Deed<'a> {
    /// `source.create`.
    pub(crate) action: &'a str,
    /// `source`.
    pub(crate) target_type: &'a str,
    pub(crate) target_id: &'a str,
    pub(crate) tenant_id: Option<&'a TenantId>,
    /// What else is worth knowing, without secrets.
    pub(crate) details: Value,
}

/// A deed of somebody who asked for it.
pub(crate) async fn record(
    conn: &mut AnyConnection,
    hub: &Hub,
    who: &Principal,
    deed: Deed<'_>,
) -> db::Result<()> {
    let actor_type = match &who.actor {
        Actor::User(_) if who.role == Role::Operator => "operator",
        Actor::User(_) => "user",
        Actor::ApiKey(_) => "api_key",
    };
    insert(conn, (actor_type, Some(who.actor.id().to_owned())), who.ip, deed, hub.clock().now()).await
}

/// A deed of somebody who did not say who they are, or was not believed.
pub(crate) async fn record_stranger(
    conn: &mut AnyConnection,
    deed: Deed<'_>,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> db::Result<()> {
    insert(conn, ("system", None), ip, deed, now).await
}

/// A deed of a worker.
pub(crate) async fn record_by_worker(
    conn: &mut AnyConnection,
    worker: &WorkerId,
    deed: Deed<'_>,
    now: Timestamp,
) -> db::Result<()> {
    insert(conn, ("worker", Some(worker.to_string())), None, deed, now).await
}

/// A deed of a worker for somebody who opened a download link there.
pub(crate) async fn record_for_client(
    conn: &mut AnyConnection,
    worker: &WorkerId,
    client: Option<IpAddr>,
    deed: Deed<'_>,
    now: Timestamp,
) -> db::Result<()> {
    insert(conn, ("worker", Some(worker.to_string())), client, deed, now).await
}

/// A deed of the program itself.
pub(crate) async fn record_by_system(
    conn: &mut AnyConnection,
    deed: Deed<'_>,
    now: Timestamp,
) -> db::Result<()> {
    insert(conn, ("system", None), None, deed, now).await
}

/// Deeds of the scheduler.
pub(crate) async fn record_by_scheduler(
    conn: &mut AnyConnection,
    deeds: Vec<Deed<'_>>,
    now: Timestamp,
) -> db::Result<()> {
    let actor = || ("system", Some("scheduler".to_owned()));
    let events: Vec<_> = deeds.into_iter().map(|deed| event(actor(), None, deed, now)).collect();
    audit::insert_all(conn, &events).await
}

async fn insert(
    conn: &mut AnyConnection,
    actor: (&str, Option<String>),
    ip: Option<IpAddr>,
    deed: Deed<'_>,
    now: Timestamp,
) -> db::Result<()> {
    audit::insert(conn, &event(actor, ip, deed, now)).await
}

fn event(
    (actor_type, actor_id): (&str, Option<String>),
    ip: Option<IpAddr>,
    deed: Deed<'_>,
    now: Timestamp,
) -> audit::Event {
    audit::Event {
        id: xvault_core::clock::new_id(),
        tenant_id: deed.tenant_id.cloned(),
        actor_type: actor_type.to_owned(),
        actor_id,
        action: deed.action.to_owned(),
        target_type: deed.target_type.to_owned(),
        target_id: Some(deed.target_id.to_owned()),
        ip: ip.map(|ip| ip.to_string()),
        details: deed.details,
        created_at: now,
    }
}
