//! Object lock of a store: set once a test has shown that it holds, for what is written from then on.

use jiff::Timestamp;
use serde_json::json;
use xvault_core::protocol::{Ability, Found, Observation, StoreReport};
use xvault_core::{LockMode, StoreId, TenantId};

use super::{deed, may_change};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::audit::record;
use crate::db::stores::{Store, StoreLock};
use crate::db::{Scope, stores, tenants};
use crate::{DbError, Hub};

/// Has a store lock what is written into it from now on, for a test that began at `tested_from` and saw that the lock holds. 409
/// `lock_not_proven`, with what was seen, when it did not; nothing is saved then. 409 `store_changed` when the store is
/// not what was tested any more.
pub(crate) async fn set_lock(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &StoreId,
    lock: StoreLock,
    (report, tested_from): (&StoreReport, Timestamp),
) -> Result<Store> {
    prove(lock.mode, report)?;
    let mut tx = hub.db().begin().await?;
    let before = stores::lock(&mut tx, scope, id).await.map_err(Error::of("store"))?;
    may_change(who, &before)?;
    if before.updated_at > tested_from {
        let message = "the store was changed after its test had begun: ask again";
        return Err(Error::conflict("store_changed", message));
    }
    let store = Store { object_lock: Some(lock), ..before };
    save(hub, tx, who, ("store.lock", store)).await
}

/// What is written from now on is not locked any more. What is locked stays so.
pub(crate) async fn take_lock(hub: &Hub, who: &Principal, scope: &Scope, id: &StoreId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    let before = stores::lock(&mut tx, scope, id).await.map_err(Error::of("store"))?;
    may_change(who, &before)?;
    if before.object_lock.is_some() {
        save(hub, tx, who, ("store.unlock", Store { object_lock: None, ..before })).await?;
    }
    Ok(())
}

async fn save(
    hub: &Hub,
    mut tx: sqlx::Transaction<'static, sqlx::Any>,
    who: &Principal,
    (action, store): (&str, Store),
) -> Result<Store> {
    let store = Store { updated_at: hub.clock().now(), ..store };
    stores::update(&mut tx, &store).await.map_err(Error::of("store"))?;
    let mut deed = deed(action, &store);
    if let Some(details) = deed.details.as_object_mut() {
        details.insert("object_lock".to_owned(), json!(store.object_lock));
    }
    record(&mut tx, hub, who, deed).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(store)
}

/// For which tenant the store is to be tested: its own, or the oldest of the platform's. 404 and 403 before anything is tested; 409
/// `no_tenant` while the platform has none.
pub(crate) async fn may_lock(hub: &Hub, who: &Principal, scope: &Scope, id: &StoreId) -> Result<TenantId> {
    let store = super::get(hub, scope, id).await?;
    may_change(who, &store)?;
    let tenant = match store.tenant_id {
        Some(tenant) => Some(tenant),
        None => tenants::oldest_active(&mut *hub.db().conn().await?).await?,
    };
    tenant.ok_or_else(|| {
        Error::conflict("no_tenant", "a store is tested below the prefix of a tenant, and there is none yet")
    })
}

/// A span that can be.
pub(crate) fn check_span(lock: &StoreLock) -> Result<()> {
    match lock.span.invalid_field() {
        Some((field, reason)) => Err(Error::invalid_field(&format!("span.{field}"), reason)),
        None => Ok(()),
    }
}

fn prove(mode: LockMode, report: &StoreReport) -> Result<()> {
    let wanted = match mode {
        LockMode::Compliance => Ability::ObjectLock,
        LockMode::Governance => Ability::GovernanceLock,
    };
    let found = report.found(wanted);
    // A worker that is too old to try the one proves little by the other.
    if found == Found::Yes && report.has(Ability::DeleteVersion) {
        return Ok(());
    }
    let seen = |ability| report.observations.iter().find(|seen| seen.ability == ability);
    let tried = seen(wanted).filter(|_| found != Found::Yes);
    let words = tried.map_or("the worker is too old to try all of it", |seen| seen.seen.as_str());
    let verdict = match found {
        Found::No => "the store does not keep what is locked",
        _ => "it could not be proven that the store keeps what is locked",
    };
    let observations: Vec<&Observation> =
        [Ability::Versioning, Ability::DeleteVersion, wanted].into_iter().filter_map(seen).collect();
    Err(Error::conflict("lock_not_proven", format!("{verdict}: {words}. Nothing was saved"))
        .details(json!({ "observations": observations })))
}

/// A lock was seen to hold in one place, and not in another.
pub(super) fn check_unmoved(before: &Store, after: &Store) -> Result<()> {
    let place = |store: &Store| {
        let settings = &store.settings;
        (settings.endpoint.clone(), settings.bucket.clone(), settings.region.clone())
    };
    if after.object_lock.is_none() || place(before) == place(after) {
        return Ok(());
    }
    let message = "that its object lock holds was seen where the store is now: take the lock off, change the store, and set it again";
    Err(Error::conflict("object_lock_set", message))
}
