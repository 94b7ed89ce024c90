//! Credentials: encrypted to the KEK on their way in, and opened for nobody but a worker with a lease.

use serde_json::json;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::{CredentialId, TenantId};

use super::audit::{Deed, record};
use super::jobs::test_seconds_soon;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::credentials::{Credential, CredentialKind, StoredSecret};
use crate::db::{Page, Scope, credentials, stores, tenants};
use crate::{DbError, Hub};

/// A credential to be.
#[derive(Debug)]
pub(crate) struct NewCredential {
    pub(crate) tenant_id: TenantId,
    pub(crate) kind: CredentialKind,
    pub(crate) name: String,
    pub(crate) secret: SecretString,
}

/// Keeps a secret.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewCredential) -> Result<Credential> {
    let now = hub.clock().now();
    let NewCredential { tenant_id, kind, name, secret } = new;
    let credential = Credential {
        id: CredentialId::generate(),
        tenant_id,
        kind,
        name,
        rotated_at: None,
        created_at: now,
        updated_at: now,
    };
    let stored = seal(hub, &secret)?;
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &Scope::All, &credential.tenant_id).await.map_err(Error::of("tenant"))?;
    credentials::insert(&mut tx, &credential, &stored).await?;
    record(&mut tx, hub, who, deed("credential.create", &credential)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(credential)
}

fn seal(hub: &Hub, secret: &SecretString) -> Result<StoredSecret> {
    let ciphertext = hub.keys().seal(secret.expose_secret().as_bytes())?;
    Ok(StoredSecret { ciphertext, kek_id: hub.keys().current_id() })
}

fn deed<'a>(action: &'a str, credential: &'a Credential) -> Deed<'a> {
    Deed {
        action,
        target_type: "credential",
        target_id: credential.id.as_str(),
        tenant_id: Some(&credential.tenant_id),
        details: json!({ "kind": credential.kind, "name": credential.name }),
    }
}

/// What is known about one, besides its secret.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &CredentialId) -> Result<Credential> {
    let mut conn = hub.db().conn().await?;
    credentials::get(&mut conn, scope, id).await.map_err(Error::of("credential"))
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, page: &Page) -> Result<Vec<Credential>> {
    Ok(credentials::list(&mut *hub.db().conn().await?, scope, page).await?)
}

/// Replaces the secret. Jobs that are claimed from now on get the new one.
pub(crate) async fn rotate(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &CredentialId,
    secret: &SecretString,
) -> Result<Credential> {
    let stored = seal(hub, secret)?;
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    let found = credentials::get(&mut tx, scope, id).await.map_err(Error::of("credential"))?;
    credentials::rotate(&mut tx, &found.tenant_id, id, &stored, now)
        .await
        .map_err(Error::of("credential"))?;
    stores::forget_rights(&mut tx, id, now).await?;
    record(&mut tx, hub, who, deed("credential.rotate", &found)).await?;
    tx.commit().await.map_err(DbError::from)?;
    if found.kind == CredentialKind::Storage {
        test_seconds_soon(hub);
    }
    Ok(Credential { rotated_at: Some(now), updated_at: now, ..found })
}

/// Forgets a secret that nothing refers to.
pub(crate) async fn delete(hub: &Hub, who: &Principal, scope: &Scope, id: &CredentialId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    let found = credentials::get(&mut tx, scope, id).await.map_err(Error::of("credential"))?;
    credentials::delete(&mut tx, &found.tenant_id, id).await.map_err(|error| match error {
        DbError::InUse => {
            Error::conflict("in_use", "a source uses this credential: give it another one first")
        }
        error => Error::of("credential")(error),
    })?;
    record(&mut tx, hub, who, deed("credential.delete", &found)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}
