//! Sources: systems that are backed up, with the credential they are read with.

use serde_json::json;
use xvault_core::{CredentialId, ReadBack, SourceId, SourceSettings, TenantId};

use super::audit::{Deed, record};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::credentials::CredentialKind;
use crate::db::sources::{Source, SourceStatus};
use crate::db::{Page, Scope, credentials, schedules, sources, tenants};
use crate::{DbError, Hub};

/// A source to be.
#[derive(Debug)]
pub(crate) struct NewSource {
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) settings: SourceSettings,
    pub(crate) credential_id: Option<CredentialId>,
    pub(crate) read_back: ReadBack,
}

/// What shall be different about a source. What is absent stays.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    /// What stands under `config`, for the type that the source has.
    pub(crate) config: Option<serde_json::Value>,
    /// `Some(None)`: none any more.
    pub(crate) credential_id: Option<Option<CredentialId>>,
    pub(crate) read_back: Option<ReadBack>,
}

/// Saves a source.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewSource) -> Result<Source> {
    let now = hub.clock().now();
    let NewSource { tenant_id, name, settings, credential_id, read_back } = new;
    let source = Source {
        id: SourceId::generate(),
        tenant_id,
        name,
        status: SourceStatus::Active,
        settings,
        credential_id,
        read_back,
        created_at: now,
        updated_at: now,
    };
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &Scope::All, &source.tenant_id).await.map_err(Error::of("tenant"))?;
    check_credential(&mut tx, &source).await?;
    sources::insert(&mut tx, &source).await?;
    record(&mut tx, hub, who, deed("source.create", &source)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(source)
}

/// The credential must be of the same tenant, and made for sources.
async fn check_credential(conn: &mut sqlx::AnyConnection, source: &Source) -> Result<()> {
    let Some(id) = &source.credential_id else {
        return Ok(());
    };
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

fn deed<'a>(action: &'a str, source: &'a Source) -> Deed<'a> {
    Deed {
        action,
        target_type: "source",
        target_id: source.id.as_str(),
        tenant_id: Some(&source.tenant_id),
        details: json!({
            "name": source.name,
            "type": source.settings.kind(),
            "credential_id": source.credential_id,
        }),
    }
}

/// One that is not deleted.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &SourceId) -> Result<Source> {
    let mut conn = hub.db().conn().await?;
    sources::get_live(&mut conn, scope, id).await.map_err(Error::of("source"))
}

/// Those that are not deleted, newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, page: &Page) -> Result<Vec<Source>> {
    Ok(sources::list(&mut *hub.db().conn().await?, scope, page).await?)
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
    if let Some(config) = &change.config {
        source.settings = parse(source.settings.kind(), config)?;
    }
    if let Some(name) = change.name {
        source.name = name;
    }
    if let Some(credential_id) = change.credential_id {
        source.credential_id = credential_id;
    }
    if let Some(read_back) = change.read_back {
        source.read_back = read_back;
    }
    source.updated_at = hub.clock().now();
    check_credential(&mut tx, &source).await?;
    sources::update(&mut tx, &source).await.map_err(Error::of("source"))?;
    record(&mut tx, hub, who, deed("source.update", &source)).await?;
    tx.commit().await.map_err(DbError::from)?;
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
    source.credential_id = None;
    source.updated_at = hub.clock().now();
    sources::update(&mut tx, &source).await.map_err(Error::of("source"))?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}
