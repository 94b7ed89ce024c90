//! What a worker is told that gives a snapshot back.

use sqlx::AnyConnection;
use xvault_core::protocol::{RestoreTarget, RestoreTask, Sealed, StoreAccess, Task};

use super::{Unmet, identities, key};
use crate::Hub;
use crate::app::downloads::Content;
use crate::app::jobs::RestoreOrder;
use crate::db::jobs::JobRow;
use crate::db::workers::Worker;

/// The task, with the identities that open artifact and index.
pub(super) async fn task(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    store: StoreAccess,
) -> Result<Task, Unmet> {
    let (paths, target) = match RestoreOrder::of(job).ok_or(Unmet::Kind)? {
        RestoreOrder::Download { paths, .. } => (paths, RestoreTarget::Check),
        RestoreOrder::Link { content: Content::Archive { format, paths }, .. } => {
            (paths, RestoreTarget::Archive { format })
        }
        RestoreOrder::Link { content: Content::File { path }, .. } => (vec![path], RestoreTarget::File),
        RestoreOrder::Link { .. } => return Err(Unmet::Kind),
    };
    let identities: Sealed = identities(hub, conn, worker, job, "data").await?;
    Ok(Task::Restore(Box::new(RestoreTask { snapshot: key(job)?, store, identities, paths, target })))
}
