//! A snapshot to be verified, with what opens it where the verification looks inside.

use sqlx::AnyConnection;
use xvault_core::protocol::{StoreAccess, Task, VerifyDepth, VerifyTask};

use super::{Unmet, identities, key};
use crate::Hub;
use crate::app::verify::depth;
use crate::db::jobs::JobRow;
use crate::db::tenant_keys;
use crate::db::workers::Worker;

pub(super) async fn verify(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    store: StoreAccess,
) -> Result<Task, Unmet> {
    let depth = depth(job).unwrap_or(VerifyDepth::Quick);
    let mut opening = Vec::new();
    if depth.decrypts() {
        opening.push(identities(hub, conn, worker, job, "data").await?);
        let keys = tenant_keys::with_identity(conn, &job.tenant_id).await?;
        if keys.iter().any(|key| key.purpose == "index") {
            opening.push(identities(hub, conn, worker, job, "index").await?);
        }
    }
    let snapshot = key(job)?;
    Ok(Task::Verify(Box::new(VerifyTask { snapshot, store, depth, identities: opening })))
}
