//! `/api/v1/snapshots/{id}/entries/content`: one file.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::{SnapshotId, StoreId};

use super::downloads::DownloadLink;
use super::entries::named;
use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::principal::{Principal, Role};
use crate::app::downloads::{self, Content, Wanted};

/// How long the link is good: it is followed at once, or never.
const AT_ONCE: Duration = Duration::from_secs(300);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(content))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct File {
    /// The file, with or without a leading `/`.
    path: Option<String>,
    /// The same in base64, for names that are not UTF-8.
    path_base64: Option<String>,
    /// The store that it is read from, one of the snapshot's `locators`. When absent, the snapshot's own place, or a copy in a
    /// second store while the worker on whose disk it lies is offline.
    from_store: Option<StoreId>,
}

/// Get one file of a snapshot
///
/// Redirects to a link that is good for one use within five minutes, on a worker that decrypts the file while it sends it: with the file's name, type and
/// length. A client that follows redirects gets the file (and must not send its token along: the link needs none); one that does not
/// finds the link in the body, too. Whether there is such a file is found out there: 404 `path_missing`,
/// 409 `not_a_file`.
#[utoipa::path(
    get, path = "/snapshots/{id}/entries/content", tag = "snapshots",
    params(("id" = SnapshotId, Path), File),
    responses(
        (status = 307, body = DownloadLink, description = "The file is at `Location`, once.",
            headers(("Location" = String, description = "The link: who has it, has the file."))),
        (status = 409, body = ErrorBody, description = "As for `download`."),
    ),
)]
async fn content(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
    Query(file): Query<File>,
) -> Result<impl IntoResponse> {
    who.require(Role::Member)?;
    let path = named(file.path, file.path_base64)?;
    let path = path.ok_or_else(|| Error::bad_request("`path` must name a file"))?;
    let (content, from_store) = (Content::File { path }, file.from_store);
    let wanted = Wanted { content, single_use: true, from_store, longest: Some(AT_ONCE) };
    let link = downloads::create(&hub, &who, &who.scope(None)?, &id, &wanted).await?;
    let kept_by_nobody = [
        (LOCATION, link.url.clone()),
        (CACHE_CONTROL, "no-store".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    Ok((StatusCode::TEMPORARY_REDIRECT, kept_by_nobody, Json(DownloadLink::from(link))))
}
