//! How a download reaches whoever asks: who can decrypt it, and which worker serves it.

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::WorkerId;

use super::Content;
use crate::api::error::{Error, Result};
use crate::db::snapshots::Snapshot;
use crate::db::workers::Worker;
use crate::db::{tenant_keys, workers};

/// 409 `no_identity` when only the tenant can decrypt the snapshot.
pub(crate) async fn check_readable(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<()> {
    if tenant_keys::can_open(conn, &snapshot.tenant_id, &snapshot.encryption_recipient).await? {
        return Ok(());
    }
    let (id, recipient) = (&snapshot.id, &snapshot.encryption_recipient);
    let text = format!(
        "the snapshot is encrypted to a key of the tenant's own, {recipient}, whose identity is not here: download \
         the encrypted artifact, and open it where the identity is"
    );
    Err(Error::conflict("no_identity", text).details(json!({
        "encryption_recipient": recipient,
        "download": format!("/api/v1/snapshots/{id}/download?what=artifact"),
        "command": Content::Artifact.command("URL"),
    })))
}

/// What the link begins with: the worker where the snapshot lies, or any where all can reach it. 409 `worker_offline` or
/// `no_download_address`.
pub(super) async fn base_url(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<String> {
    match &snapshot.worker_id {
        Some(id) => base_of(workers::get(conn, id).await.map_err(Error::of("worker"))?),
        None => any(conn, snapshot).await,
    }
}

fn base_of(worker: Worker) -> Result<String> {
    if worker.status == "offline" || !worker.has_token {
        return Err(offline(&worker.id));
    }
    worker.download_url.ok_or_else(|| no_address(&worker.id))
}

fn offline(worker: &WorkerId) -> Error {
    let text = format!(
        "worker {worker}, on whose disk the snapshot lies, is offline: start it, or ask for a restore job, which waits for it"
    );
    Error::conflict("worker_offline", text).details(json!({ "worker_id": worker }))
}

fn no_address(worker: &WorkerId) -> Error {
    let text = format!(
        "worker {worker}, on whose disk the snapshot lies, serves no downloads: set WORKER_DOWNLOAD_ADDR and WORKER_DOWNLOAD_URL there"
    );
    Error::conflict("no_download_address", text).details(json!({ "worker_id": worker }))
}

async fn any(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<String> {
    let able = workers::available(conn, snapshot.capability().as_deref()).await?;
    if able.is_empty() {
        return Err(Error::conflict("worker_offline", "no worker is online that could serve the download"));
    }
    able.into_iter().find_map(|worker| worker.download_url).ok_or_else(|| {
        Error::conflict(
            "no_download_address",
            "no worker that is online serves downloads: set WORKER_DOWNLOAD_ADDR and WORKER_DOWNLOAD_URL on one",
        )
    })
}
