//! `/api/v1/snapshots`, and those of a source.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::protocol::VerifyDepth;
use xvault_core::snapshot::Locator;
use xvault_core::{JobId, Manifest, SnapshotId, SourceId, StoreId, TenantId, WorkerId};

use super::jobs::Job;
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::{Name, name};
use crate::api::paging::{Paging, cut, page};
use crate::api::principal::{Principal, Role};
use crate::app::{copies, holds, jobs, snapshots};
use crate::db;
use crate::db::snapshot_copies::Copy;
use crate::db::snapshots::{Filter, SnapshotStatus, Soundness};
use crate::db::{Page, Scope};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, delete))
        .routes(routes!(hold, release))
        .routes(routes!(of_source))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListSnapshots {
    /// Whose: for operators, who see everybody's otherwise.
    pub(super) tenant_id: Option<TenantId>,
    /// Only those of this source.
    source_id: Option<SourceId>,
    /// Only those that stand there.
    status: Option<SnapshotStatus>,
    /// Only those that are known to be damaged; false: only the others.
    damaged: Option<bool>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListSnapshots {
    pub(super) fn parts(self) -> Result<(Option<TenantId>, Filter, Page)> {
        let page = page(self.limit, self.cursor.as_deref())?;
        let filter = Filter { source_id: self.source_id, status: self.status, damaged: self.damaged };
        Ok((self.tenant_id, filter, page))
    }
}

/// Where a snapshot's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum StorageBackend {
    /// On the disk of one worker: `worker_id`, `local_path`.
    LocalFs,
    /// In a bucket: `bucket`, `object_key`, `etag`.
    S3,
}

/// What is known of a snapshot by verifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum VerifyResult {
    /// It is what was written, as far as the last one went.
    Ok,
    /// It is not, and no verification that went as far has found otherwise since.
    Damaged,
}

impl VerifyResult {
    fn of(known: &Soundness) -> Option<Self> {
        match (&known.damage, known.checked_at) {
            (Some(_), _) => Some(Self::Damaged),
            (None, Some(_)) => Some(Self::Ok),
            (None, None) => None,
        }
    }
}

/// A backup that exists.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Snapshot {
    id: SnapshotId,
    tenant_id: TenantId,
    source_id: SourceId,
    job_id: JobId,
    status: SnapshotStatus,
    /// Length of the artifact.
    size_bytes: u64,
    /// Of the files in it.
    content_bytes: u64,
    /// Regular files in it.
    files: u64,
    /// Things that could not be read whole. More than 0: it is `partial`.
    warnings: u64,
    started_at: Timestamp,
    finished_at: Timestamp,
    duration_ms: u64,
    encryption_algorithm: String,
    encryption_key_id: String,
    encryption_recipient: String,
    storage_backend: StorageBackend,
    /// The store that it lies in; absent: a worker's disk.
    store_id: Option<StoreId>,
    worker_id: Option<WorkerId>,
    local_path: Option<String>,
    bucket: Option<String>,
    object_key: Option<String>,
    etag: Option<String>,
    /// Since when it is kept whatever retention says.
    held_at: Option<Timestamp>,
    /// Why it is.
    hold_reason: Option<String>,
    /// Until when nothing deletes it: the end of the last object lock of the places where it lies.
    locked_until: Option<Timestamp>,
    /// When a worker was first told to remove its bytes: it is `deleting`, and will not be a backup again.
    deletion_began_at: Option<Timestamp>,
    /// When it was last proven sound: read back when it was made, or verified.
    verified_at: Option<Timestamp>,
    /// When a verification last ended with a finding, whatever that was.
    last_verified_at: Option<Timestamp>,
    /// How far that went.
    verified_depth: Option<VerifyDepth>,
    /// What is known by verifications. Absent: there was none.
    verify_result: Option<VerifyResult>,
    /// The job of the last one.
    verify_job_id: Option<JobId>,
    /// Since when it is known to be damaged. It is not to be relied on, and retention does not.
    damaged_at: Option<Timestamp>,
    /// What was found.
    damage: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// All places where its bytes lie: the first one, and its copies. Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    locators: Option<Vec<Lies>>,
    /// `manifest.json`. Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Manifest>, nullable = false)]
    manifest: Option<serde_json::Value>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Snapshots {
    snapshots: Vec<Snapshot>,
    next_cursor: Option<String>,
}

/// One of the places where a snapshot's bytes lie.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Lies {
    /// The store; absent: a worker's disk.
    store_id: Option<StoreId>,
    /// Absent: it is where the backup was made to.
    copied_at: Option<Timestamp>,
    /// Until when its store lets nobody delete it there.
    locked_until: Option<Timestamp>,
    /// False: the store's credential may not delete, so it stays there when the snapshot goes. Absent: nobody has tried.
    may_delete: Option<bool>,
    /// When it was last proven sound there: read back when it was made, or verified.
    verified_at: Option<Timestamp>,
    /// When a verification that looked there last ended with a finding.
    last_verified_at: Option<Timestamp>,
    /// How far that went.
    verified_depth: Option<VerifyDepth>,
    /// What is known of the bytes there by verifications. Absent: there was none.
    verify_result: Option<VerifyResult>,
    /// What was found where they are damaged.
    damage: Option<String>,
    #[serde(flatten)]
    locator: Locator,
}

impl Lies {
    fn known_as(self, known: Soundness) -> Self {
        Self {
            verified_at: known.verified_at,
            last_verified_at: known.checked_at,
            verified_depth: known.checked_depth,
            verify_result: VerifyResult::of(&known),
            damage: known.damage.map(|damage| damage.what),
            ..self
        }
    }

    fn at(locator: Locator) -> Self {
        Self {
            store_id: None,
            copied_at: None,
            locked_until: None,
            may_delete: None,
            verified_at: None,
            last_verified_at: None,
            verified_depth: None,
            verify_result: None,
            damage: None,
            locator,
        }
    }
}

async fn locators(hub: &Hub, row: &db::snapshots::Snapshot) -> Result<Vec<Lies>> {
    let first = Lies {
        store_id: row.store_id.clone(),
        locked_until: row.place_locked_until,
        may_delete: copies::may_delete(hub, row.store_id.as_ref()).await?,
        ..Lies::at(row.locator.clone())
    };
    let copy = |copy: Copy| {
        let lies = Lies {
            store_id: Some(copy.store_id),
            copied_at: Some(copy.copied_at),
            locked_until: copy.locked_until,
            may_delete: copy.may_delete,
            ..Lies::at(copy.locator)
        };
        lies.known_as(copy.soundness)
    };
    let copies = copies::of(hub, &row.id).await?.into_iter().map(copy);
    Ok(std::iter::once(first.known_as(row.soundness.clone())).chain(copies).collect())
}

/// The fields of a locator, side by side.
#[derive(Default)]
struct Place {
    worker_id: Option<WorkerId>,
    local_path: Option<String>,
    bucket: Option<String>,
    object_key: Option<String>,
    etag: Option<String>,
}

fn place(locator: Locator) -> Result<(StorageBackend, Place)> {
    match locator {
        Locator::LocalFs { worker_id, local_path } => {
            let place =
                Place { worker_id: Some(worker_id), local_path: Some(local_path), ..Place::default() };
            Ok((StorageBackend::LocalFs, place))
        }
        Locator::S3 { bucket, object_key, etag } => {
            let place =
                Place { bucket: Some(bucket), object_key: Some(object_key), etag, ..Place::default() };
            Ok((StorageBackend::S3, place))
        }
        _ => Err(db::Error::Corrupt { column: "storage_backend" }.into()),
    }
}

impl TryFrom<db::snapshots::Snapshot> for Snapshot {
    type Error = crate::api::error::Error;

    fn try_from(row: db::snapshots::Snapshot) -> Result<Self> {
        let (storage_backend, place) = place(row.locator)?;
        let known = row.soundness;
        let (damaged_at, damage) = known.damage.clone().map(|damage| (damage.at, damage.what)).unzip();
        Ok(Self {
            id: row.id,
            tenant_id: row.tenant_id,
            source_id: row.source_id,
            job_id: row.job_id,
            status: row.status,
            size_bytes: row.size_bytes.unsigned_abs(),
            content_bytes: row.content_bytes.unsigned_abs(),
            files: row.files.unsigned_abs(),
            warnings: row.warnings.unsigned_abs(),
            started_at: row.started_at,
            finished_at: row.finished_at,
            duration_ms: row.duration_ms.unsigned_abs(),
            encryption_algorithm: row.encryption_algorithm,
            encryption_key_id: row.encryption_key_id,
            encryption_recipient: row.encryption_recipient,
            storage_backend,
            store_id: row.store_id,
            worker_id: place.worker_id,
            local_path: place.local_path,
            bucket: place.bucket,
            object_key: place.object_key,
            etag: place.etag,
            held_at: row.held_at,
            hold_reason: row.hold_reason,
            locked_until: row.locked_until,
            deletion_began_at: row.deletion_began_at,
            verified_at: known.verified_at,
            last_verified_at: known.checked_at,
            verified_depth: known.checked_depth,
            verify_result: VerifyResult::of(&known),
            verify_job_id: known.checked_by,
            damaged_at,
            damage,
            created_at: row.created_at,
            updated_at: row.updated_at,
            locators: None,
            manifest: None,
        })
    }
}

/// List snapshots
///
/// Newest first, those of deleted sources among them.
#[utoipa::path(
    get, path = "/snapshots", tag = "snapshots",
    params(ListSnapshots),
    responses((status = 200, body = Snapshots)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListSnapshots>,
) -> Result<Json<Snapshots>> {
    let (tenant_id, filter, page) = query.parts()?;
    answer_list(&hub, &who.scope(tenant_id)?, &filter, &page).await
}

/// A page of snapshots, for tenants and operators alike.
pub(super) async fn answer_list(
    hub: &Hub,
    scope: &Scope,
    filter: &Filter,
    page: &Page,
) -> Result<Json<Snapshots>> {
    let rows = snapshots::list(hub, scope, filter, page).await?;
    let (rows, next_cursor) = cut(page, rows, |row| row.id.as_str());
    let snapshots = rows.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
    Ok(Json(Snapshots { snapshots, next_cursor }))
}

/// Get a snapshot
///
/// With its manifest, and all places where it lies.
#[utoipa::path(
    get, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    responses((status = 200, body = Snapshot)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<SnapshotId>) -> Result<Json<Snapshot>> {
    let (row, manifest) = snapshots::get(&hub, &who.scope(None)?, &id).await?;
    let locators = locators(&hub, &row).await?;
    Ok(Json(Snapshot { locators: Some(locators), manifest: Some(manifest), ..row.try_into()? }))
}

/// Delete a snapshot
///
/// The answer is the job that removes its bytes, which runs on the worker where they lie, as soon as that is there; asked
/// again, it is the same job. The snapshot is in the lists, as `deleting`, until its bytes are gone. For admins.
#[utoipa::path(
    delete, path = "/snapshots/{id}", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    responses(
        (status = 202, body = Job),
        (status = 409, body = ErrorBody, description = "It is held (`held`), its store lets nobody delete it yet \
            (`locked`, with `details.locked_until`), its store was seen to let nobody delete (`store_keeps`), or its tenant is disabled \
            (`tenant_disabled`)."),
    ),
)]
async fn delete(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
) -> Result<(StatusCode, Json<Job>)> {
    who.require(Role::Admin)?;
    let job = jobs::delete_snapshot(&hub, &who, &who.scope(None)?, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct HoldSnapshot {
    /// Why it must stay, for people.
    #[schema(value_type = Name)]
    reason: String,
}

/// Hold a snapshot
///
/// It stays whatever retention says, and nobody can delete it, until it is released. A deletion that waits for its worker is
/// canceled; one that has begun can't be. Asked again, it changes the reason. For admins.
#[utoipa::path(
    put, path = "/snapshots/{id}/hold", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    request_body = HoldSnapshot,
    responses(
        (status = 200, body = Snapshot),
        (status = 409, body = ErrorBody, description = "Its deletion has begun (`deletion_running`)."),
    ),
)]
async fn hold(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
    Json(body): Json<HoldSnapshot>,
) -> Result<Json<Snapshot>> {
    who.require(Role::Admin)?;
    let reason = name("reason", &body.reason)?;
    Ok(Json(holds::hold(&hub, &who, &who.scope(None)?, &id, &reason).await?.try_into()?))
}

/// Release a snapshot
///
/// Retention decides about it again, and people. One that is not held is fine. For admins.
#[utoipa::path(
    delete, path = "/snapshots/{id}/hold", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    responses((status = 204, description = "It is not held.")),
)]
async fn release(State(hub): State<Hub>, who: Principal, Path(id): Path<SnapshotId>) -> Result<StatusCode> {
    who.require(Role::Admin)?;
    holds::release(&hub, &who, &who.scope(None)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the snapshots of a source
///
/// Newest first; of a deleted source, too.
#[utoipa::path(
    get, path = "/sources/{id}/snapshots", tag = "sources",
    operation_id = "snapshots",
    params(("id" = SourceId, Path), Paging),
    responses((status = 200, body = Snapshots)),
)]
async fn of_source(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Snapshots>> {
    let (scope, page) = (who.scope(None)?, paging.page()?);
    snapshots::check_source(&hub, &scope, &id).await?;
    answer_list(&hub, &scope, &Filter { source_id: Some(id), ..Filter::default() }, &page).await
}
