//! An attempt at a backup begins: which store it writes to is decided now, and what it may leave there is written down, as for one
//! at a copy.

use jiff::Timestamp;
use sqlx::AnyConnection;
use xvault_core::{SnapshotKey, StoreId, TenantId};

use super::stores::next_time;
use crate::Hub;
use crate::db::store_sweeps::{self, Part};
use crate::db::{self, Scope, copy_attempts, jobs, jobs::JobRow, sources, store_attempts};

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
        sweep(&mut tx, store, &key.tenant_id, now).await?;
    }
    tx.commit().await?;
    Ok(Some(job))
}

/// False: the job was changed by somebody else.
pub(super) async fn begin_copy(hub: &Hub, claimed: &JobRow, now: Timestamp) -> db::Result<bool> {
    let mut tx = hub.db().begin().await?;
    if !jobs::save(&mut tx, claimed, now).await? {
        return Ok(false);
    }
    if let (Some(store), Some(snapshot)) = (&claimed.store_id, &claimed.snapshot_id) {
        copy_attempts::begin(&mut tx, snapshot, store, now).await?;
        sweep(&mut tx, store, &claimed.tenant_id, now).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// The tenant's part of the store is swept from now on.
pub(crate) async fn sweep(
    conn: &mut AnyConnection,
    store: &StoreId,
    tenant: &TenantId,
    now: Timestamp,
) -> db::Result<()> {
    let part = Part { store_id: store.clone(), tenant_id: tenant.clone(), next_at: now };
    store_sweeps::begin(conn, (store, tenant), next_time(&part, now)).await
}
