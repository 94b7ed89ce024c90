//! Table `workers`: the programs that do the work.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::protocol::{Register, WorkerMetrics};
use xvault_core::{JobId, Recipient, WorkerId};

use super::{Error, Page, Result, instant, instant_opt, json, json_opt, parsed, parsed_opt, touched};

/// What workers can that reach stores in buckets.
pub(crate) const S3: &str = "s3";

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) name: String,
    /// `online`, `offline` or `draining`, as it last said.
    pub(crate) status: String,
    /// An operator wants it to take no more jobs.
    pub(crate) drain: bool,
    /// Whether it has a token.
    pub(crate) has_token: bool,
    /// What secrets for it are sealed to. None until it registers.
    pub(crate) recipient: Option<Recipient>,
    pub(crate) version: Option<String>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) concurrency: i64,
    pub(crate) storage_base_path: Option<String>,
    /// What links to its downloads begin with. None: it serves none.
    pub(crate) download_url: Option<String>,
    /// As of the last heartbeat.
    pub(crate) metrics: Option<WorkerMetrics>,
    pub(crate) last_seen_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Worker {
    /// Whether it takes no more backups, and of other jobs those alone that no other worker can run.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain || self.status == "draining"
    }

    /// Whether it can run a job that needs `capability`: one word, or several with `+` between them.
    pub(crate) fn is_capable(&self, capability: Option<&str>) -> bool {
        let has = |needed: &str| self.capabilities.iter().any(|own| own == needed);
        capability.is_none_or(|needed| needed.split('+').all(has))
    }

    /// All that jobs may ask of it, with a comma before and behind each: what it can, and each together with a store.
    pub(crate) fn words(&self) -> String {
        let with_store = self.capabilities.iter().filter(|_| self.is_capable(Some(S3)));
        let with_store = with_store.map(|own| format!("{own}+{S3},"));
        let own = self.capabilities.iter().map(|own| format!("{own},"));
        std::iter::once(",".to_owned()).chain(own).chain(with_store).collect()
    }
}

fn from_row(row: &AnyRow) -> Result<Worker> {
    Ok(Worker {
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        status: row.try_get("status")?,
        drain: row.try_get::<i64, _>("drain")? != 0,
        has_token: row.try_get::<Option<String>, _>("token_hash")?.is_some(),
        recipient: parsed_opt(row, "recipient")?,
        version: row.try_get("version")?,
        capabilities: json(row, "capabilities")?,
        concurrency: row.try_get("concurrency")?,
        storage_base_path: row.try_get("storage_base_path")?,
        download_url: row.try_get("download_url")?,
        metrics: json_opt(row, "metrics")?,
        last_seen_at: instant_opt(row, "last_seen_at")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

/// One worker.
pub(crate) async fn get(conn: &mut AnyConnection, id: &WorkerId) -> Result<Worker> {
    let row = sqlx::query("SELECT * FROM workers WHERE id = $1").bind(id.as_str()).fetch_one(conn).await?;
    from_row(&row)
}

/// Whose token has this hash.
pub(crate) async fn id_by_token_hash(conn: &mut AnyConnection, hash: &str) -> Result<WorkerId> {
    let row = sqlx::query("SELECT id FROM workers WHERE token_hash = $1").bind(hash).fetch_one(conn).await?;
    parsed(&row, "id")
}

/// Adds a worker that has not registered yet. False when there is one with this id that has a token; one without is taken
/// over.
pub(crate) async fn create(
    conn: &mut AnyConnection,
    id: &WorkerId,
    name: &str,
    token_hash: &str,
    now: Timestamp,
) -> Result<bool> {
    let result = sqlx::query(
        "INSERT INTO workers (id, name, token_hash, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (id) DO UPDATE SET name = $2, token_hash = $3, drain = 0, updated_at = $4
         WHERE workers.token_hash IS NULL",
    )
    .bind(id.as_str())
    .bind(name)
    .bind(token_hash)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// What keeps a worker from being given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obligation {
    /// A job that it has, or that is for it alone.
    Job(JobId),
    /// A snapshot on its disk.
    Snapshot,
}

/// What a worker still is needed for, if anything.
pub(crate) async fn obligation(conn: &mut AnyConnection, id: &WorkerId) -> Result<Option<Obligation>> {
    let snapshot = sqlx::query("SELECT id FROM snapshots WHERE worker_id = $1 LIMIT 1");
    if snapshot.bind(id.as_str()).fetch_optional(&mut *conn).await?.is_some() {
        return Ok(Some(Obligation::Snapshot));
    }
    let job = sqlx::query(
        "SELECT id FROM jobs WHERE (lease_expires_at IS NOT NULL AND worker_id = $1)
             OR (status = 'queued' AND target_worker_id = $1) LIMIT 1",
    );
    let job = job.bind(id.as_str()).fetch_optional(conn).await?;
    job.map(|row| Ok(Obligation::Job(parsed(&row, "id")?))).transpose()
}

/// Gives a worker its token, and makes the worker if there is none. The token before that is void.
pub(crate) async fn set_token(
    conn: &mut AnyConnection,
    id: &WorkerId,
    token_hash: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO workers (id, name, token_hash, created_at, updated_at) VALUES ($1, $1, $2, $3, $3)
         ON CONFLICT (id) DO UPDATE SET token_hash = $2, updated_at = $3",
    )
    .bind(id.as_str())
    .bind(token_hash)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes its token void.
pub(crate) async fn revoke_token(conn: &mut AnyConnection, id: &WorkerId, now: Timestamp) -> Result<()> {
    let result = sqlx::query("UPDATE workers SET token_hash = NULL, updated_at = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    touched(&result)
}

/// Takes over what a worker says of itself. The name that it was given stays, unless it says another.
pub(crate) async fn register(conn: &mut AnyConnection, said: &Register, now: Timestamp) -> Result<()> {
    let capabilities =
        serde_json::to_string(&said.capabilities).map_err(|_| Error::Corrupt { column: "capabilities" })?;
    let result = sqlx::query(
        "UPDATE workers SET name = COALESCE($2, name), recipient = $3, version = $4, capabilities = $5, concurrency = $6,
             storage_base_path = $7, status = 'online', last_seen_at = $8, updated_at = $8, download_url = $9
         WHERE id = $1",
    )
    .bind(said.worker_id.as_str())
    .bind(said.name.clone())
    .bind(said.recipient.to_string())
    .bind(&said.version)
    .bind(capabilities)
    .bind(i64::from(said.concurrency))
    .bind(&said.storage_base_path)
    .bind(now.as_millisecond())
    .bind(said.download_url.clone())
    .execute(conn)
    .await?;
    touched(&result)
}

/// It lives.
pub(crate) async fn heartbeat(
    conn: &mut AnyConnection,
    id: &WorkerId,
    draining: bool,
    metrics: &WorkerMetrics,
    now: Timestamp,
) -> Result<()> {
    let metrics = serde_json::to_string(metrics).map_err(|_| Error::Corrupt { column: "metrics" })?;
    let result = sqlx::query(
        "UPDATE workers SET status = $2, metrics = $3, last_seen_at = $4, updated_at = $4 WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(if draining { "draining" } else { "online" })
    .bind(metrics)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&result)
}

/// Whether it shall take no more jobs.
pub(crate) async fn set_drain(
    conn: &mut AnyConnection,
    id: &WorkerId,
    drain: bool,
    now: Timestamp,
) -> Result<()> {
    let result = sqlx::query("UPDATE workers SET drain = $2, updated_at = $3 WHERE id = $1")
        .bind(id.as_str())
        .bind(i64::from(drain))
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    touched(&result)
}

/// Those who were last seen before `before` are offline. Gives how many became so.
pub(crate) async fn mark_offline(conn: &mut AnyConnection, before: Timestamp, now: Timestamp) -> Result<u64> {
    let result = sqlx::query(
        "UPDATE workers SET status = 'offline', updated_at = $2 WHERE status <> 'offline' AND last_seen_at < $1",
    )
    .bind(before.as_millisecond())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// A page of the workers that have a token, by id and backwards; one more than it holds.
pub(crate) async fn list(conn: &mut AnyConnection, page: &Page) -> Result<Vec<Worker>> {
    let query = sqlx::query(
        "SELECT * FROM workers WHERE id < $1 AND token_hash IS NOT NULL ORDER BY id DESC LIMIT $2",
    )
    .bind(page.before())
    .bind(page.probe_limit());
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// All workers, by id. There are as many as an operator has given tokens.
pub(crate) async fn all(conn: &mut AnyConnection) -> Result<Vec<Worker>> {
    let query = sqlx::query("SELECT * FROM workers ORDER BY id");
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// Workers that take jobs and can run those that need `capability`, the last seen first.
pub(crate) async fn available(conn: &mut AnyConnection, capability: Option<&str>) -> Result<Vec<Worker>> {
    let rows = sqlx::query(
        "SELECT * FROM workers
         WHERE status = 'online' AND drain = 0 AND recipient IS NOT NULL AND token_hash IS NOT NULL
         ORDER BY last_seen_at DESC, id",
    )
    .fetch_all(conn)
    .await?;
    let workers = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    Ok(workers.into_iter().filter(|worker| worker.is_capable(capability)).collect())
}
