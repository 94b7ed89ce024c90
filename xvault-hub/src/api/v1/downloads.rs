//! `/api/v1/snapshots/{id}/download`: links.

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::protocol::Name;
use xvault_core::{ExportFormat, SnapshotId, StoreId};

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::principal::{Principal, Role};
use crate::app::downloads::{self, Content, Link, Wanted};
use crate::app::jobs::entry_paths;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(download))
}

/// What a link gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Everything, or what lies at and below `path`, decrypted and packed on the way.
    #[default]
    Archive,
    /// The content of the one file at `path`.
    File,
    /// The encrypted artifact as it is stored: for age, zstd and tar.
    Artifact,
    /// The encrypted index as it is stored.
    Index,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Download {
    /// What is wanted: `archive` when absent.
    #[serde(default)]
    what: What,
    /// How an archive is packed: `tar` when absent.
    format: Option<ExportFormat>,
    /// Of a file, or of a directory of which all is wanted. Several can be named in a restore.
    path: Option<String>,
    /// Good for one use.
    #[serde(default)]
    once: bool,
    /// The store that it is read from, one of the snapshot's `locators`. When absent, the snapshot's own place, or a copy in a
    /// second store while the worker on whose disk it lies is offline.
    from_store: Option<StoreId>,
}

impl Download {
    fn wanted(self) -> Result<Wanted> {
        let paths = entry_paths("path", self.path.as_slice())?;
        if self.format.is_some() && self.what != What::Archive {
            return Err(Error::bad_request("`format` is for archives alone"));
        }
        let content = match (self.what, paths.into_iter().next()) {
            (What::Archive, path) => Content::Archive {
                format: self.format.unwrap_or_default(),
                paths: path.into_iter().collect(),
            },
            (What::File, Some(path)) => Content::File { path: Name::Text { path } },
            (What::File, None) => return Err(Error::bad_request("`path` must name the file")),
            (What::Artifact, None) => Content::Artifact,
            (What::Index, None) => Content::Index,
            _ => return Err(Error::bad_request("what is encrypted can only be had whole: leave `path` out")),
        };
        Ok(Wanted { content, single_use: self.once, from_store: self.from_store, longest: None })
    }
}

/// A link to a download, for whoever has it.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub(super) struct DownloadLink {
    /// Open it with any program. Who has it, has what it gives: keep it as a secret.
    url: String,
    /// Until when it can be opened. What has begun by then goes on.
    expires_at: Timestamp,
    /// What the file will be called.
    file_name: String,
    /// Good for one use.
    single_use: bool,
    /// What to type in a shell; `KEY` stands for a file with the identity.
    command: String,
}

impl From<Link> for DownloadLink {
    fn from(Link { url, download }: Link) -> Self {
        Self {
            command: download.content.command(&url),
            url,
            expires_at: download.expires_at,
            file_name: download.file_name,
            single_use: download.single_use,
        }
    }
}

/// Get a download link
///
/// The link is good until the tenant's `download_expiration_hours` are over, and leads to the worker where the snapshot lies, or
/// to any where all workers can reach it. Nothing is made ready: what is decrypted is decrypted while it is sent.
#[utoipa::path(
    get, path = "/snapshots/{id}/download", tag = "snapshots",
    params(("id" = SnapshotId, Path), Download),
    responses(
        (status = 200, body = DownloadLink),
        (status = 409, body = ErrorBody, description = "Only the tenant can decrypt it (`no_identity`; `details` says how), \
            it is being deleted (`deleting`), its tenant is disabled (`tenant_disabled`), it does not lie in `from_store` (`no_copy`), or no worker can serve it \
            now (`worker_offline`, `no_download_address`)."),
        (status = 503, body = ErrorBody, description = "The database is away, the answer took too long, or the service of the snapshot's store gives no key for a link now (`store_sts`, \
            `store_garage`): try again, after `Retry-After` where it is said."),
    ),
)]
async fn download(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
    Query(query): Query<Download>,
) -> Result<Json<DownloadLink>> {
    who.require(Role::Member)?;
    let link = downloads::create(&hub, &who, &who.scope(None)?, &id, &query.wanted()?).await?;
    Ok(Json(link.into()))
}
