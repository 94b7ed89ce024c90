//! Restores: what a person asks for, and the job that comes of it.

mod database;
mod route;
mod server;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::{DownloadId, EntryPath, ExportFormat, JobId, JobKind, JobStatus, SnapshotId, StoreId};

use super::reading::{Reading, lock_readable, reading};
use super::{commit, enqueue::note};
use crate::Hub;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::again::again;
use crate::app::audit::{Deed, record};
use crate::app::downloads::{Content, check_readable};
use crate::app::{copies, wake};
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, jobs, jobs::JobRow};

pub(crate) use database::DatabaseOrder;
pub(crate) use route::{off_the_disk, reroute};
pub(crate) use server::{ServerOrder, directory};

/// The most paths that one restore can name.
pub(crate) const MAX_PATHS: usize = 1000;

/// What is to be given back, and where it goes: the payload of a restore job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "snake_case")]
pub(crate) enum RestoreOrder {
    /// A link to an archive, once it is known that all paths are there.
    Download { format: ExportFormat, paths: Vec<String>, single_use: bool },
    /// The answer to somebody who has opened a link: over when that is, and not done again.
    Link { download_id: DownloadId, content: Content },
    /// Back to a server.
    Server(ServerOrder),
    /// Into a database. Not tried again: what was loaded of it would be in the way.
    Database(DatabaseOrder),
}

impl RestoreOrder {
    /// As a job keeps it.
    pub(crate) fn payload(&self) -> Value {
        json!({ "restore": self })
    }

    /// What a job was asked for; None for jobs that restore nothing.
    pub(crate) fn of(job: &JobRow) -> Option<Self> {
        serde_json::from_value(job.payload.get("restore")?.clone()).ok()
    }

    /// The word for where it goes.
    fn word(&self) -> &'static str {
        match self {
            Self::Download { .. } => "download",
            Self::Link { .. } => "link",
            Self::Server(_) => "server",
            Self::Database(_) => "database",
        }
    }

    /// Whether it goes to a server or a database, for which its worker must have the tools.
    fn is_delivered(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Database(_))
    }

    fn max_attempts(&self, hub: &Hub) -> u32 {
        if matches!(self, Self::Database(_)) { 1 } else { hub.settings().max_attempts }
    }

    /// The server and the directory, or the database, for the audit log.
    fn place(&self) -> Option<Value> {
        match self {
            Self::Server(order) => Some(json!({
                "source_id": order.source_id, "directory": order.directory, "overwrite": order.overwrite,
            })),
            Self::Database(order) => Some(json!({
                "source_id": order.source_id, "database": order.database, "overwrite": order.overwrite,
            })),
            _ => None,
        }
    }

    fn paths(&self) -> &[String] {
        match self {
            Self::Download { paths, .. } | Self::Link { content: Content::Archive { paths, .. }, .. } => {
                paths
            }
            Self::Link { .. } => &[],
            Self::Server(order) => &order.paths,
            Self::Database(order) => std::slice::from_ref(&order.entry),
        }
    }
}

/// Paths as people type them, as the index has them: without slashes at their ends. One that means the root means everything.
pub(crate) fn entry_paths(field: &str, typed: &[String]) -> Result<Vec<String>> {
    if typed.len() > MAX_PATHS {
        return Err(Error::invalid_field(
            field,
            format!("{MAX_PATHS} paths at most; name a directory above"),
        ));
    }
    let mut paths = Vec::with_capacity(typed.len());
    for text in typed {
        match EntryPath::from_source(text.as_bytes()) {
            Ok(Some(path)) => paths.push(String::from_utf8_lossy(path.as_bytes()).into_owned()),
            Ok(None) => return Ok(Vec::new()),
            Err(error) => return Err(Error::invalid_field(field, error.to_string())),
        }
    }
    Ok(paths)
}

/// What somebody wants to be done.
#[derive(Debug, Clone)]
pub(crate) struct RestoreWish {
    pub(crate) order: RestoreOrder,
    /// A snapshot that is known to be damaged is restored, too.
    pub(crate) accept_damaged: bool,
    /// The store that it is read from, of those in which the snapshot lies.
    pub(crate) from_store: Option<StoreId>,
}

impl RestoreWish {
    /// As a job keeps it.
    fn payload(&self) -> Value {
        let mut payload = self.order.payload();
        if let Some(store) = &self.from_store {
            payload[FROM_STORE] = json!(store);
        }
        if self.accept_damaged {
            payload[ACCEPT_DAMAGED] = json!(true);
        }
        payload
    }
}

/// Where a job's payload says that somebody chose the store.
pub(crate) const FROM_STORE: &str = "from_store";

/// Where it says that a snapshot was asked for although it is damaged.
const ACCEPT_DAMAGED: &str = "accept_damaged";

/// The store that whoever asked for a restore or a verification chose. None: wherever it can be reached.
pub(crate) fn chosen_store(job: &JobRow) -> Option<StoreId> {
    job.payload.get(FROM_STORE)?.as_str()?.parse().ok()
}

/// The job's payload, of which nobody chose the store.
pub(crate) fn unchosen(mut payload: Value) -> Value {
    if let Some(fields) = payload.as_object_mut() {
        fields.remove(FROM_STORE);
    }
    payload
}

/// A restore job, and what it waits for if that is known.
#[derive(Debug)]
pub(crate) struct NewRestore {
    pub(crate) job: JobRow,
    pub(crate) note: Option<String>,
}

/// Makes the job and wakes its worker. 404 when the snapshot is not in `scope`; 409 `deleting`, `tenant_disabled`,
/// `no_identity`, `no_copy`, `damaged`, `no_tools`, or what [`server::check`] says.
pub(crate) async fn restore(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SnapshotId,
    wish: &RestoreWish,
) -> Result<NewRestore> {
    let job = again(|| add(hub, who, scope, id, wish)).await?;
    wake::push(hub, &job);
    let note = route::waits_for(hub, &job).await?;
    Ok(NewRestore { job, note })
}

async fn add(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SnapshotId,
    wish: &RestoreWish,
) -> Result<JobRow> {
    let mut tx = hub.db().begin().await?;
    let seen = lock_readable(&mut tx, scope, id).await?;
    check_readable(&mut tx, &seen).await?;
    let snapshot = copies::place(&mut tx, seen, wish.from_store.as_ref()).await?;
    if !wish.accept_damaged {
        check_sound(&mut tx, &snapshot).await?;
    }
    let tools = check_target(&mut tx, who, &snapshot, &wish.order).await?;
    let snapshot = match tools {
        Some(tools) if wish.from_store.is_none() => route::able(&mut tx, snapshot, tools).await?,
        _ => snapshot,
    };
    let new = Reading {
        kind: JobKind::Restore,
        snapshot_id: id.clone(),
        payload: wish.payload(),
        max_attempts: wish.order.max_attempts(hub),
    };
    let job = reading(hub, &snapshot, &new, Some(who.actor.id().to_owned()));
    let job = JobRow { capability: route::capability(tools, job.capability.as_deref()), ..job };
    jobs::insert(&mut tx, &job).await?;
    note(&mut tx, hub, who, &job, "job.enqueue").await?;
    record(&mut tx, hub, who, deed(&job, id, wish)).await?;
    commit(tx).await?;
    Ok(job)
}

/// What its worker must have the tools for, if `who` may write there. None: it goes to no server.
async fn check_target(
    conn: &mut AnyConnection,
    who: &Principal,
    snapshot: &Snapshot,
    order: &RestoreOrder,
) -> Result<Option<&'static str>> {
    Ok(match order {
        RestoreOrder::Server(order) => Some(server::check(conn, who, snapshot, order).await?),
        RestoreOrder::Database(order) => Some(database::check(conn, who, snapshot, order).await?),
        _ => None,
    })
}

/// A restore that is to be tried again is checked like a new one of `who`; nothing is said of other jobs.
pub(super) async fn check_again(
    conn: &mut AnyConnection,
    who: &Principal,
    snapshot: &Snapshot,
    job: &JobRow,
) -> Result<()> {
    let Some(order) = RestoreOrder::of(job) else { return Ok(()) };
    check_readable(conn, snapshot).await?;
    let read_from = match &job.store_id {
        Some(store) => copies::place(conn, snapshot.clone(), Some(store)).await?,
        None => snapshot.clone(),
    };
    if job.payload.get(ACCEPT_DAMAGED).is_none() {
        check_sound(conn, &read_from).await?;
    }
    check_target(conn, who, &read_from, &order).await.map(drop)
}

fn deed<'a>(job: &'a JobRow, id: &'a SnapshotId, wish: &RestoreWish) -> Deed<'a> {
    let order = &wish.order;
    let details = json!({
        "job_id": job.id, "target": order.word(), "paths": order.paths(), "to": order.place(),
        "accept_damaged": wish.accept_damaged, "from_store": wish.from_store,
    });
    Deed {
        action: "snapshot.restore",
        target_type: "snapshot",
        target_id: id.as_str(),
        tenant_id: Some(&job.tenant_id),
        details,
    }
}

/// 409 `damaged` when a verification found that it is not what was written where it is read from. The stores with a copy of which
/// nobody knows that are in the details: each was compared with the manifest when it was made.
async fn check_sound(conn: &mut AnyConnection, read_from: &Snapshot) -> Result<()> {
    let Some(damage) = &read_from.soundness.damage else { return Ok(()) };
    let stores = copies::sound_stores(conn, read_from).await?;
    let elsewhere = if stores.is_empty() { "" } else { " its copy in a second store with `from_store`," };
    let text = format!(
        "the snapshot is known to be damaged ({}): restore another one,{elsewhere} or what of it is whole with `accept_damaged`",
        damage.what
    );
    Err(Error::conflict("damaged", text).details(json!({ "stores": stores })))
}

/// The snapshot that a backup job made. 409 `no_snapshot` when it made none.
pub(crate) async fn made_by(hub: &Hub, scope: &Scope, id: &JobId) -> Result<SnapshotId> {
    let job = jobs::get(&mut *hub.db().conn().await?, scope, id).await.map_err(Error::of("job"))?;
    let made = job.kind == JobKind::Backup && job.status() == JobStatus::Completed;
    job.snapshot_id.filter(|_| made).ok_or_else(|| {
        Error::conflict("no_snapshot", "only a completed backup job has a snapshot that can be restored")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_people_type_them() {
        let typed = |paths: &[&str]| {
            entry_paths("paths", &paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(typed(&["/home/web/", "srv//x/./y"]).unwrap(), ["home/web", "srv/x/y"]);
        assert_eq!(typed(&["srv", "/"]).unwrap(), Vec::<String>::new());
        for (bad, told) in [
            (&["../etc"][..], "unsafe path `../etc`: it has a `..` component"),
            (&["a\0b"], "unsafe path `a\\u{0}b`: it contains a NUL byte"),
            (&["x"; MAX_PATHS + 1], "1000 paths at most; name a directory above"),
        ] {
            let error = typed(bad).unwrap_err();
            assert_eq!(error.message(), format!("field `paths`: {told}"));
        }
    }
}
