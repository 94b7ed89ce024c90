//! `/api/v1/snapshots/{id}/entries` and `/api/v1/snapshots/{id}/diff/{other}`: what lies in snapshots.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::protocol::{
    Browse, BrowseQuery, Browsed, BrowsedChange, BrowsedEntry, Cursor, MAX_BROWSE_ITEMS, Name, asked_path,
};
use xvault_core::{SnapshotId, StoreId};

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::paging::foreign_cursor;
use crate::api::principal::{Principal, Role};
use crate::app::jobs::{self, Ask};

/// Entries of a page when nothing else is asked for.
const DEFAULT_LIMIT: u32 = 100;
/// The longest name that is searched for, in bytes.
const MAX_NAME: usize = 1024;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(entries)).routes(routes!(diff))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    /// The directory, with or without a leading `/`. The root when it is absent.
    path: Option<String>,
    /// The same in base64, for names that are not UTF-8.
    path_base64: Option<String>,
    /// Search: a part of a name, or a glob of whole names when it has a `*` or `?`. Everything below the directory is looked
    /// through. Upper and lower case of ASCII are the same.
    q: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at most. There may be fewer on a page that others follow.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The store that it is read from, one of the snapshot's `locators`. When absent, the snapshot's own place, or a copy in a
    /// second store while the worker on whose disk it lies is offline.
    from_store: Option<StoreId>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// Only what lies in this directory, with or without a leading `/`, or is it.
    path: Option<String>,
    /// The same in base64, for names that are not UTF-8.
    path_base64: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at most. There may be fewer on a page that others follow.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// What lies in a directory, or was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Entries {
    /// In the order of their paths' bytes. A name that is not UTF-8 stands in `path_base64` instead of `path`.
    entries: Vec<BrowsedEntry>,
    next_cursor: Option<Cursor>,
}

/// What became of paths from one snapshot to another.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Changes {
    /// In the order of their paths' bytes. A name that is not UTF-8 stands in `path_base64` instead of `path`.
    changes: Vec<BrowsedChange>,
    next_cursor: Option<Cursor>,
}

/// List a directory of a snapshot, or search it by name
///
/// A worker reads the snapshot's index for it, with the tenant's identity sealed to it for this one look; content is not read.
/// Waits for the answer, some seconds at most.
#[utoipa::path(
    get, path = "/snapshots/{id}/entries", tag = "snapshots",
    params(("id" = SnapshotId, Path), EntriesQuery),
    responses(
        (status = 200, body = Entries),
        (status = 404, body = ErrorBody, description = "No such snapshot (`not_found`) or no such directory in it \
            (`no_such_directory`)."),
        (status = 409, body = ErrorBody, description = "The worker on whose disk it lies is offline (`worker_offline`), no \
            worker is online that can read it (`no_worker`), it does not lie in `from_store` (`no_copy`), only the tenant's own keys open the index (`index_not_readable`), the path is that of a \
            file or link (`not_a_directory`), the snapshot is being deleted (`deleting`), or the tenant is disabled \
            (`tenant_disabled`)."),
        (status = 429, body = ErrorBody, description = "Too many looks into the tenant's snapshots are under way: wait as long as \
            `Retry-After` says."),
        (status = 502, body = ErrorBody, description = "The worker could not read the index (`browse_failed`)."),
        (status = 504, body = ErrorBody, description = "The worker did not answer in time (`browse_timeout`)."),
    ),
)]
async fn entries(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SnapshotId>,
    Query(asked): Query<EntriesQuery>,
) -> Result<Json<Entries>> {
    who.require(Role::Member)?;
    let what = asked.q.map(search).transpose()?.unwrap_or(Browse::List);
    let query = query(what, (asked.path, asked.path_base64), asked.cursor, asked.limit)?;
    let ask = Ask { snapshot_id: id, other: None, from_store: asked.from_store, query };
    match jobs::browse(&hub, &who, &who.scope(None)?, &ask).await? {
        Browsed::Entries { entries, next_cursor } => Ok(Json(Entries { entries, next_cursor })),
        Browsed::NotADirectory => {
            Err(Error::conflict("not_a_directory", "the path is that of a file or a link"))
        }
        _ => Err(Error::new(
            axum::http::StatusCode::NOT_FOUND,
            "no_such_directory",
            "the snapshot has no such directory",
        )),
    }
}

/// Compare two snapshots
///
/// What is added, removed or changed in `other`, the later one as a rule; both are of the same tenant, of one source or of two.
/// Workers read the indexes for it, as for a directory.
#[utoipa::path(
    get, path = "/snapshots/{id}/diff/{other}", tag = "snapshots",
    params(("id" = SnapshotId, Path), ("other" = SnapshotId, Path), DiffQuery),
    responses(
        (status = 200, body = Changes),
        (status = 409, body = ErrorBody, description = "As for `entries`; or the snapshots lie on the disks of two workers \
            (`different_workers`)."),
        (status = 429, body = ErrorBody, description = "As for `entries`."),
        (status = 502, body = ErrorBody, description = "As for `entries`."),
        (status = 504, body = ErrorBody, description = "As for `entries`."),
    ),
)]
async fn diff(
    State(hub): State<Hub>,
    who: Principal,
    Path((id, other)): Path<(SnapshotId, SnapshotId)>,
    Query(asked): Query<DiffQuery>,
) -> Result<Json<Changes>> {
    who.require(Role::Member)?;
    let query = query(Browse::Diff, (asked.path, asked.path_base64), asked.cursor, asked.limit)?;
    let ask = Ask { snapshot_id: id, other: Some(other), from_store: None, query };
    match jobs::browse(&hub, &who, &who.scope(None)?, &ask).await? {
        Browsed::Changes { changes, next_cursor } => Ok(Json(Changes { changes, next_cursor })),
        _ => Err(crate::DbError::Corrupt { column: "result" }.into()),
    }
}

fn search(name: String) -> Result<Browse> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\0']) {
        return Err(Error::bad_request("`q` is a part of a name: 1 to 1024 bytes without a `/`"));
    }
    Ok(Browse::Search { name })
}

fn query(
    what: Browse,
    (path, path_base64): (Option<String>, Option<String>),
    cursor: Option<String>,
    limit: Option<u32>,
) -> Result<BrowseQuery> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_BROWSE_ITEMS).contains(&limit) {
        return Err(Error::bad_request(format!("`limit` must be between 1 and {MAX_BROWSE_ITEMS}")));
    }
    let directory = named(path, path_base64)?;
    let cursor = cursor.map(|text| Cursor::try_from(text).map_err(|_| foreign_cursor())).transpose()?;
    Ok(BrowseQuery { what, directory, cursor, limit })
}

/// The path that is meant, as the index has it. None: the root.
pub(super) fn named(path: Option<String>, path_base64: Option<String>) -> Result<Option<Name>> {
    let named = match (path, path_base64) {
        (Some(_), Some(_)) => return Err(Error::bad_request("give `path` or `path_base64`, not both")),
        (Some(path), None) => Some(Name::Text { path }),
        (None, path_base64) => path_base64.map(|path_base64| Name::Bytes { path_base64 }),
    };
    let unfit = |reason| Error::bad_request(format!("the path can't be in a snapshot: {reason}"));
    Ok(asked_path(named.as_ref()).map_err(unfit)?.map(|path| Name::of(path.as_bytes())))
}
