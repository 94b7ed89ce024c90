//! New links.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::secret::ExposeSecret as _;
use xvault_core::{DownloadId, JobKind, JobStatus, SnapshotId, StoreId, TenantId};

use super::content::Content;
use super::presign;
use super::way::{base_url, check_readable};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::again::again;
use crate::app::audit::{Deed, record};
use crate::app::jobs::{RestoreOrder, chosen_store, lock_readable};
use crate::app::{copies, tenant_settings};
use crate::db::downloads::{self, Download};
use crate::db::jobs::JobRow;
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, snapshots, sources};
use crate::{DbError, Hub};

/// What somebody wants to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) content: Content,
    pub(crate) single_use: bool,
    /// The store that it is read from, of those in which the snapshot lies.
    pub(crate) from_store: Option<StoreId>,
    /// The longest time that the link is good, where the tenant's setting may be more than it is made for.
    pub(crate) longest: Option<Duration>,
}

/// A link, with all that belongs to it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) download: Download,
}

/// Makes a link. 404 when the snapshot is not in `scope`; 409 `deleting`, `tenant_disabled`, `no_identity`, `no_copy`,
/// `worker_offline` or `no_download_address`.
pub(crate) async fn create(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SnapshotId,
    wanted: &Wanted,
) -> Result<Link> {
    again(|| add(hub, who, scope, id, wanted)).await
}

async fn add(hub: &Hub, who: &Principal, scope: &Scope, id: &SnapshotId, wanted: &Wanted) -> Result<Link> {
    let mut tx = hub.db().begin().await?;
    let snapshot = lock_readable(&mut tx, scope, id).await?;
    if wanted.content.is_decrypted() {
        check_readable(&mut tx, &snapshot).await?;
    }
    let snapshot = copies::place(&mut tx, snapshot, wanted.from_store.as_ref()).await?;
    let download = row(hub, &mut tx, &snapshot, wanted.clone(), Some(who.actor.id().to_owned())).await?;
    let direct = presign::direct(hub, &mut tx, &snapshot, &download).await?;
    let download = match &direct {
        Some(direct) => direct.bounded(hub, download),
        None => download,
    };
    let base = match &direct {
        Some(_) if download.single_use => return Err(not_once()),
        Some(_) => String::new(),
        None => base_url(&mut tx, &snapshot).await?,
    };
    downloads::insert(&mut tx, &download, hub.clock().now()).await?;
    record(&mut tx, hub, who, deed(&download, "download.create")).await?;
    tx.commit().await.map_err(DbError::from)?;
    let url = match direct {
        Some(direct) => direct.url(hub, &download).await?,
        None => url(hub, &base, &download),
    };
    Ok(Link { url, download })
}

/// A bucket counts no uses.
fn not_once() -> Error {
    Error::bad_request("the link leads straight into a bucket, and is good until it ends: leave `once` out")
}

async fn row(
    hub: &Hub,
    conn: &mut AnyConnection,
    snapshot: &Snapshot,
    Wanted { content, single_use, from_store, longest }: Wanted,
    created_by: Option<String>,
) -> Result<Download> {
    let source = sources::get(conn, &Scope::All, &snapshot.source_id).await?;
    Ok(Download {
        id: DownloadId::generate(),
        tenant_id: snapshot.tenant_id.clone(),
        snapshot_id: snapshot.id.clone(),
        job_id: None,
        file_name: content.file_name(&source.name, snapshot),
        content,
        from_store,
        single_use,
        uses: 0,
        expires_at: end(hub, conn, &snapshot.tenant_id, longest).await?,
        created_by,
    })
}

/// When a link that is made now ends, by the tenant's setting, or `longest` if that is less: on a whole second, as its token says.
async fn end(
    hub: &Hub,
    conn: &mut AnyConnection,
    tenant: &TenantId,
    longest: Option<Duration>,
) -> Result<Timestamp> {
    let hours = tenant_settings::download_expiration_hours(conn, tenant).await?;
    let span = Duration::from_secs(hours * 3600).min(longest.unwrap_or(Duration::MAX));
    let end = hub.clock().now().checked_add(span).unwrap_or(Timestamp::MAX);
    Ok(Timestamp::from_second(end.as_second()).unwrap_or(end))
}

/// What was done with a link.
pub(super) fn deed<'a>(download: &'a Download, action: &'a str) -> Deed<'a> {
    let details = json!({
        "snapshot_id": download.snapshot_id,
        "what": download.content.word(),
        "content": download.content,
        "single_use": download.single_use,
        "from_store": download.from_store,
    });
    Deed {
        action,
        target_type: "download",
        target_id: download.id.as_str(),
        tenant_id: Some(&download.tenant_id),
        details,
    }
}

/// The address of a link.
fn url(hub: &Hub, base: &str, download: &Download) -> String {
    let token = hub.download_tokens().make(&download.id, download.expires_at);
    let name = escaped(&download.file_name);
    format!("{}/downloads/{}/{name}", base.trim_end_matches('/'), token.expose_secret())
}

/// As a part of a path: what is neither letter nor digit of ASCII, nor `-._`, in hexadecimal.
pub(super) fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The link of a restore job that is done, and was to end in a download; in the transaction of its completion.
pub(crate) async fn prepared(hub: &Hub, conn: &mut AnyConnection, job: &JobRow) -> Result<()> {
    let (Some(RestoreOrder::Download { format, paths, single_use }), Some(snapshot)) =
        (RestoreOrder::of(job), &job.snapshot_id)
    else {
        return Ok(());
    };
    let snapshot = snapshots::get(conn, &Scope::All, snapshot).await.map_err(Error::of("snapshot"))?;
    let content = Content::Archive { format, paths };
    let wanted = Wanted { content, single_use, from_store: chosen_store(job), longest: None };
    let row = row(hub, conn, &snapshot, wanted, job.created_by.clone()).await?;
    let row = Download { job_id: Some(job.id.clone()), ..row };
    Ok(downloads::insert(conn, &row, hub.clock().now()).await?)
}

/// The link that a restore job prepared, while it is good for something.
pub(crate) async fn of_job(hub: &Hub, job: &JobRow) -> Result<Option<Link>> {
    if job.kind != JobKind::Restore || job.status() != JobStatus::Completed {
        return Ok(None);
    }
    let mut conn = hub.db().conn().await?;
    let now = hub.clock().now();
    let good = |download: &Download| download.expires_at > now && !(download.single_use && download.uses > 0);
    let Some(download) = downloads::of_job(&mut conn, &job.id).await?.filter(good) else { return Ok(None) };
    let snapshot = match snapshots::get(&mut conn, &Scope::All, &download.snapshot_id).await {
        Err(DbError::NotFound) => return Ok(None),
        found => found?,
    };
    // A worker that is away for a moment is no reason to show no job.
    match base_url_of(&mut conn, snapshot, &download).await {
        Ok(base) => Ok(Some(Link { url: url(hub, &base, &download), download })),
        Err(error) if error.is_ours() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What the link begins with now: its worker may have gone since it was made.
async fn base_url_of(conn: &mut AnyConnection, snapshot: Snapshot, download: &Download) -> Result<String> {
    let snapshot = copies::place(conn, snapshot, download.from_store.as_ref()).await?;
    base_url(conn, &snapshot).await
}
