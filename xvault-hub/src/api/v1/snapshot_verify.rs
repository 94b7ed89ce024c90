//! `/api/v1/snapshots/{id}/verify`

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::protocol::VerifyDepth;
use xvault_core::{SnapshotId, StoreId};

use super::jobs::Job;
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::{Json, Path};
use crate::api::principal::{Principal, Role};
use crate::app::verify;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(verify_snapshot))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifySnapshot {
    /// How far to go; `quick` when absent.
    depth: Option<VerifyDepth>,
    /// The store to look into, one of the snapshot's `locators`; the place where it lies first of all when absent.
    from_store: Option<StoreId>,
}

/// Verify a snapshot
///
/// The answer is the job that does it, where the snapshot lies. What it finds is in the job and in the snapshot, of a copy in its entry
/// in `locators`; damage is a finding, not a failure: the job is completed, and the snapshot, or that copy, is marked. A store that can't be asked fails the job and marks nothing.
/// While a verification that goes as far is under way, it is that one.
#[utoipa::path(
    post, path = "/snapshots/{id}/verify", tag = "snapshots",
    operation_id = "verify_snapshot",
    params(("id" = SnapshotId, Path)),
    request_body = VerifySnapshot,
    responses(
        (status = 202, body = Job),
        (status = 409, body = ErrorBody, description = "It is being deleted (`deleting`), its tenant is disabled (`tenant_disabled`) or \
            keeps its identity itself, so that only `quick` is possible here (`no_identity`, with the command that does more), \
            does not lie in `from_store` (`no_copy`), or a verification is under way that goes less far or looks elsewhere \
            (`verify_running`)."),
    ),
)]
async fn verify_snapshot(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
    Json(body): Json<VerifySnapshot>,
) -> Result<(StatusCode, Json<Job>)> {
    who.require(Role::Member)?;
    let VerifySnapshot { depth, from_store } = body;
    let wish = verify::Wish { snapshot_id: id, depth: depth.unwrap_or(VerifyDepth::Quick), from_store };
    let job = verify::verify(&hub, &who, &who.scope(None)?, &wish).await?;
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}
