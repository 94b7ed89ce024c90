//! `/api/v1/api-keys`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::secret::ExposeSecret as _;
use xvault_core::{ApiKeyId, TenantId, UserId};

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::name;
use crate::api::paging::{TenantPaging, cut};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::api_keys::{self, NewApiKey};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get, revoke))
}

/// A token for programs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ApiKey {
    id: ApiKeyId,
    tenant_id: TenantId,
    name: String,
    role: Role,
    /// The key's first characters.
    hint: String,
    /// Absent: an API key made it, or the user is gone.
    created_by: Option<UserId>,
    /// To the minute.
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<crate::db::api_keys::ApiKey> for ApiKey {
    fn from(row: crate::db::api_keys::ApiKey) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            role: row.role,
            hint: row.hint,
            created_by: row.created_by,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateApiKey {
    /// Whose it is. Operators must say, here or in the query; others may leave it out.
    tenant_id: Option<TenantId>,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// No higher than one's own; never `operator`.
    role: Role,
    /// Absent: it does not end by itself.
    expires_at: Option<Timestamp>,
}

// Without `Debug`, as it holds the key.
/// A new key.
#[derive(Serialize, utoipa::ToSchema)]
struct NewKey {
    #[serde(flatten)]
    api_key: ApiKey,
    /// Shown this once.
    key: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ApiKeys {
    api_keys: Vec<ApiKey>,
    next_cursor: Option<String>,
}

/// Make an API key
///
/// The answer is the only one that shows it. For owners.
#[utoipa::path(
    post, path = "/api-keys", tag = "api-keys",
    params(NamedTenant),
    request_body = CreateApiKey,
    responses(
        (status = 201, body = NewKey),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateApiKey>,
) -> Result<(StatusCode, Json<NewKey>)> {
    who.require(Role::Owner)?;
    if body.role == Role::Operator {
        return Err(Error::invalid_field("role", "an API key belongs to a tenant: owner is the highest"));
    }
    who.require(body.role)?;
    if body.expires_at.is_some_and(|end| end <= hub.clock().now()) {
        return Err(Error::invalid_field("expires_at", "this is in the past"));
    }
    let (tenant_id, name) = (who.tenant(named.or(body.tenant_id)?)?, name("name", &body.name)?);
    let new = NewApiKey { tenant_id, name, role: body.role, expires_at: body.expires_at };
    let (row, secret) = api_keys::create(&hub, &who, new).await?;
    Ok((StatusCode::CREATED, Json(NewKey { api_key: row.into(), key: secret.expose_secret().to_owned() })))
}

/// List API keys
///
/// Newest first, revoked ones too. For owners.
#[utoipa::path(
    get, path = "/api-keys", tag = "api-keys",
    params(TenantPaging),
    responses(
        (status = 200, body = ApiKeys),
    ),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(paging): Query<TenantPaging>,
) -> Result<Json<ApiKeys>> {
    who.require(Role::Owner)?;
    let (named, page) = paging.parts()?;
    let rows = api_keys::list(&hub, &who.scope(named)?, &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.id.as_str());
    Ok(Json(ApiKeys { api_keys: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get an API key
///
/// For owners.
#[utoipa::path(
    get, path = "/api-keys/{id}", tag = "api-keys",
    params(("id" = ApiKeyId, Path)),
    responses(
        (status = 200, body = ApiKey),
    ),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<ApiKeyId>) -> Result<Json<ApiKey>> {
    who.require(Role::Owner)?;
    Ok(Json(api_keys::get(&hub, &who.scope(None)?, &id).await?.into()))
}

/// Revoke an API key
///
/// For good. It stays in the list. For owners.
#[utoipa::path(
    delete, path = "/api-keys/{id}", tag = "api-keys",
    params(("id" = ApiKeyId, Path)),
    responses(
        (status = 204),
    ),
)]
async fn revoke(State(hub): State<Hub>, who: Principal, Path(id): Path<ApiKeyId>) -> Result<StatusCode> {
    who.require(Role::Owner)?;
    api_keys::revoke(&hub, &who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
