//! `/api/v1/admin`: the lists of all tenants, for operators.

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::jobs::{Jobs, ListJobs};
use super::snapshots::{ListSnapshots, Snapshots};
use super::sources::{ListSources, Sources};
use super::tenants::Tenants;
use super::{jobs, snapshots, sources, tenants};
use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::{Json, Query};
use crate::api::paging::Paging;
use crate::api::principal::{Principal, Role};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list_tenants))
        .routes(routes!(list_sources))
        .routes(routes!(list_jobs))
        .routes(routes!(list_snapshots))
}

/// List all tenants
#[utoipa::path(
    get, path = "/admin/tenants", tag = "admin",
    params(Paging),
    responses((status = 200, body = Tenants)),
)]
async fn list_tenants(
    State(hub): State<Hub>,
    who: Principal,
    Query(paging): Query<Paging>,
) -> Result<Json<Tenants>> {
    who.require(Role::Operator)?;
    tenants::answer_list(&hub, &paging.page()?).await
}

/// List the sources of all tenants, or of one
#[utoipa::path(
    get, path = "/admin/sources", tag = "admin",
    params(ListSources),
    responses((status = 200, body = Sources)),
)]
async fn list_sources(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListSources>,
) -> Result<Json<Sources>> {
    who.require(Role::Operator)?;
    let scope = who.scope(query.tenant_id.clone())?;
    sources::answer_list(&hub, &scope, query).await
}

/// List the jobs of all tenants, or of one
#[utoipa::path(
    get, path = "/admin/jobs", tag = "admin",
    params(ListJobs),
    responses((status = 200, body = Jobs)),
)]
async fn list_jobs(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListJobs>,
) -> Result<Json<Jobs>> {
    who.require(Role::Operator)?;
    let (tenant_id, filter, page) = query.parts()?;
    jobs::answer_list(&hub, &who.scope(tenant_id)?, &filter, &page).await
}

/// List the snapshots of all tenants, or of one
#[utoipa::path(
    get, path = "/admin/snapshots", tag = "admin",
    params(ListSnapshots),
    responses((status = 200, body = Snapshots)),
)]
async fn list_snapshots(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListSnapshots>,
) -> Result<Json<Snapshots>> {
    who.require(Role::Operator)?;
    let (tenant_id, filter, page) = query.parts()?;
    snapshots::answer_list(&hub, &who.scope(tenant_id)?, &filter, &page).await
}
