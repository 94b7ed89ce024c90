//! What a worker is told that gives a snapshot back.

use sqlx::AnyConnection;
use xvault_core::protocol::{Name, RestoreTarget, RestoreTask, Sealed, StoreAccess, Task};

use super::{Unmet, identities, key, needs_from, release_of};
use crate::Hub;
use crate::app::downloads::Content;
use crate::app::jobs::{DatabaseOrder, RestoreOrder, ServerOrder};
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
    let mut path_base64 = None;
    let (paths, target) = match RestoreOrder::of(job).ok_or(Unmet::Kind)? {
        RestoreOrder::Download { paths, .. } => (paths, RestoreTarget::Check),
        RestoreOrder::Link { content: Content::Archive { format, paths }, .. } => {
            (paths, RestoreTarget::Archive { format })
        }
        RestoreOrder::Link { content: Content::File { path: Name::Text { path } }, .. } => {
            (vec![path], RestoreTarget::File)
        }
        RestoreOrder::Link { content: Content::File { path: Name::Bytes { path_base64: path } }, .. } => {
            path_base64 = Some(path);
            (Vec::new(), RestoreTarget::File)
        }
        RestoreOrder::Link { .. } => return Err(Unmet::Kind),
        RestoreOrder::Server(order) => {
            let target = server(hub, conn, worker, job, &order).await?;
            (order.paths, target)
        }
        RestoreOrder::Database(order) => {
            let target = database(hub, conn, worker, job, &order).await?;
            (vec![order.entry], target)
        }
    };
    // A restore reads artifact and index, which may have keys of their own.
    let identities: Sealed = identities(hub, conn, worker, job, "data+index").await?;
    let snapshot = key(job)?;
    Ok(Task::Restore(Box::new(RestoreTask { snapshot, store, identities, paths, path_base64, target })))
}

/// The server, with its credential for this worker alone.
async fn server(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    order: &ServerOrder,
) -> Result<RestoreTarget, Unmet> {
    let source = order.source_id.as_ref().or(job.source_id.as_ref()).ok_or(Unmet::NoSource)?;
    let needs = needs_from(conn, job, source).await?;
    let credential = release_of(hub, conn, worker, (job, Some(source)), &needs).await?;
    let server = needs.settings.file_server().ok_or(Unmet::NoServer)?;
    let (directory, overwrite) = (order.directory.clone(), order.overwrite);
    Ok(RestoreTarget::Server { server: Box::new(server), credential, directory, overwrite })
}

/// The database, with the credential of its source for this worker alone.
async fn database(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    order: &DatabaseOrder,
) -> Result<RestoreTarget, Unmet> {
    let source = order.source_id.as_ref().or(job.source_id.as_ref()).ok_or(Unmet::NoSource)?;
    let needs = needs_from(conn, job, source).await?;
    let database = order.target(&needs.settings).map_err(|_| Unmet::NoServer)?;
    let credential = release_of(hub, conn, worker, (job, Some(source)), &needs).await?;
    Ok(RestoreTarget::Database { database: Box::new(database), credential })
}
