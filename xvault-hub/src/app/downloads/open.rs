//! Somebody opened a link: its worker asks what to give.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::{Any, Transaction};
use xvault_core::protocol::{ClaimAnswer, DownloadBody, OpenDownload, OpenedDownload, StoreAccess};
use xvault_core::snapshot::Locator;
use xvault_core::{JobKind, LeaseToken, SnapshotKey, WorkerId};

use super::content::Content;
use super::create::deed;
use crate::api::error::{Error, Result};
use crate::app::again::again;
use crate::app::audit::record_for_client;
use crate::app::copies;
use crate::app::jobs::{self, Reading, RestoreOrder, lock_readable, reading};
use crate::db::downloads::{self, Download};
use crate::db::jobs::JobRow;
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, workers};
use crate::{DbError, Hub};

/// What the link gives, for the worker that it leads to. 404 for a token that is not ours; 410 `link_expired`, `link_used` or
/// `snapshot_gone`; 409 `tenant_disabled`, `no_copy` or `not_here`.
pub(crate) async fn open(hub: &Hub, worker: &WorkerId, said: &OpenDownload) -> Result<OpenedDownload> {
    let (id, expires_at) = hub.download_tokens().read(&said.token).ok_or_else(unknown)?;
    if expires_at <= hub.clock().now() {
        return Err(gone("link_expired", "the link has expired; ask for a new one"));
    }
    let download = match downloads::get(&mut *hub.db().conn().await?, &id).await {
        Err(DbError::NotFound) => return Err(unknown()),
        found => found?,
    };
    if said.peek {
        return peek(hub, worker, &download).await;
    }
    let opened = again(|| begin(hub, worker, said, &download)).await?;
    let body = match opened {
        Opened::Job(job) => match started(hub, worker, &job).await {
            Ok(body) => body,
            // Nothing was sent, nor will be: whoever opens the link once more shall not find it used.
            Err(error) => {
                downloads::give_back_use(&mut *hub.db().conn().await?, &id).await?;
                return Err(error);
            }
        },
        Opened::Stored(body) => body,
    };
    Ok(described(&download, body))
}

fn unknown() -> Error {
    Error::not_found("download link")
}

fn gone(code: &'static str, message: &str) -> Error {
    Error::new(StatusCode::GONE, code, message)
}

fn described(download: &Download, body: DownloadBody) -> OpenedDownload {
    OpenedDownload {
        file_name: download.file_name.clone(),
        content_type: content_type(download).map(str::to_owned),
        single_use: download.single_use,
        body,
    }
}

async fn peek(hub: &Hub, worker: &WorkerId, download: &Download) -> Result<OpenedDownload> {
    if download.single_use && download.uses > 0 {
        return Err(used());
    }
    let mut tx = hub.db().begin().await?;
    let snapshot = readable(&mut tx, worker, download).await?;
    let body = stored(download, &snapshot)?.unwrap_or(DownloadBody::Peek);
    tx.rollback().await.map_err(DbError::from)?;
    Ok(described(download, body))
}

fn used() -> Error {
    gone("link_used", "the link was good for one use, and was used; ask for a new one")
}

/// The snapshot, which this worker can read.
async fn readable(
    tx: &mut Transaction<'static, Any>,
    worker: &WorkerId,
    download: &Download,
) -> Result<Snapshot> {
    let scope = Scope::Tenant(download.tenant_id.clone());
    let snapshot = lock_readable(tx, &scope, &download.snapshot_id).await.map_err(|error| {
        if error.is("not_found") || error.is("deleting") {
            gone("snapshot_gone", "the snapshot was deleted since the link was made")
        } else {
            error
        }
    })?;
    copies::place_for(tx, snapshot, download.from_store.as_ref(), worker).await
}

/// What came of it so far.
enum Opened {
    /// This job does it.
    Job(Box<JobRow>),
    /// It lies there.
    Stored(DownloadBody),
}

async fn begin(hub: &Hub, worker: &WorkerId, said: &OpenDownload, download: &Download) -> Result<Opened> {
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    let snapshot = readable(&mut tx, worker, download).await?;
    if !downloads::use_once(&mut tx, &download.id, now).await? {
        return Err(if download.expires_at <= now {
            gone("link_expired", "the link has expired; ask for a new one")
        } else {
            used()
        });
    }
    let opened = match stored(download, &snapshot)? {
        Some(body) => Opened::Stored(body),
        None => Opened::Job(Box::new(claimed(hub, &mut tx, worker, download, &snapshot).await?)),
    };
    let mut deed = deed(download, "download.open");
    if let Opened::Job(job) = &opened {
        deed.details["job_id"] = json!(job.id);
    }
    record_for_client(&mut tx, worker, said.client, deed, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(opened)
}

fn stored(download: &Download, snapshot: &Snapshot) -> Result<Option<DownloadBody>> {
    let Some(file) = download.content.stored() else { return Ok(None) };
    let key = SnapshotKey {
        tenant_id: snapshot.tenant_id.clone(),
        source_id: snapshot.source_id.clone(),
        snapshot_id: snapshot.id.clone(),
    };
    match snapshot.locator {
        Locator::LocalFs { .. } => {
            Ok(Some(DownloadBody::Stored { snapshot: key, store: StoreAccess::LocalFs, file }))
        }
        _ => Err(Error::conflict("not_here", "the file lies in a bucket: the link leads there")),
    }
}

/// A job that this worker has from its beginning: nobody else is asked, and nobody waits in a queue for it. It is not tried
/// again: its client would not be there any more.
async fn claimed(
    hub: &Hub,
    tx: &mut Transaction<'static, Any>,
    worker: &WorkerId,
    download: &Download,
    snapshot: &Snapshot,
) -> Result<JobRow> {
    let order = RestoreOrder::Link { download_id: download.id.clone(), content: download.content.clone() };
    let new = Reading {
        kind: JobKind::Restore,
        snapshot_id: snapshot.id.clone(),
        payload: order.payload(),
        max_attempts: 1,
    };
    let job = reading(hub, snapshot, &new, download.created_by.clone());
    let job = JobRow { target_worker_id: Some(worker.clone()), ..job };
    // It can't be claimed before the moment it was made in, which may be a little later than one that was asked for before.
    let now = job.created_at;
    crate::db::jobs::insert(tx, &job).await?;
    let life = job.life.claim(now, worker, LeaseToken::generate(), hub.settings().lease)?;
    let held = job.with(life, now);
    if crate::db::jobs::save(tx, &held, now).await? {
        Ok(JobRow { revision: held.revision + 1, ..held })
    } else {
        Err(Error::conflict("contended", "the job is being changed by others; try again"))
    }
}

/// Tells the worker what it needs for the job.
async fn started(hub: &Hub, worker: &WorkerId, job: &JobRow) -> Result<DownloadBody> {
    let worker = workers::get(&mut *hub.db().conn().await?, worker).await?;
    match jobs::assign(hub, &worker, job).await? {
        ClaimAnswer::Claimed(assignment) => Ok(DownloadBody::Restore { assignment }),
        ClaimAnswer::Nothing { reason } => Err(Error::conflict("not_readable", reason)),
    }
}

fn content_type(download: &Download) -> Option<&'static str> {
    match &download.content {
        Content::Archive { format, .. } => Some(format.content_type()),
        Content::File { .. } => None,
        Content::Artifact | Content::Index => Some("application/octet-stream"),
    }
}
