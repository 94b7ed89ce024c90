//! Tenants: made with the age key pair that their snapshots are encrypted to.

use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::{Identity, Recipient, TenantId};
use zeroize::Zeroizing;

use super::audit::{Deed, record};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::status::Status;
use crate::db::{Page, Scope, tenant_keys, tenants};
use crate::{Hub, KeyError, Keys};

/// A tenant with what its snapshots are encrypted to.
#[derive(Debug)]
pub(crate) struct TenantWithKey {
    pub(crate) tenant: tenants::Tenant,
    pub(crate) public_key: Recipient,
}

/// What is to become of a tenant; what is absent stays.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) status: Option<Status>,
}

/// Makes a tenant and its key pair.
pub(crate) async fn create(hub: &Hub, who: &Principal, name: String) -> Result<TenantWithKey> {
    let mut tx = hub.db().begin().await?;
    let made = insert_new(&mut tx, hub, name).await?;
    let details = json!({ "name": made.tenant.name });
    audit(&mut tx, hub, who, &made.tenant.id, "tenant.create", details).await?;
    tx.commit().await.map_err(crate::DbError::from)?;
    Ok(made)
}

/// Inserts a tenant and its key pair. The private key is stored encrypted to the KEK.
pub(crate) async fn insert_new(conn: &mut AnyConnection, hub: &Hub, name: String) -> Result<TenantWithKey> {
    let now = hub.clock().now();
    let tenant = tenants::Tenant {
        id: TenantId::generate(),
        name,
        plan: "free".to_owned(),
        status: Status::Active,
        created_at: now,
        updated_at: now,
    };
    let key = new_key(hub.keys(), &tenant.id)?;
    tenants::insert(conn, &tenant).await?;
    tenant_keys::insert(conn, &key, now).await?;
    Ok(TenantWithKey { tenant, public_key: key.public_key })
}

/// Renames, disables or enables a tenant. Its users and keys are refused from then on, or let in again.
pub(crate) async fn update(
    hub: &Hub,
    who: &Principal,
    id: &TenantId,
    change: Change,
) -> Result<TenantWithKey> {
    let mut tx = hub.db().begin().await?;
    tenants::hold(&mut tx, id).await.map_err(Error::of("tenant"))?;
    let mut tenant = tenants::get(&mut tx, &who.scope(None)?, id).await.map_err(Error::of("tenant"))?;
    tenant.name = change.name.unwrap_or(tenant.name);
    tenant.status = change.status.unwrap_or(tenant.status);
    tenant.updated_at = hub.clock().now();
    tenants::update(&mut tx, &tenant).await?;
    let details = json!({ "name": tenant.name, "status": tenant.status });
    audit(&mut tx, hub, who, id, "tenant.update", details).await?;
    tx.commit().await.map_err(crate::DbError::from)?;
    get(hub, &who.scope(None)?, id).await
}

/// The tenant's identities as an age key file, newest first: what opens its snapshots without us. Audited.
pub(crate) async fn export_identity(hub: &Hub, who: &Principal, id: &TenantId) -> Result<SecretString> {
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &who.scope(None)?, id).await.map_err(Error::of("tenant"))?;
    let mut file = Zeroizing::new(String::new());
    for key in tenant_keys::all(&mut tx, id).await? {
        let (Some(sealed), Some(kek)) = (&key.encrypted_private_key, &key.kek_id) else { continue };
        let opened = hub.keys().open(sealed, kek)?;
        let identity = Zeroizing::new(String::from_utf8_lossy(opened.expose_secret()).into_owned());
        file.push_str(&format!("# public key: {}\n", key.public_key));
        file.push_str(identity.trim_end());
        file.push('\n');
    }
    if file.is_empty() {
        return Err(Error::conflict(
            "no_identity",
            "the tenant keeps its identity itself; the platform has none",
        ));
    }
    audit(&mut tx, hub, who, id, "tenant.export_identity", json!({})).await?;
    tx.commit().await.map_err(crate::DbError::from)?;
    Ok(SecretString::from(file.as_str()))
}

/// Writes down what was done to a tenant.
pub(super) async fn audit(
    conn: &mut AnyConnection,
    hub: &Hub,
    who: &Principal,
    id: &TenantId,
    action: &str,
    details: Value,
) -> Result<()> {
    let (target_id, tenant_id) = (id.as_str(), Some(id));
    let deed = Deed { action, target_type: "tenant", target_id, tenant_id, details };
    Ok(record(conn, hub, who, deed).await?)
}

/// A new key pair of a tenant, the private key encrypted to the KEK.
pub(crate) fn new_key(
    keys: &Keys,
    tenant_id: &TenantId,
) -> std::result::Result<tenant_keys::TenantKey, KeyError> {
    let identity = Identity::generate();
    let sealed = keys.seal(identity.to_secret().expose_secret().as_bytes())?;
    Ok(tenant_keys::TenantKey {
        id: xvault_core::clock::new_id(),
        tenant_id: tenant_id.clone(),
        public_key: identity.recipient(),
        encrypted_private_key: Some(sealed),
        kek_id: Some(keys.current_id()),
        purpose: "all".to_owned(),
    })
}

/// One tenant.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &TenantId) -> Result<TenantWithKey> {
    let mut conn = hub.db().conn().await?;
    let tenant = tenants::get(&mut conn, scope, id).await.map_err(Error::of("tenant"))?;
    let keys = tenant_keys::active(&mut conn, id).await?;
    let public_key = keys.into_iter().next().ok_or(crate::DbError::NotFound)?.public_key;
    Ok(TenantWithKey { tenant, public_key })
}

/// All tenants, newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, page: &Page) -> Result<Vec<tenants::Tenant>> {
    Ok(tenants::list(&mut *hub.db().conn().await?, page).await?)
}
