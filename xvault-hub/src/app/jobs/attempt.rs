//! An attempt at a backup begins: which store it writes to is decided now, and what it may leave there is written down.

use jiff::Timestamp;
use xvault_core::SnapshotKey;

use super::stores::next_time;
use crate::Hub;
use crate::db::store_sweeps::{self, Part};
use crate::db::{self, Scope, jobs, jobs::JobRow, sources, store_attempts};

/// The claimed job with its store, saved. None: it was changed by somebody else.
pub(super) async fn begin(hub: &Hub, claimed: JobRow, now: Timestamp) -> db::Result<Option<JobRow>> {
    let mut tx = hub.db().begin().await?;
    let store_id = match &claimed.source_id {
        Some(id) => sources::get(&mut tx, &Scope::All, id).await?.store_id,
        None => None,
    };
    let job = JobRow { store_id, ..claimed };
    if !jobs::save(&mut tx, &job, now).await? {
        return Ok(None);
    }
    if let (Some(store), Some(source), Some(snapshot)) = (&job.store_id, &job.source_id, &job.snapshot_id) {
        let key = SnapshotKey {
            tenant_id: job.tenant_id.clone(),
            source_id: source.clone(),
            snapshot_id: snapshot.clone(),
        };
        store_attempts::insert(&mut tx, &key, &job.id, store, now).await?;
        let part = Part { store_id: store.clone(), tenant_id: key.tenant_id, next_at: now };
        store_sweeps::begin(&mut tx, (&part.store_id, &part.tenant_id), next_time(&part, now)).await?;
    }
    tx.commit().await?;
    Ok(Some(job))
}
