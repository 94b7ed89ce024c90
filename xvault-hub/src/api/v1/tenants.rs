//! `/api/v1/tenants`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::TenantId;
use xvault_core::secret::ExposeSecret as _;

use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::name;
use crate::api::paging::{Paging, cut};
use crate::api::principal::{Principal, Role};
use crate::app::tenants::{self, Change, TenantWithKey};
use crate::db::Page;
use crate::db::status::Status;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update))
        .routes(routes!(export_identity))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTenant {
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateTenant {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    status: Option<Status>,
}

/// Who owns sources and snapshots.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Tenant {
    id: TenantId,
    name: String,
    plan: String,
    status: Status,
    /// What its snapshots are encrypted to: an age recipient. Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Tenants {
    tenants: Vec<Tenant>,
    next_cursor: Option<String>,
}

impl From<crate::db::tenants::Tenant> for Tenant {
    fn from(row: crate::db::tenants::Tenant) -> Self {
        let crate::db::tenants::Tenant { id, name, plan, status, created_at, updated_at } = row;
        Self { id, name, plan, status, public_key: None, created_at, updated_at }
    }
}

impl From<TenantWithKey> for Tenant {
    fn from(found: TenantWithKey) -> Self {
        Self { public_key: Some(found.public_key.to_string()), ..found.tenant.into() }
    }
}

/// Make a tenant
///
/// Its age key pair is made with it; `public_key` is what its snapshots are encrypted to. Operators only.
#[utoipa::path(
    post, path = "/tenants", tag = "tenants",
    request_body = CreateTenant,
    responses(
        (status = 201, body = Tenant),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Json(body): Json<CreateTenant>,
) -> Result<(StatusCode, Json<Tenant>)> {
    who.require(Role::Operator)?;
    let made = tenants::create(&hub, &who, name("name", &body.name)?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// List tenants
///
/// Newest first. Operators only.
#[utoipa::path(
    get, path = "/tenants", tag = "tenants",
    params(Paging),
    responses(
        (status = 200, body = Tenants),
    ),
)]
async fn list(State(hub): State<Hub>, who: Principal, Query(paging): Query<Paging>) -> Result<Json<Tenants>> {
    who.require(Role::Operator)?;
    answer_list(&hub, &paging.page()?).await
}

/// A page of tenants.
pub(super) async fn answer_list(hub: &Hub, page: &Page) -> Result<Json<Tenants>> {
    let (rows, next_cursor) = cut(page, tenants::list(hub, page).await?, |row| row.id.as_str());
    Ok(Json(Tenants { tenants: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a tenant
#[utoipa::path(
    get, path = "/tenants/{id}", tag = "tenants",
    params(("id" = TenantId, Path)),
    responses(
        (status = 200, body = Tenant),
    ),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<TenantId>) -> Result<Json<Tenant>> {
    Ok(Json(tenants::get(&hub, &who.scope(None)?, &id).await?.into()))
}

/// Update a tenant
///
/// Changes what is named. Users, API keys and new jobs of a disabled tenant are refused, and its queued jobs fail with `disabled`
/// when a worker would take them. Operators only.
#[utoipa::path(
    put, path = "/tenants/{id}", tag = "tenants",
    params(("id" = TenantId, Path)),
    request_body = UpdateTenant,
    responses(
        (status = 200, body = Tenant),
    ),
)]
async fn update(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<TenantId>,
    Json(body): Json<UpdateTenant>,
) -> Result<Json<Tenant>> {
    who.require(Role::Operator)?;
    let name = body.name.map(|text| name("name", &text)).transpose()?;
    let change = Change { name, status: body.status };
    Ok(Json(tenants::update(&hub, &who, &id, change).await?.into()))
}

/// What opens a tenant's snapshots.
#[derive(Serialize, utoipa::ToSchema)]
struct ExportedIdentity {
    /// An age key file: `age -d -i FILE` opens every snapshot of the tenant with it. Keep it as you keep the data.
    identity: String,
}

/// Export a tenant's identity
///
/// The private keys that its snapshots are encrypted to, as an age key file, so that they can be opened without this
/// platform. For owners and operators; each export is audited.
#[utoipa::path(
    post, path = "/tenants/{id}/identity", tag = "tenants",
    params(("id" = TenantId, Path)),
    responses(
        (status = 200, body = ExportedIdentity),
    ),
)]
async fn export_identity(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<TenantId>,
) -> Result<Json<ExportedIdentity>> {
    who.require(Role::Owner)?;
    let identity = tenants::export_identity(&hub, &who, &id).await?;
    Ok(Json(ExportedIdentity { identity: identity.expose_secret().to_owned() }))
}
