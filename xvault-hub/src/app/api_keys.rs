//! API keys: made by owners, shown once, revoked for good.

use jiff::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::secret::SecretString;
use xvault_core::{ApiKeyId, TenantId};

use super::audit::{Deed, record};
use super::tokens::{self, Kind};
use crate::api::error::{Error, Result};
use crate::api::principal::{Actor, Principal, Role};
use crate::db::api_keys::{self, ApiKey};
use crate::db::{Page, Scope, tenants};
use crate::{DbError, Hub};

/// A key to be made.
#[derive(Debug)]
pub(crate) struct NewApiKey {
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Makes a key. The secret is given this once.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewApiKey) -> Result<(ApiKey, SecretString)> {
    let token = tokens::make(Kind::ApiKey)?;
    let key = ApiKey {
        id: ApiKeyId::generate(),
        tenant_id: new.tenant_id,
        name: new.name,
        role: new.role,
        hint: tokens::hint(&token.secret),
        created_by: match &who.actor {
            Actor::User(id) => Some(id.clone()),
            Actor::ApiKey(_) => None,
        },
        last_used_at: None,
        expires_at: new.expires_at,
        revoked_at: None,
        created_at: hub.clock().now(),
    };
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &who.scope(None)?, &key.tenant_id).await.map_err(Error::of("tenant"))?;
    api_keys::insert(&mut tx, &key, &token.hash).await?;
    audit(&mut tx, hub, who, &key, "api_key.create").await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok((key, token.secret))
}

/// One key.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &ApiKeyId) -> Result<ApiKey> {
    api_keys::get(&mut *hub.db().conn().await?, scope, id).await.map_err(Error::of("API key"))
}

/// Keys, newest first, revoked ones too; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, page: &Page) -> Result<Vec<ApiKey>> {
    Ok(api_keys::list(&mut *hub.db().conn().await?, scope, page).await?)
}

/// Revokes a key. Again does no harm.
pub(crate) async fn revoke(hub: &Hub, who: &Principal, id: &ApiKeyId) -> Result<()> {
    let key = get(hub, &who.scope(None)?, id).await?;
    let mut tx = hub.db().begin().await?;
    api_keys::revoke(&mut tx, &key.tenant_id, id, hub.clock().now()).await?;
    if key.revoked_at.is_none() {
        audit(&mut tx, hub, who, &key, "api_key.revoke").await?;
    }
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}

async fn audit(
    conn: &mut AnyConnection,
    hub: &Hub,
    who: &Principal,
    key: &ApiKey,
    action: &str,
) -> Result<()> {
    let deed = Deed {
        action,
        target_type: "api_key",
        target_id: key.id.as_str(),
        tenant_id: Some(&key.tenant_id),
        details: json!({ "name": key.name, "role": key.role, "hint": key.hint }),
    };
    Ok(record(conn, hub, who, deed).await?)
}
