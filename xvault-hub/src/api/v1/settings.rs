//! `/api/v1/settings`

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::TenantId;

use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::{Json, Query};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::tenant_settings;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(get, set))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeSettings {
    /// Whose they are. Operators must say, here or in the query; others may leave it out.
    tenant_id: Option<TenantId>,
    /// Those to change; null gives one its default back.
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
}

/// All settings of a tenant, by key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TenantSettings {
    tenant_id: TenantId,
    /// `download_expiration_hours`: how long a restored archive can be downloaded, 1 to 168. `verify_interval_days`: after how many days
    /// each snapshot is verified again, 0 (never) to 3650. `verify_depth`: how far that goes, `quick`, `deep` or `restore_test`.
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
}

/// Get the settings of a tenant
#[utoipa::path(
    get, path = "/settings", tag = "settings",
    params(NamedTenant),
    responses(
        (status = 200, body = TenantSettings),
    ),
)]
async fn get(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
) -> Result<Json<TenantSettings>> {
    let tenant_id = who.tenant(named.or(None)?)?;
    let settings = tenant_settings::get(&hub, &who.scope(None)?, &tenant_id).await?;
    Ok(Json(TenantSettings { tenant_id, settings }))
}

/// Change settings of a tenant
///
/// All that are named, or none. For admins.
#[utoipa::path(
    put, path = "/settings", tag = "settings",
    params(NamedTenant),
    request_body = ChangeSettings,
    responses(
        (status = 200, body = TenantSettings),
    ),
)]
async fn set(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<ChangeSettings>,
) -> Result<Json<TenantSettings>> {
    who.require(Role::Admin)?;
    let tenant_id = who.tenant(named.or(body.tenant_id)?)?;
    tenant_settings::set(&hub, &who, &tenant_id, &body.settings).await?;
    let settings = tenant_settings::get(&hub, &who.scope(None)?, &tenant_id).await?;
    Ok(Json(TenantSettings { tenant_id, settings }))
}
