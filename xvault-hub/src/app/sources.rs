//! Sources: systems that are backed up, with the credential they are read with.

use serde_json::{Value, json};
use xvault_core::source::DatabaseServer;
use xvault_core::{
    CredentialId, ReadBack, SourceId, SourceSettings, SshSettings, StoreId, TenantId, WordpressSettings,
};

use super::audit::{Deed, record};
use super::jobs::test_seconds_soon;
use super::recovery::settings_are_lost;
use super::stores::is_same_place;
use crate::api::error::{Error, Result};
use crate::api::principal::{Principal, Role};
use crate::db::credentials::CredentialKind;
use crate::db::sources::{Source, SourceStatus};
use crate::db::status::Status;
use crate::db::{Page, Scope, credentials, schedules, sources, stores, tenants};
use crate::{DbError, Hub};

/// A source to be.
#[derive(Debug)]
pub(crate) struct NewSource {
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) settings: SourceSettings,
    pub(crate) credential_id: Option<CredentialId>,
    pub(crate) store: StoreChoice,
    pub(crate) replica_store_id: Option<StoreId>,
    /// None: as the store's kind asks for.
    pub(crate) read_back: Option<ReadBack>,
}

/// Where the snapshots of a new source shall lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreChoice {
    /// In the platform's default store; on the worker's disk where there is none.
    Default,
    /// On the disk of the worker that makes them.
    Disk,
    /// There.
    Store(StoreId),
}

/// What shall be different about a source. What is absent stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    /// What stands under `config`, for the type that the source has.
    pub(crate) config: Option<serde_json::Value>,
    /// `Some(None)`: none any more.
    pub(crate) credential_id: Option<Option<CredentialId>>,
    /// `Some(None)`: the worker's disk.
    pub(crate) store_id: Option<Option<StoreId>>,
    /// `Some(None)`: where its store says.
    pub(crate) replica_store_id: Option<Option<StoreId>>,
    pub(crate) read_back: Option<ReadBack>,
}

/// Saves a source.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewSource) -> Result<Source> {
    let now = hub.clock().now();
    let NewSource { tenant_id, name, settings, credential_id, store, replica_store_id, read_back } = new;
    let store_id = chosen(&mut *hub.db().conn().await?, store).await?;
    let source = Source {
        id: SourceId::generate(),
        tenant_id,
        name,
        status: SourceStatus::Active,
        settings,
        credential_id,
        read_back: read_back.unwrap_or_else(|| usual_read_back(store_id.as_ref())),
        store_id,
        replica_store_id,
        created_at: now,
        updated_at: now,
    };
    may_shape(who, &source.settings)?;
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &Scope::All, &source.tenant_id).await.map_err(Error::of("tenant"))?;
    check_credential(&mut tx, &source).await?;
    check_store(&mut tx, &source).await?;
    check_replica(&mut tx, &source).await?;
    sources::insert(&mut tx, &source).await?;
    record(&mut tx, hub, who, deed("source.create", &source)).await?;
    tx.commit().await.map_err(DbError::from)?;
    test_second(hub, &source);
    Ok(source)
}

/// 403 unless `who` may say what such a source reads. A directory of a worker's machine belongs to no tenant: which of them
/// a tenant gets to see is for those to say who run the platform.
fn may_shape(who: &Principal, settings: &SourceSettings) -> Result<()> {
    match settings {
        SourceSettings::Local(_) if who.role != Role::Operator => Err(Error::forbidden(
            "a `local` source reads the disk of a worker: only operators make and change them, so ask yours; you may \
             test it, back it up and read its snapshots",
        )),
        _ => Ok(()),
    }
}

/// The credential must be there where a login will need it, of the same tenant, and made for sources.
async fn check_credential(conn: &mut sqlx::AnyConnection, source: &Source) -> Result<()> {
    let Some(id) = &source.credential_id else {
        return check_absence(&source.settings);
    };
    if matches!(source.settings, SourceSettings::Local(_)) {
        return Err(Error::invalid_field(
            "credential_id",
            "a `local` source is read without one: leave it out",
        ));
    }
    let own = Scope::Tenant(source.tenant_id.clone());
    let found = credentials::get(conn, &own, id).await.map_err(Error::of("credential"))?;
    match found.kind {
        CredentialKind::Source => Ok(()),
        CredentialKind::Storage => Err(Error::invalid_field(
            "credential_id",
            "this credential is for a store; one of kind `source` is needed",
        )),
    }
}

/// Without a credential a server can be asked for its key, and nothing more: once the key is pinned, somebody logs in.
fn check_absence(settings: &SourceSettings) -> Result<()> {
    match settings {
        SourceSettings::Sftp(SshSettings { host_key: Some(_), .. })
        | SourceSettings::Ssh(SshSettings { host_key: Some(_), .. })
        | SourceSettings::Wordpress(WordpressSettings { host_key: Some(_), .. }) => {
            Err(Error::invalid_field(
                "credential_id",
                "a source whose `host_key` is pinned is logged in to: name the credential with its password or private key",
            ))
        }
        SourceSettings::Ftp(ftp) if ftp.use_password => Err(Error::invalid_field(
            "credential_id",
            "this account is logged in to: name the credential with its password",
        )),
        other => match other.database_server() {
            Some(server) if needs_login(&server) => Err(Error::invalid_field(
                "credential_id",
                "this database is logged in to: name the credential with its password",
            )),
            _ => Ok(()),
        },
    }
}

/// Whether a secret is needed before anything can be told of a database.
fn needs_login(server: &DatabaseServer) -> bool {
    match &server.ssh {
        Some(ssh) => ssh.host_key.is_some(),
        None => server.use_password,
    }
}

async fn chosen(conn: &mut sqlx::AnyConnection, choice: StoreChoice) -> Result<Option<StoreId>> {
    match choice {
        StoreChoice::Default => Ok(stores::default(conn).await?.map(|store| store.id)),
        StoreChoice::Disk => Ok(None),
        StoreChoice::Store(id) => Ok(Some(id)),
    }
}

/// Reading back all of a bucket's object costs what downloading it costs.
fn usual_read_back(store_id: Option<&StoreId>) -> ReadBack {
    if store_id.is_some() { ReadBack::Sample } else { ReadBack::Full }
}

/// What a source's second store lets do is found out when it is named: its own, or that of its store.
fn test_second(hub: &Hub, source: &Source) {
    if source.replica_store_id.is_some() || source.store_id.is_some() {
        test_seconds_soon(hub);
    }
}

/// Copies go elsewhere than the snapshots.
async fn check_replica(conn: &mut sqlx::AnyConnection, source: &Source) -> Result<()> {
    check_usable(conn, source, source.replica_store_id.as_ref()).await?;
    let (Some(store), Some(replica)) = (&source.store_id, &source.replica_store_id) else { return Ok(()) };
    let first = stores::get(conn, &Scope::All, store).await.map_err(Error::of("store"))?;
    let second = stores::get(conn, &Scope::All, replica).await.map_err(Error::of("store"))?;
    if is_same_place(&first, &second, Some(&source.tenant_id)) {
        let reason = "it is where its snapshots go to: name a store that lies elsewhere";
        return Err(Error::invalid_field("replica_store_id", reason));
    }
    Ok(())
}

async fn check_store(conn: &mut sqlx::AnyConnection, source: &Source) -> Result<()> {
    check_usable(conn, source, source.store_id.as_ref()).await
}

/// The store must be there for the tenant to use.
async fn check_usable(conn: &mut sqlx::AnyConnection, source: &Source, id: Option<&StoreId>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    let own = Scope::Tenant(source.tenant_id.clone());
    let store = stores::get(conn, &own, id).await.map_err(Error::of("store"))?;
    match store.status {
        Status::Active => Ok(()),
        Status::Disabled => Err(Error::conflict("store_disabled", "the store is disabled; name another one")),
    }
}

fn deed<'a>(action: &'a str, source: &'a Source) -> Deed<'a> {
    Deed {
        action,
        target_type: "source",
        target_id: source.id.as_str(),
        tenant_id: Some(&source.tenant_id),
        details: json!({
            "name": source.name,
            "type": source.settings.kind(),
            "target": target(&source.settings, source.credential_id.as_ref()),
            "store_id": source.store_id,
            "replica_store_id": source.replica_store_id,
        }),
    }
}

/// The longest address in the log, in characters. A host and a user name fit in whole; what is cut are paths.
const MAX_ADDRESS: usize = 1000;

/// Where a source's credential goes, and what is run there with it: who can point one at a server of their own can read it there.
pub(crate) fn target(settings: &SourceSettings, credential_id: Option<&CredentialId>) -> Value {
    let mut target = json!({
        "address": settings.address().chars().take(MAX_ADDRESS).collect::<String>(),
        "host_key": settings.host_key(),
        "credential_id": credential_id,
    });
    if let (Some(hooks), Some(fields)) = (settings.hooks(), target.as_object_mut()) {
        fields.insert("hooks".to_owned(), json!(hooks));
    }
    target
}

/// A change, with what it was before.
fn updated<'a>(before: &Value, source: &'a Source) -> Deed<'a> {
    let mut deed = deed("source.update", source);
    if let Some(details) = deed.details.as_object_mut() {
        details.insert("target_before".to_owned(), before.clone());
    }
    deed
}

/// One that is not deleted.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &SourceId) -> Result<Source> {
    let mut conn = hub.db().conn().await?;
    sources::get_live(&mut conn, scope, id).await.map_err(Error::of("source"))
}

/// Those that are not deleted, newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, name: Option<&str>, page: &Page) -> Result<Vec<Source>> {
    Ok(sources::list(&mut *hub.db().conn().await?, scope, name, page).await?)
}

/// Changes what is asked for. The type stays. `parse` makes settings of a type word and a config.
pub(crate) async fn update(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SourceId,
    change: Change,
    parse: impl Fn(&str, &serde_json::Value) -> Result<SourceSettings>,
) -> Result<Source> {
    let mut tx = hub.db().begin().await?;
    let mut source = sources::lock(&mut tx, scope, id).await.map_err(Error::of("source"))?;
    may_shape(who, &source.settings)?;
    let before = target(&source.settings, source.credential_id.as_ref());
    if let Some(config) = &change.config {
        source.settings = parse(source.settings.kind(), config)?;
    }
    if let Some(name) = change.name {
        source.name = name;
    }
    if let Some(credential_id) = change.credential_id {
        source.credential_id = credential_id;
    }
    if let Some(store_id) = change.store_id {
        source.store_id = store_id;
        check_store(&mut tx, &source).await?;
    }
    if let Some(replica_store_id) = change.replica_store_id {
        source.replica_store_id = replica_store_id;
    }
    check_replica(&mut tx, &source).await?;
    if let Some(read_back) = change.read_back {
        source.read_back = read_back;
    }
    source.updated_at = hub.clock().now();
    check_credential(&mut tx, &source).await?;
    sources::update(&mut tx, &source).await.map_err(Error::of("source"))?;
    record(&mut tx, hub, who, updated(&before, &source)).await?;
    tx.commit().await.map_err(DbError::from)?;
    test_second(hub, &source);
    Ok(source)
}

/// Whether it is backed up. A running backup goes on either way.
pub(crate) async fn switch(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SourceId,
    on: bool,
) -> Result<Source> {
    let mut tx = hub.db().begin().await?;
    let mut source = sources::lock(&mut tx, scope, id).await.map_err(Error::of("source"))?;
    if on && settings_are_lost(&source.settings) {
        let message = "the source was rebuilt from its snapshots, which do not say where it is: complete its config first";
        return Err(Error::conflict("settings_lost", message));
    }
    let action = if on { "source.enable" } else { "source.disable" };
    source.status = if on { SourceStatus::Active } else { SourceStatus::Disabled };
    source.updated_at = hub.clock().now();
    sources::update(&mut tx, &source).await.map_err(Error::of("source"))?;
    record(&mut tx, hub, who, deed(action, &source)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(source)
}

/// Takes a source out of the lists for good, and its schedule with it. Its snapshots remain, and its credential is free to be deleted.
pub(crate) async fn delete(hub: &Hub, who: &Principal, scope: &Scope, id: &SourceId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    let mut source = sources::lock(&mut tx, scope, id).await.map_err(Error::of("source"))?;
    if let Some(job_id) = sources::unfinished_job(&mut tx, id).await? {
        let message = format!("job {job_id} of this source is not finished: cancel it, or wait");
        return Err(Error::conflict("source_busy", message).details(json!({ "job_id": job_id })));
    }
    let event = deed("source.delete", &source);
    record(&mut tx, hub, who, event).await?;
    schedules::delete_for_source(&mut tx, id).await?;
    source.status = SourceStatus::Deleted;
    (source.credential_id, source.store_id, source.replica_store_id) = (None, None, None);
    source.updated_at = hub.clock().now();
    sources::update(&mut tx, &source).await.map_err(Error::of("source"))?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}
