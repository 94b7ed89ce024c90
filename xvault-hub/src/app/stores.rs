//! Stores: buckets that operators save for all tenants, and tenants for themselves.

pub(crate) mod garage;
pub(crate) mod keys;
mod lock;
mod place;
pub(crate) mod service;

use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::{CredentialId, S3Credential, S3Settings, StoreId, TenantId};

use super::audit::{Deed, record};
use super::egress;
use super::jobs::test_seconds_soon;
use crate::api::error::{Error, Result};
use crate::api::principal::{Principal, Role};
use crate::db::credentials::{CredentialKind, StoredSecret};
use crate::db::status::Status;
use crate::db::stores::{BUCKET_SUFFIX, Scoping, Store, Uses};
use crate::db::{Page, Scope, credentials, stores, tenants};
use crate::settings::PrivateStores;
use crate::{DbError, Hub};

pub(crate) use lock::{check_span, may_lock, set_lock, take_lock};
pub(crate) use place::is_same_place;

/// What a store is reached with.
#[derive(Debug)]
pub(crate) enum Key {
    /// What requests are signed with; kept with the store.
    Own(S3Credential),
    /// Of Garage's administration, which makes keys to sign with; kept with the store.
    AdminToken(SecretString),
    /// A credential of the store's tenant, of kind `storage`.
    Credential(CredentialId),
}

/// A store to be.
#[derive(Debug)]
pub(crate) struct NewStore {
    /// None: for all tenants.
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) name: String,
    pub(crate) settings: S3Settings,
    pub(crate) key: Key,
    pub(crate) scoping: Option<Scoping>,
    pub(crate) is_default: bool,
    pub(crate) replica_id: Option<StoreId>,
}

/// What shall be different about a store. What is absent stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) settings: Option<S3Settings>,
    pub(crate) key: Option<Key>,
    /// `Some(None)`: none any more.
    pub(crate) scoping: Option<Option<Scoping>>,
    pub(crate) is_default: Option<bool>,
    /// `Some(None)`: none any more.
    pub(crate) replica_id: Option<Option<StoreId>>,
    pub(crate) status: Option<Status>,
}

/// Saves a store.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewStore) -> Result<Store> {
    let now = hub.clock().now();
    let NewStore { tenant_id, name, settings, key, scoping, is_default, replica_id } = new;
    let store = Store {
        id: StoreId::generate(),
        tenant_id,
        name,
        settings,
        credential_id: None,
        scoping,
        is_default,
        replica_id,
        object_lock: None,
        may_delete: None,
        status: Status::Active,
        last_test: None,
        tested_at: None,
        created_at: now,
        updated_at: now,
    };
    check(&store)?;
    check_key(&store, &key)?;
    check_address(hub, who, &store.settings)?;
    let mut tx = hub.db().begin().await?;
    if let Some(tenant) = &store.tenant_id {
        tenants::get(&mut tx, &Scope::All, tenant).await.map_err(Error::of("tenant"))?;
    }
    let (credential_id, secret) = kept(&mut tx, hub, &store, key).await?;
    let store = Store { credential_id, ..store };
    check_replica(&mut tx, &store).await?;
    take_default(&mut tx, &store).await?;
    stores::insert(&mut tx, &store, secret.as_ref()).await?;
    record(&mut tx, hub, who, deed("store.create", &store)).await?;
    tx.commit().await.map_err(DbError::from)?;
    test_seconds_soon(hub);
    Ok(store)
}

/// What the types and the database can't say.
fn check(store: &Store) -> Result<()> {
    store.settings.validate()?;
    if store.tenant_id.is_some() && store.is_default {
        return Err(Error::invalid_field("is_default", "only a store of the platform can be everybody's"));
    }
    match &store.scoping {
        // The hub itself talks to the service: a tenant's address could be anything in the hub's network.
        Some(_) if store.tenant_id.is_some() => Err(Error::invalid_field(
            "scoping",
            "only stores of the platform have it: the hub makes no requests to addresses that tenants give",
        )),
        Some(Scoping::Sts { role_arn, endpoint, session_seconds }) => {
            check_sts(&store.settings, role_arn, endpoint.as_deref(), *session_seconds)
        }
        Some(Scoping::Garage { admin_endpoint, key_seconds }) => {
            check_garage(&store.settings, admin_endpoint, *key_seconds)
        }
        None => Ok(()),
    }
}

fn check_garage(settings: &S3Settings, admin_endpoint: &str, seconds: u32) -> Result<()> {
    if settings.endpoint.is_none() {
        return Err(Error::invalid_field(
            "config.endpoint",
            "Garage's S3 address is needed: without one it is Amazon's",
        ));
    }
    let longest = 63 - BUCKET_SUFFIX;
    if settings.bucket.len() > longest {
        let reason = format!("at most {longest} characters: the buckets of tenants have their ids behind it");
        return Err(Error::invalid_field("config.bucket", reason));
    }
    if !(900..=2_592_000).contains(&seconds) {
        return Err(Error::invalid_field("scoping.key_seconds", "900 to 2592000 are possible"));
    }
    let asked = S3Settings { endpoint: Some(admin_endpoint.to_owned()), ..settings.clone() };
    asked.validate().map_err(|error| Error::invalid_field("scoping.admin_endpoint", error.reason))
}

/// Garage's administration makes keys for jobs, and nothing else makes them for Garage.
fn check_key(store: &Store, key: &Key) -> Result<()> {
    match (store.has_bucket_per_tenant(), key) {
        (true, Key::AdminToken(_)) | (false, Key::Own(_) | Key::Credential(_)) => Ok(()),
        (true, _) => Err(Error::invalid_field(
            "admin_token",
            "with `scoping` of kind `garage` the store is reached with the token of Garage's administration, and nothing else",
        )),
        (false, Key::AdminToken(_)) => {
            Err(Error::invalid_field("admin_token", "it is for `scoping` of kind `garage`"))
        }
    }
}

fn check_sts(settings: &S3Settings, role_arn: &str, endpoint: Option<&str>, seconds: u32) -> Result<()> {
    if !(1..=2048).contains(&role_arn.len()) || !role_arn.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid_field(
            "scoping.role_arn",
            "a role's ARN is needed: arn:aws:iam::…:role/…",
        ));
    }
    if !(900..=43200).contains(&seconds) {
        return Err(Error::invalid_field("scoping.session_seconds", "900 to 43200 are possible"));
    }
    let asked = S3Settings { endpoint: endpoint.map(str::to_owned), ..settings.clone() };
    asked.validate().map_err(|error| Error::invalid_field("scoping.endpoint", error.reason))
}

/// Workers connect to where a store says: tenants may not point them into the networks that the workers are in.
fn check_address(hub: &Hub, who: &Principal, settings: &S3Settings) -> Result<()> {
    let (Some(endpoint), PrivateStores::Operators) = (&settings.endpoint, hub.settings().private_stores)
    else {
        return Ok(());
    };
    if who.role == Role::Operator {
        return Ok(());
    }
    egress::check_public(endpoint).map_err(|error| Error::invalid_field("config.endpoint", error.to_string()))
}

/// What is kept of a key: the credential it is, or the secret itself, encrypted.
async fn kept(
    conn: &mut AnyConnection,
    hub: &Hub,
    store: &Store,
    key: Key,
) -> Result<(Option<CredentialId>, Option<StoredSecret>)> {
    let sealed = |plain: &[u8]| {
        let ciphertext = hub.keys().seal(plain)?;
        Ok((None, Some(StoredSecret { ciphertext, kek_id: hub.keys().current_id() })))
    };
    match key {
        Key::Own(credential) => sealed(credential.to_json().expose_secret()),
        Key::AdminToken(token) => sealed(token.expose_secret().as_bytes()),
        Key::Credential(id) => {
            check_credential(conn, hub, store, &id).await?;
            Ok((Some(id), None))
        }
    }
}

/// The credential must be of the same tenant, made for stores, and what a bucket takes.
async fn check_credential(
    conn: &mut AnyConnection,
    hub: &Hub,
    store: &Store,
    id: &CredentialId,
) -> Result<()> {
    let invalid = |reason: &str| Err(Error::invalid_field("credential_id", reason));
    let Some(tenant) = &store.tenant_id else {
        return invalid("credentials are of tenants: give a platform's store its `credential` itself");
    };
    let own = Scope::Tenant(tenant.clone());
    let found = credentials::get(conn, &own, id).await.map_err(Error::of("credential"))?;
    if found.kind != CredentialKind::Storage {
        return invalid("this credential is for a source; one of kind `storage` is needed");
    }
    let stored = credentials::secret(conn, id).await?;
    let opened = hub.keys().open(&stored.ciphertext, &stored.kek_id)?;
    match S3Credential::from_json(opened.expose_secret()) {
        Ok(_) => Ok(()),
        Err(error) => invalid(&error.to_string()),
    }
}

/// Copies go elsewhere: into a store of the same tenant or of the platform. They are not copied on, so two stores may name each other.
async fn check_replica(conn: &mut AnyConnection, store: &Store) -> Result<()> {
    let Some(id) = &store.replica_id else { return Ok(()) };
    let other = match &store.tenant_id {
        Some(tenant) => stores::get(conn, &Scope::Tenant(tenant.clone()), id).await,
        None => stores::get(conn, &Scope::All, id).await,
    };
    let other = other.map_err(Error::of("store"))?;
    let invalid = |reason: &str| Err(Error::invalid_field("replica_id", reason));
    match store.tenant_id {
        None if other.tenant_id.is_some() => {
            invalid("a store of the platform is copied into one of the platform")
        }
        _ if other.id == store.id => invalid("a store is no copy of itself"),
        // Of a tenant's store it is known whose snapshots are copied.
        _ if is_same_place(&other, store, store.tenant_id.as_ref()) => {
            invalid("that store lies at the same place: a copy there is none")
        }
        _ => Ok(()),
    }
}

/// There is one default at most: the last that was made so.
async fn take_default(conn: &mut AnyConnection, store: &Store) -> Result<()> {
    if store.is_default {
        stores::clear_default(conn).await?;
    }
    Ok(())
}

fn deed<'a>(action: &'a str, store: &'a Store) -> Deed<'a> {
    Deed {
        action,
        target_type: "store",
        target_id: store.id.as_str(),
        tenant_id: store.tenant_id.as_ref(),
        details: json!({ "name": store.name, "target": target(store) }),
    }
}

/// Where a store's credential goes.
pub(crate) fn target(store: &Store) -> Value {
    json!({
        "address": store.settings.to_string(),
        "endpoint": store.settings.endpoint,
        "credential_id": store.credential_id,
    })
}

/// One's own, or the platform's.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &StoreId) -> Result<Store> {
    let mut conn = hub.db().conn().await?;
    stores::get(&mut conn, scope, id).await.map_err(Error::of("store"))
}

/// One's own and the platform's, newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, page: &Page) -> Result<Vec<Store>> {
    Ok(stores::list(&mut *hub.db().conn().await?, scope, page).await?)
}

/// `host:port` of the service, as workers' errors have it.
pub(crate) fn server(settings: &S3Settings) -> String {
    let amazon = || format!("s3.{}.amazonaws.com", settings.region);
    let endpoint = settings.endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/'));
    endpoint.map_or_else(amazon, |text| text.split_once("://").map_or(text, |(_, host)| host).to_owned())
}

/// 403 for the platform's stores, which tenants only use.
fn may_change(who: &Principal, store: &Store) -> Result<()> {
    if store.tenant_id.is_none() && who.role != Role::Operator {
        return Err(Error::forbidden("the store is the platform's: only operators change it"));
    }
    Ok(())
}

/// Changes what is asked for.
pub(crate) async fn update(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &StoreId,
    change: Change,
) -> Result<Store> {
    let mut tx = hub.db().begin().await?;
    let before = stores::lock(&mut tx, scope, id).await.map_err(Error::of("store"))?;
    may_change(who, &before)?;
    let (store, key) = changed(before.clone(), change);
    check(&store)?;
    lock::check_unmoved(&before, &store)?;
    if store.settings != before.settings {
        check_address(hub, who, &store.settings)?;
    }
    check_place(&mut tx, &before, &store).await?;
    match &key {
        Some(key) => check_key(&store, key)?,
        None if store.has_bucket_per_tenant() == before.has_bucket_per_tenant() => {}
        None => return Err(Error::invalid_field("scoping", "give what it is reached with from now on, too")),
    }
    let store = match key {
        Some(key) => {
            let (credential_id, secret) = kept(&mut tx, hub, &store, key).await?;
            stores::set_secret(&mut tx, id, secret.as_ref()).await?;
            Store { credential_id, ..store }
        }
        None => store,
    };
    let store = Store { updated_at: hub.clock().now(), ..store };
    if store.replica_id != before.replica_id {
        check_replica(&mut tx, &store).await?;
    }
    if (&store.settings, &store.scoping) != (&before.settings, &before.scoping) {
        place::check_apart(&mut tx, &store).await?;
    }
    take_default(&mut tx, &store).await?;
    stores::update(&mut tx, &store).await.map_err(Error::of("store"))?;
    record(&mut tx, hub, who, updated(&before, &store)).await?;
    tx.commit().await.map_err(DbError::from)?;
    test_seconds_soon(hub);
    Ok(store)
}

fn changed(before: Store, change: Change) -> (Store, Option<Key>) {
    let (settings, scoping) = (before.settings.clone(), before.scoping.clone());
    let store = Store {
        name: change.name.unwrap_or(before.name),
        settings: change.settings.unwrap_or(before.settings),
        scoping: change.scoping.unwrap_or(before.scoping),
        is_default: change.is_default.unwrap_or(before.is_default),
        replica_id: change.replica_id.unwrap_or(before.replica_id),
        status: change.status.unwrap_or(before.status),
        ..before
    };
    let is_same = store.settings == settings && store.scoping == scoping && change.key.is_none();
    // Others may do other things, or the same ones elsewhere.
    let may_delete = store.may_delete.filter(|_| is_same);
    (Store { may_delete, ..store }, change.key)
}

fn updated<'a>(before: &Store, store: &'a Store) -> Deed<'a> {
    let mut deed = deed("store.update", store);
    if let Some(details) = deed.details.as_object_mut() {
        details.insert("target_before".to_owned(), target(before));
    }
    deed
}

/// Snapshots lie where the bucket and the prefix say: while there are any, these stay.
async fn check_place(conn: &mut AnyConnection, before: &Store, after: &Store) -> Result<()> {
    let place = |store: &Store| {
        (store.settings.bucket.clone(), store.settings.prefix.clone(), store.has_bucket_per_tenant())
    };
    if place(before) == place(after) {
        return Ok(());
    }
    let uses = stores::uses(conn, &before.id).await?;
    if uses.holds_something() {
        return Err(in_use(
            "its bucket, its prefix and whether tenants have their own buckets stay while snapshots lie in it",
            uses,
        ));
    }
    Ok(())
}

fn in_use(message: &str, uses: Uses) -> Error {
    let Uses { sources, snapshots, jobs, replicas_of } = uses;
    let counted =
        format!("{sources} sources, {snapshots} snapshots, {jobs} jobs and {replicas_of} stores use it");
    Error::conflict("in_use", format!("{message}: {counted}")).details(json!(uses))
}

/// Forgets a store that nothing uses. What lies in its bucket stays there.
pub(crate) async fn delete(hub: &Hub, who: &Principal, scope: &Scope, id: &StoreId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    let store = stores::lock(&mut tx, scope, id).await.map_err(Error::of("store"))?;
    may_change(who, &store)?;
    let uses = stores::uses(&mut tx, id).await?;
    if uses.any() {
        return Err(in_use("the store can't be deleted", uses));
    }
    stores::delete(&mut tx, id).await.map_err(Error::of("store"))?;
    record(&mut tx, hub, who, deed("store.delete", &store)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}
