//! Snapshots as people see them.

use xvault_core::{SnapshotId, SourceId};

use crate::Hub;
use crate::api::error::{Error, Result};
use crate::db::snapshots::{Filter, Snapshot};
use crate::db::{Page, Scope, snapshots, sources};

/// Newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, filter: &Filter, page: &Page) -> Result<Vec<Snapshot>> {
    Ok(snapshots::list(&mut *hub.db().conn().await?, scope, filter, page).await?)
}

/// One snapshot with its manifest.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &SnapshotId) -> Result<(Snapshot, serde_json::Value)> {
    let mut conn = hub.db().conn().await?;
    let row = snapshots::get(&mut conn, scope, id).await.map_err(Error::of("snapshot"))?;
    let manifest = snapshots::manifest(&mut conn, scope, id).await.map_err(Error::of("snapshot"))?;
    Ok((row, manifest))
}

/// 404 unless the source is, or was, in scope.
pub(crate) async fn check_source(hub: &Hub, scope: &Scope, id: &SourceId) -> Result<()> {
    let mut conn = hub.db().conn().await?;
    sources::get(&mut conn, scope, id).await.map_err(Error::of("source"))?;
    Ok(())
}
