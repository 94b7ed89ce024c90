//! `/api/v1/credentials`

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::secret::{ExposeSecret, SecretString, from_file_bytes};
use xvault_core::{CredentialId, TenantId};
use zeroize::Zeroizing;

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::{Name, name};
use crate::api::paging::{TenantPaging, cut};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::credentials::{self, NewCredential};
use crate::db;
use crate::db::credentials::CredentialKind;

/// The longest secret: keys of 16384 bits take some 13 KiB.
const MAX_SECRET: usize = 64 << 10;
/// As long in base64.
const MAX_BASE64: usize = MAX_SECRET.div_ceil(3) * 4;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get, delete)).routes(routes!(rotate))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateCredential {
    /// Whose it is. Operators must say, here or in the query; others may leave it out.
    tenant_id: Option<TenantId>,
    kind: CredentialKind,
    /// For people.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// The password or the private key itself, UTF-8 text in base64; of a database behind an SSH server with a password of its own,
    /// the JSON object `{"password": "…", "ssh": "…"}`. One line end at its end is dropped.
    #[schema(value_type = String, format = Byte, min_length = 4, max_length = 87384)]
    plaintext: SecretString,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateCredential {
    /// The new password, private key or JSON object of both, UTF-8 text in base64. One line end at its end is dropped.
    #[schema(value_type = String, format = Byte, min_length = 4, max_length = 87384)]
    plaintext: SecretString,
}

/// What is known about a secret. The secret itself is never shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Credential {
    id: CredentialId,
    tenant_id: TenantId,
    kind: CredentialKind,
    name: String,
    /// When its secret was last replaced.
    rotated_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Credentials {
    credentials: Vec<Credential>,
    next_cursor: Option<String>,
}

impl From<db::credentials::Credential> for Credential {
    fn from(row: db::credentials::Credential) -> Self {
        let db::credentials::Credential { id, tenant_id, kind, name, rotated_at, created_at, updated_at } =
            row;
        Self { id, tenant_id, kind, name, rotated_at, created_at, updated_at }
    }
}

/// The secret that a request carries.
fn secret(plaintext: &SecretString) -> Result<SecretString> {
    let invalid = |reason: &str| Error::invalid_field("plaintext", reason);
    let text = plaintext.expose_secret();
    if text.len() > MAX_BASE64 {
        return Err(invalid("at most 64 KiB are possible"));
    }
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| invalid("it is not base64"))?);
    from_file_bytes(bytes.to_vec()).map_err(|error| invalid(&error.to_string()))
}

/// Keep a credential
///
/// It is encrypted at once, and only ever opened for a worker that runs a job of a source that uses it.
#[utoipa::path(
    post, path = "/credentials", tag = "credentials",
    params(NamedTenant),
    request_body = CreateCredential,
    responses((status = 201, body = Credential)),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateCredential>,
) -> Result<(StatusCode, Json<Credential>)> {
    who.require(Role::Admin)?;
    let new = NewCredential {
        tenant_id: who.tenant(named.or(body.tenant_id)?)?,
        kind: body.kind,
        name: body.name.map(|text| name("name", &text)).transpose()?.unwrap_or_default(),
        secret: secret(&body.plaintext)?,
    };
    Ok((StatusCode::CREATED, Json(credentials::create(&hub, &who, new).await?.into())))
}

/// List credentials
///
/// Newest first, without their secrets.
#[utoipa::path(
    get, path = "/credentials", tag = "credentials",
    params(TenantPaging),
    responses((status = 200, body = Credentials)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<TenantPaging>,
) -> Result<Json<Credentials>> {
    let (tenant_id, page) = query.parts()?;
    let rows = credentials::list(&hub, &who.scope(tenant_id)?, &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.id.as_str());
    Ok(Json(Credentials { credentials: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a credential
///
/// Without its secret.
#[utoipa::path(
    get, path = "/credentials/{id}", tag = "credentials",
    params(("id" = CredentialId, Path)),
    responses((status = 200, body = Credential)),
)]
async fn get(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<CredentialId>,
) -> Result<Json<Credential>> {
    Ok(Json(credentials::get(&hub, &who.scope(None)?, &id).await?.into()))
}

/// Delete a credential
///
/// Not while a source uses it.
#[utoipa::path(
    delete, path = "/credentials/{id}", tag = "credentials",
    params(("id" = CredentialId, Path)),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, description = "A source uses it (`in_use`).", body = ErrorBody),
    ),
)]
async fn delete(State(hub): State<Hub>, who: Principal, Path(id): Path<CredentialId>) -> Result<StatusCode> {
    who.require(Role::Admin)?;
    credentials::delete(&hub, &who, &who.scope(None)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace a credential's secret
///
/// The old one is gone. Sources go on using the credential, and their next job gets the new secret.
#[utoipa::path(
    post, path = "/credentials/{id}/rotate", tag = "credentials",
    params(("id" = CredentialId, Path)),
    request_body = RotateCredential,
    responses((status = 200, body = Credential)),
)]
async fn rotate(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<CredentialId>,
    Json(body): Json<RotateCredential>,
) -> Result<Json<Credential>> {
    who.require(Role::Admin)?;
    let secret = secret(&body.plaintext)?;
    Ok(Json(credentials::rotate(&hub, &who, &who.scope(None)?, &id, &secret).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_in_base64_is_a_secret() {
        let read = |text: &str| secret(&SecretString::from(text)).map(|s| s.expose_secret().to_owned());
        assert_eq!(read("dGVzdC1wYXNz").unwrap(), "test-pass");
        assert_eq!(read("dGVzdC1wYXNzCg==").unwrap(), "test-pass");
        for bad in ["", "Cg==", "/w==", "dGVzdC1wYXN", "not base64", &"AAAA".repeat(MAX_BASE64 / 4 + 1)] {
            let error = format!("{:?}", read(bad).unwrap_err());
            assert!(error.contains("plaintext"), "{error}");
        }
    }
}
