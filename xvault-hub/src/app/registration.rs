//! Registration: a stranger makes a tenant and becomes its owner, where the platform lets them.

use std::net::IpAddr;

use serde_json::json;
use xvault_core::secret::SecretString;

use super::audit::{Deed, record};
use super::auth::principal;
use super::email::Email;
use super::sessions::{self, Session};
use super::tenants::{self, TenantWithKey};
use super::users::{self, NewUser};
use crate::api::error::{Error, Result};
use crate::api::principal::Role;
use crate::{DbError, Hub, Registration};

/// Makes a tenant, its key pair, and its owner, who is logged in.
pub(crate) async fn register(
    hub: &Hub,
    ip: Option<IpAddr>,
    tenant_name: String,
    email: Email,
    password: SecretString,
) -> Result<(TenantWithKey, Session)> {
    if hub.settings().registration == Registration::Closed {
        return Err(Error::forbidden("registration is closed: ask an operator for an account"));
    }
    hub.limits().by_address(ip)?;
    users::check_free(&mut *hub.db().conn().await?, &email).await?;
    let hash = hub.passwords().hash(password.clone()).await?.into();
    let mut tx = hub.db().begin().await?;
    let made = tenants::insert_new(&mut tx, hub, tenant_name).await?;
    let tenant_id = made.tenant.id.clone();
    let new = NewUser { tenant_id: Some(tenant_id.clone()), email, password, role: Role::Owner };
    let user = new.row(hub.clock().now());
    users::insert(&mut tx, &user, &hash).await?;
    let deed = Deed {
        action: "tenant.register",
        target_type: "tenant",
        target_id: tenant_id.as_str(),
        tenant_id: Some(&tenant_id),
        details: json!({ "name": made.tenant.name, "email": user.email.as_str() }),
    };
    record(&mut tx, hub, &principal(&user, ip), deed).await?;
    tx.commit().await.map_err(DbError::from)?;
    let session = sessions::open(hub, user, ip).await?;
    Ok((made, session))
}
