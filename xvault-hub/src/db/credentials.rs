//! Table `credentials`: what is known about each secret, and the secret itself only where it is asked for by name.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{CredentialId, TenantId};

use super::{Page, Result, Scope, instant, instant_opt, parsed, touched};

/// What a credential opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CredentialKind {
    /// A system that is backed up.
    Source,
    /// A place that snapshots lie in.
    Storage,
}

impl CredentialKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Storage => "storage",
        }
    }
}

impl FromStr for CredentialKind {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "source" => Ok(Self::Source),
            "storage" => Ok(Self::Storage),
            _ => Err(()),
        }
    }
}

/// A row without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) id: CredentialId,
    pub(crate) tenant_id: TenantId,
    pub(crate) kind: CredentialKind,
    pub(crate) name: String,
    pub(crate) rotated_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A secret as it is stored: an age file to the KEK `kek_id`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredSecret {
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) kek_id: String,
}

impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredSecret({} bytes to {})", self.ciphertext.len(), self.kek_id)
    }
}

/// All columns but the secret: lists need not carry it.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, kind, name, rotated_at, created_at, updated_at FROM credentials ",
            $rest
        )
    };
}

fn from_row(row: &AnyRow) -> Result<Credential> {
    Ok(Credential {
        id: parsed(row, "id")?,
        tenant_id: parsed(row, "tenant_id")?,
        kind: parsed(row, "kind")?,
        name: row.try_get("name")?,
        rotated_at: instant_opt(row, "rotated_at")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

pub(crate) async fn insert(
    conn: &mut AnyConnection,
    credential: &Credential,
    secret: &StoredSecret,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO credentials (id, tenant_id, kind, name, ciphertext, key_id, rotated_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(credential.id.as_str())
    .bind(credential.tenant_id.as_str())
    .bind(credential.kind.as_str())
    .bind(&credential.name)
    .bind(&secret.ciphertext[..])
    .bind(&secret.kek_id)
    .bind(credential.rotated_at.map(Timestamp::as_millisecond))
    .bind(credential.created_at.as_millisecond())
    .bind(credential.updated_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &CredentialId) -> Result<Credential> {
    let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_one(conn).await?;
    let found = from_row(&row)?;
    if scope.admits(&found.tenant_id) { Ok(found) } else { Err(super::Error::NotFound) }
}

/// A secret, still encrypted.
pub(crate) async fn secret(conn: &mut AnyConnection, id: &CredentialId) -> Result<StoredSecret> {
    let query = sqlx::query("SELECT ciphertext, key_id FROM credentials WHERE id = $1");
    let row = query.bind(id.as_str()).fetch_one(conn).await?;
    Ok(StoredSecret { ciphertext: row.try_get("ciphertext")?, kek_id: row.try_get("key_id")? })
}

pub(crate) async fn list(conn: &mut AnyConnection, scope: &Scope, page: &Page) -> Result<Vec<Credential>> {
    let query = match scope {
        Scope::Tenant(tenant) => {
            sqlx::query(select!("WHERE id < $1 AND tenant_id = $3 ORDER BY id DESC LIMIT $2"))
                .bind(page.before())
                .bind(page.probe_limit())
                .bind(tenant.as_str())
        }
        Scope::All => sqlx::query(select!("WHERE id < $1 ORDER BY id DESC LIMIT $2"))
            .bind(page.before())
            .bind(page.probe_limit()),
    };
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// Puts another secret in the place of the old one, which is gone then.
pub(crate) async fn rotate(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
    id: &CredentialId,
    secret: &StoredSecret,
    now: Timestamp,
) -> Result<()> {
    let done = sqlx::query(
        "UPDATE credentials SET ciphertext = $3, key_id = $4, rotated_at = $5, updated_at = $5
         WHERE id = $1 AND tenant_id = $2",
    )
    .bind(id.as_str())
    .bind(tenant_id.as_str())
    .bind(&secret.ciphertext[..])
    .bind(&secret.kek_id)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&done)
}

/// [`super::Error::InUse`] while a source or a store refers to it: the foreign keys see to that.
pub(crate) async fn delete(conn: &mut AnyConnection, tenant_id: &TenantId, id: &CredentialId) -> Result<()> {
    let done = sqlx::query("DELETE FROM credentials WHERE id = $1 AND tenant_id = $2")
        .bind(id.as_str())
        .bind(tenant_id.as_str())
        .execute(conn)
        .await?;
    touched(&done)
}
