//! A look into a snapshot's index.

use xvault_core::protocol::{BrowseTask, StoreAccess, StoredIndex, Task};
use xvault_core::{SnapshotId, SnapshotKey, StoreId};

use super::{Unmet, identities, key};
use crate::app::jobs::access::{Purpose, access_for};
use crate::app::jobs::browse::payload;
use crate::db::jobs::JobRow;
use crate::db::snapshots::Snapshot;
use crate::db::workers::Worker;
use crate::db::{Scope, snapshots};
use crate::{DbError, Hub};

/// Holds no connection while a store's own service is asked.
pub(super) async fn task(
    hub: &Hub,
    worker: &Worker,
    job: &JobRow,
    store: StoreAccess,
) -> Result<Task, Unmet> {
    let asked = payload(job)?;
    let other = match &asked.other {
        Some(id) => Some(later(hub, worker, job, (id, asked.other_store)).await?),
        None => None,
    };
    let mut conn = hub.db().conn().await?;
    Ok(Task::Browse(Box::new(BrowseTask {
        snapshot: StoredIndex { snapshot: key(job)?, store },
        other,
        identities: identities(hub, &mut conn, worker, job, "index").await?,
        query: asked.query,
    })))
}

/// The later snapshot of a difference, which may be another source's.
async fn later(
    hub: &Hub,
    worker: &Worker,
    job: &JobRow,
    (id, store): (&SnapshotId, Option<StoreId>),
) -> Result<StoredIndex, Unmet> {
    let own = Scope::Tenant(job.tenant_id.clone());
    let found = snapshots::get(&mut *hub.db().conn().await?, &own, id).await;
    let Snapshot { tenant_id, source_id, id, store_id: own_store, .. } = match found {
        Err(DbError::NotFound) => return Err(Unmet::NoSnapshot),
        found => found?,
    };
    let snapshot = SnapshotKey { tenant_id, source_id, snapshot_id: id };
    let store = match store.or(own_store) {
        Some(id) => access_for(hub, worker, job, &id, &snapshot.prefix(), Purpose::Read).await?,
        None => StoreAccess::LocalFs,
    };
    Ok(StoredIndex { snapshot, store })
}
