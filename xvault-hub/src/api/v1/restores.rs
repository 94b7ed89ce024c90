//! `/api/v1/snapshots/{id}/restore`, and the same by the backup job.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::{ExportFormat, JobId, Overwrite, SnapshotId, SourceId, StoreId};

use super::jobs::Job;
use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path};
use crate::api::principal::{Principal, Role};
use crate::app::jobs::{
    self, DatabaseOrder, NewRestore, RestoreOrder, RestoreWish, ServerOrder, directory, entry_paths,
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(of_snapshot)).routes(routes!(of_job))
}

/// What is to be given back, and where.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Restore {
    /// These files and directories, with all that lies below them. Absent or empty: everything.
    #[serde(default)]
    paths: Vec<String>,
    /// Of a download: how it is packed; `tar` when absent.
    format: Option<ExportFormat>,
    /// Where it goes; a download when absent.
    #[serde(default)]
    target: Target,
    /// Restores what is whole of a snapshot that is known to be damaged, too.
    #[serde(default)]
    accept_damaged: bool,
    /// The store that it is read from, one of the snapshot's `locators`. When absent, the snapshot's own place, or a copy in a
    /// second store while the worker on whose disk it lies is offline.
    from_store: Option<StoreId>,
}

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Target {
    /// A link, which the job shows once it is completed.
    Download {
        /// Good for one use.
        #[serde(default)]
        once: bool,
    },
    /// A directory of a server, over SFTP. A job that breaks off is tried again, and goes on where it was.
    Server {
        /// The source whose server and credential are used, of type `ssh`, `sftp` or `wordpress`; that of the snapshot when absent.
        /// Another one needs an admin.
        source_id: Option<SourceId>,
        /// The directory that everything goes below, absolute; made when it is missing.
        path: String,
        /// What becomes of files that are there already.
        #[serde(default)]
        overwrite: Overwrite,
    },
    /// A database that a dump is loaded into. It is not tried again.
    Database {
        /// The source whose server and credential are used, of type `postgres` or `mysql`; that of the snapshot when absent, whose
        /// user may only read in most cases. Another one needs an admin.
        source_id: Option<SourceId>,
        /// The dump's path in the snapshot.
        entry: String,
        /// The database to load into.
        database: String,
        /// Makes the database when it is missing.
        #[serde(default)]
        create: bool,
        /// Loads into a database that holds tables already. What the dump has too is replaced.
        #[serde(default)]
        overwrite: bool,
    },
}

impl Default for Target {
    fn default() -> Self {
        Self::Download { once: false }
    }
}

impl Restore {
    fn wish(self) -> Result<RestoreWish> {
        let (accept_damaged, from_store) = (self.accept_damaged, self.from_store.clone());
        Ok(RestoreWish { order: self.order()?, accept_damaged, from_store })
    }

    fn order(self) -> Result<RestoreOrder> {
        let paths = entry_paths("paths", &self.paths)?;
        match self.target {
            Target::Download { once } => Ok(RestoreOrder::Download {
                format: self.format.unwrap_or_default(),
                paths,
                single_use: once,
            }),
            Target::Server { .. } | Target::Database { .. } if self.format.is_some() => {
                Err(Error::invalid_field("format", "only a download is packed: leave it out"))
            }
            Target::Database { .. } if !paths.is_empty() => Err(Error::invalid_field(
                "paths",
                "one dump goes into one database: name it by `target.entry`",
            )),
            Target::Database { source_id, entry, database, create, overwrite } => {
                let entry = entry_paths("target.entry", &[entry])?
                    .pop()
                    .ok_or_else(|| Error::invalid_field("target.entry", "the path of a dump is needed"))?;
                let order = DatabaseOrder { source_id, entry, database, create, overwrite };
                Ok(RestoreOrder::Database(order))
            }
            Target::Server { source_id, path, overwrite } => Ok(RestoreOrder::Server(ServerOrder {
                source_id,
                directory: directory(path)?,
                overwrite,
                paths,
            })),
        }
    }
}

/// The job of a restore.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RestoreJob {
    #[serde(flatten)]
    job: Job,
    /// What it waits for, when that is away: a sentence.
    note: Option<String>,
}

impl From<NewRestore> for RestoreJob {
    fn from(NewRestore { job, note }: NewRestore) -> Self {
        Self { job: job.into(), note }
    }
}

/// Restore a snapshot
///
/// The job runs on the worker where the snapshot lies, or on any where all workers can reach it, and waits for it. With the target
/// `download` it checks that all paths are there, and once it is completed, the job shows a link. With `server` it
/// pushes files to a server, and with `database` loads a dump; then it
/// shows how much.
#[utoipa::path(
    post, path = "/snapshots/{id}/restore", tag = "snapshots", operation_id = "restore",
    params(("id" = SnapshotId, Path)),
    request_body = Restore,
    responses(
        (status = 201, body = RestoreJob),
        (status = 409, body = ErrorBody, description = "Only the tenant can decrypt it (`no_identity`; `details` says how), \
            it is being deleted (`deleting`), known to be damaged (`damaged`), does not lie in `from_store` (`no_copy`), or its \
            tenant is disabled (`tenant_disabled`); or of a server, its source is deleted (`source_gone`), its host key unknown \
            (`host_key_not_pinned`), or the worker on whose disk the snapshot lies has no tools for it (`no_tools`)."),
    ),
)]
async fn of_snapshot(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
    Json(body): Json<Restore>,
) -> Result<(StatusCode, Json<RestoreJob>)> {
    who.require(Role::Member)?;
    let made = jobs::restore(&hub, &who, &who.scope(None)?, &id, &body.wish()?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Restore what a backup job made
///
/// As to restore its snapshot.
#[utoipa::path(
    post, path = "/jobs/{id}/restore", tag = "jobs", operation_id = "restore_job",
    params(("id" = JobId, Path)),
    request_body = Restore,
    responses(
        (status = 201, body = RestoreJob),
        (status = 409, body = ErrorBody, description = "It is no completed backup (`no_snapshot`), or its snapshot can't be \
            restored (`no_identity`, `deleting`, `damaged`, `no_copy`, `tenant_disabled`, `source_gone`, `host_key_not_pinned`, \
            `no_tools`)."),
    ),
)]
async fn of_job(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<JobId>,
    Json(body): Json<Restore>,
) -> Result<(StatusCode, Json<RestoreJob>)> {
    who.require(Role::Member)?;
    let scope = who.scope(None)?;
    let snapshot = jobs::made_by(&hub, &scope, &id).await?;
    let made = jobs::restore(&hub, &who, &scope, &snapshot, &body.wish()?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}
