//! `/api/v1/workers`: the programs that do the work, for operators.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::WorkerId;
use xvault_core::protocol::WorkerMetrics;
use xvault_core::secret::{ExposeSecret, SecretString};

use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::{Name, name};
use crate::api::paging::{Paging, cut};
use crate::api::principal::{Principal, Role};
use crate::app::fleet;
use crate::db;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, delete))
        .routes(routes!(rotate_token))
        .routes(routes!(drain))
        .routes(routes!(undrain))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateWorker {
    /// Chosen by hand: `worker-1`. It is part of where its snapshots are known to lie.
    id: WorkerId,
    /// For people; the id when absent.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
}

/// What a worker last said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum WorkerStatus {
    /// It was heard of, and takes jobs.
    Online,
    /// It was not heard of for a while.
    Offline,
    /// It takes no more jobs.
    Draining,
}

/// A program that does the work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Worker {
    id: WorkerId,
    name: String,
    status: WorkerStatus,
    /// Whether an operator wants it to take no more jobs.
    drain: bool,
    /// What secrets for it are sealed to; absent until it registers.
    recipient: Option<String>,
    version: Option<String>,
    /// The types of sources it can pull.
    capabilities: Vec<String>,
    /// How many jobs it runs at a time.
    concurrency: u64,
    /// Where its snapshots lie.
    storage_base_path: Option<String>,
    /// What links to its downloads begin with. Null: it serves none.
    download_url: Option<String>,
    /// As of its last heartbeat.
    metrics: Option<WorkerMetrics>,
    last_seen_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Workers {
    workers: Vec<Worker>,
    next_cursor: Option<String>,
}

/// A worker with its token, which is shown this once.
#[derive(Serialize, utoipa::ToSchema)]
struct WorkerWithToken {
    worker: Worker,
    /// For `WORKER_TOKEN`. The hub keeps only a hash of it.
    #[schema(pattern = "^xvw_[a-zA-Z0-9_-]{43}$")]
    token: String,
}

impl WorkerWithToken {
    fn new(row: db::workers::Worker, token: &SecretString) -> Self {
        Self { worker: row.into(), token: token.expose_secret().to_owned() }
    }
}

impl From<db::workers::Worker> for Worker {
    fn from(row: db::workers::Worker) -> Self {
        let status = match row.status.as_str() {
            "online" => WorkerStatus::Online,
            "draining" => WorkerStatus::Draining,
            _ => WorkerStatus::Offline,
        };
        Self {
            id: row.id,
            name: row.name,
            status,
            drain: row.drain,
            recipient: row.recipient.map(|recipient| recipient.to_string()),
            version: row.version,
            capabilities: row.capabilities,
            concurrency: row.concurrency.unsigned_abs(),
            storage_base_path: row.storage_base_path,
            download_url: row.download_url,
            metrics: row.metrics,
            last_seen_at: row.last_seen_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Make a worker and its token
///
/// The token is shown this once. Operators only, as all of `/workers`.
#[utoipa::path(
    post, path = "/workers", tag = "workers",
    request_body = CreateWorker,
    responses(
        (status = 201, body = WorkerWithToken),
        (status = 409, body = ErrorBody, description = "There is one with this id (`duplicate`)."),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Json(body): Json<CreateWorker>,
) -> Result<(StatusCode, Json<WorkerWithToken>)> {
    who.require(Role::Operator)?;
    let name = body.name.map(|text| name("name", &text)).transpose()?;
    let (worker, token) = fleet::create(&hub, &who, &body.id, name.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(WorkerWithToken::new(worker, &token))))
}

/// List workers
///
/// By id, backwards.
#[utoipa::path(
    get, path = "/workers", tag = "workers",
    params(Paging),
    responses((status = 200, body = Workers)),
)]
async fn list(State(hub): State<Hub>, who: Principal, Query(paging): Query<Paging>) -> Result<Json<Workers>> {
    who.require(Role::Operator)?;
    let page = paging.page()?;
    let (rows, next_cursor) = cut(&page, fleet::list(&hub, &page).await?, |row| row.id.as_str());
    Ok(Json(Workers { workers: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a worker
#[utoipa::path(
    get, path = "/workers/{id}", tag = "workers",
    params(("id" = WorkerId, Path)),
    responses((status = 200, body = Worker)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<WorkerId>) -> Result<Json<Worker>> {
    who.require(Role::Operator)?;
    Ok(Json(fleet::get(&hub, &id).await?.into()))
}

/// Delete a worker
///
/// Its token is void. Not while snapshots lie on its disk, or jobs wait for it.
#[utoipa::path(
    delete, path = "/workers/{id}", tag = "workers",
    params(("id" = WorkerId, Path)),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, body = ErrorBody, description = "Snapshots lie on its disk, or a job waits for it (`in_use`)."),
    ),
)]
async fn delete(State(hub): State<Hub>, who: Principal, Path(id): Path<WorkerId>) -> Result<StatusCode> {
    who.require(Role::Operator)?;
    fleet::delete(&hub, &who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a worker a new token
///
/// The old one is void at once.
#[utoipa::path(
    post, path = "/workers/{id}/token", tag = "workers",
    params(("id" = WorkerId, Path)),
    responses((status = 200, body = WorkerWithToken)),
)]
async fn rotate_token(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<WorkerId>,
) -> Result<Json<WorkerWithToken>> {
    who.require(Role::Operator)?;
    let (worker, token) = fleet::rotate_token(&hub, &who, &id).await?;
    Ok(Json(WorkerWithToken::new(worker, &token)))
}

/// Let a worker take no more jobs
///
/// It finishes what it has, and goes on doing what only it can: deleting snapshots on its disk.
#[utoipa::path(
    post, path = "/workers/{id}/drain", tag = "workers",
    params(("id" = WorkerId, Path)),
    responses((status = 200, body = Worker)),
)]
async fn drain(State(hub): State<Hub>, who: Principal, Path(id): Path<WorkerId>) -> Result<Json<Worker>> {
    who.require(Role::Operator)?;
    Ok(Json(fleet::set_drain(&hub, &who, &id, true).await?.into()))
}

/// Let a worker take jobs again
#[utoipa::path(
    post, path = "/workers/{id}/undrain", tag = "workers",
    params(("id" = WorkerId, Path)),
    responses((status = 200, body = Worker)),
)]
async fn undrain(State(hub): State<Hub>, who: Principal, Path(id): Path<WorkerId>) -> Result<Json<Worker>> {
    who.require(Role::Operator)?;
    Ok(Json(fleet::set_drain(&hub, &who, &id, false).await?.into()))
}
