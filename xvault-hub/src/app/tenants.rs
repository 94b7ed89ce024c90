//! Tenants: made with the age key pair that their snapshots are encrypted to.

use serde_json::json;
use xvault_core::secret::ExposeSecret;
use xvault_core::{Identity, Recipient, TenantId};

use super::audit::{Deed, record};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::{Page, Scope, tenant_keys, tenants};

/// A tenant with what its snapshots are encrypted to.
#[derive(Debug)]
pub(crate) struct TenantWithKey {
    pub(crate) tenant: tenants::Tenant,
    pub(crate) public_key: Recipient,
}

/// Makes a tenant and its key pair. The private key is stored encrypted to the KEK.
pub(crate) async fn create(hub: &Hub, who: &Principal, name: String) -> Result<TenantWithKey> {
    let now = hub.clock().now();
    let tenant = tenants::Tenant {
        id: TenantId::generate(),
        name,
        plan: "free".to_owned(),
        status: "active".to_owned(),
        created_at: now,
        updated_at: now,
    };
    let key = new_key(hub, &tenant.id)?;
    let mut tx = hub.db().begin().await?;
    tenants::insert(&mut tx, &tenant).await?;
    tenant_keys::insert(&mut tx, &key, now).await?;
    let deed = Deed {
        action: "tenant.create",
        target_type: "tenant",
        target_id: tenant.id.as_str(),
        tenant_id: Some(&tenant.id),
        details: json!({ "name": tenant.name }),
    };
    record(&mut tx, hub, who, deed).await?;
    tx.commit().await.map_err(crate::DbError::from)?;
    Ok(TenantWithKey { tenant, public_key: key.public_key })
}

fn new_key(hub: &Hub, tenant_id: &TenantId) -> Result<tenant_keys::TenantKey> {
    let identity = Identity::generate();
    let sealed = hub.keys().seal(identity.to_secret().expose_secret().as_bytes())?;
    Ok(tenant_keys::TenantKey {
        id: xvault_core::clock::new_id(),
        tenant_id: tenant_id.clone(),
        public_key: identity.recipient(),
        encrypted_private_key: Some(sealed),
        kek_id: Some(hub.keys().current_id()),
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
