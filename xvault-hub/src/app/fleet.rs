//! Workers as operators see them. What workers do themselves is in `workers`.

use serde_json::json;
use xvault_core::WorkerId;
use xvault_core::secret::SecretString;

use super::audit::{Deed, record};
use super::tokens;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::workers::{Obligation, Worker};
use crate::db::{Page, workers};
use crate::{DbError, Hub};

/// Makes a worker and its token.
pub(crate) async fn create(
    hub: &Hub,
    who: &Principal,
    id: &WorkerId,
    name: Option<&str>,
) -> Result<(Worker, SecretString)> {
    let token = tokens::make(tokens::Kind::Worker)?;
    let mut tx = hub.db().begin().await?;
    let made =
        workers::create(&mut tx, id, name.unwrap_or(id.as_str()), &token.hash, hub.clock().now()).await?;
    if !made {
        return Err(Error::conflict("duplicate", "there is a worker with this id already"));
    }
    record(&mut tx, hub, who, deed("worker.create", id)).await?;
    let worker = workers::get(&mut tx, id).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok((worker, token.secret))
}

fn deed<'a>(action: &'a str, id: &'a WorkerId) -> Deed<'a> {
    Deed { action, target_type: "worker", target_id: id.as_str(), tenant_id: None, details: json!({}) }
}

/// One that has a token: without one it is deleted.
pub(crate) async fn get(hub: &Hub, id: &WorkerId) -> Result<Worker> {
    live(&mut *hub.db().conn().await?, id).await
}

async fn live(conn: &mut sqlx::AnyConnection, id: &WorkerId) -> Result<Worker> {
    match workers::get(conn, id).await {
        Ok(worker) if worker.has_token => Ok(worker),
        Ok(_) => Err(Error::not_found("worker")),
        Err(error) => Err(Error::of("worker")(error)),
    }
}

/// By id, backwards; one more than the page holds.
pub(crate) async fn list(hub: &Hub, page: &Page) -> Result<Vec<Worker>> {
    Ok(workers::list(&mut *hub.db().conn().await?, page).await?)
}

/// Gives it another token. The old one is void.
pub(crate) async fn rotate_token(
    hub: &Hub,
    who: &Principal,
    id: &WorkerId,
) -> Result<(Worker, SecretString)> {
    let token = tokens::make(tokens::Kind::Worker)?;
    let mut tx = hub.db().begin().await?;
    live(&mut tx, id).await?;
    workers::set_token(&mut tx, id, &token.hash, hub.clock().now()).await?;
    record(&mut tx, hub, who, deed("worker.rotate_token", id)).await?;
    let worker = workers::get(&mut tx, id).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok((worker, token.secret))
}

/// Whether it shall take no more jobs.
pub(crate) async fn set_drain(hub: &Hub, who: &Principal, id: &WorkerId, drain: bool) -> Result<Worker> {
    let mut tx = hub.db().begin().await?;
    live(&mut tx, id).await?;
    workers::set_drain(&mut tx, id, drain, hub.clock().now()).await.map_err(Error::of("worker"))?;
    record(&mut tx, hub, who, deed(if drain { "worker.drain" } else { "worker.undrain" }, id)).await?;
    let worker = workers::get(&mut tx, id).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(worker)
}

/// Makes its token void. Its row remains, because jobs of the past refer to it.
pub(crate) async fn delete(hub: &Hub, who: &Principal, id: &WorkerId) -> Result<()> {
    let mut tx = hub.db().begin().await?;
    live(&mut tx, id).await?;
    workers::revoke_token(&mut tx, id, hub.clock().now()).await.map_err(Error::of("worker"))?;
    match workers::obligation(&mut tx, id).await? {
        None => {}
        Some(Obligation::Snapshot) => {
            return Err(Error::conflict("in_use", "snapshots lie on this worker's disk: delete them first"));
        }
        Some(Obligation::Job(job_id)) => {
            let message = format!("job {job_id} is this worker's: cancel it, or wait");
            return Err(Error::conflict("in_use", message).details(json!({ "job_id": job_id })));
        }
    }
    record(&mut tx, hub, who, deed("worker.delete", id)).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}
