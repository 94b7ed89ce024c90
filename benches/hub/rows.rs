//! Rows as years of use leave them, put into the tables by SQL that both engines read.

use xvault_core::JobId;

use crate::platform::Platform;

/// How many tenants share the rows.
pub(crate) const TENANTS: u64 = 50;
/// The workers that snapshots lie with.
const WORKERS: u64 = 2;
/// Of so many jobs one has failed, and made no snapshot.
const FAILS: u64 = 101;
/// 2025-01-01, in milliseconds; a job a minute from then on.
const EPOCH: u64 = 1_735_689_600_000;

/// How many rows of each kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) sources: u64,
    pub(crate) snapshots: u64,
}

impl Rows {
    /// Finished jobs: one for each snapshot, and those that failed.
    pub(crate) fn jobs(self) -> u64 {
        self.snapshots * FAILS / (FAILS - 1)
    }

    /// Fills the tables, tenant after tenant in turn; nothing is queued. `manifest` stands in every snapshot.
    pub(crate) async fn insert(self, platform: &Platform, manifest: &str) -> anyhow::Result<()> {
        for statement in [tenants(), workers(), sources(self.sources), jobs(self.jobs(), self.sources)] {
            platform.execute(&statement).await?;
        }
        let snapshots = sqlx::query(SNAPSHOTS).bind(manifest).execute(&platform.sql).await?;
        anyhow::ensure!(
            snapshots.rows_affected() == self.snapshots,
            "{} snapshots",
            snapshots.rows_affected()
        );
        platform.settle().await
    }
}

impl Platform {
    /// Lets PostgreSQL know what is in its tables, as it does by itself within a minute. The hub never asks SQLite to.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        if self.engine == crate::platform::Engine::Postgres {
            self.execute("VACUUM ANALYZE").await?;
        }
        Ok(())
    }
}

/// `n` from 0 to below `count`.
fn series(count: u64) -> String {
    format!(
        "WITH RECURSIVE series (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n + 1 < {count})"
    )
}

/// An id that looks and sorts like ours: `group` tells tables apart, `number` is an expression.
fn id(group: &str, number: &str) -> String {
    format!("'01941f29-7c00-7000-{group}-' || substr(CAST(1000000000000 + {number} AS TEXT), 2)")
}

/// Tenant number `number`.
pub(crate) fn tenant(number: u64) -> String {
    format!("01941f29-7c00-7000-8000-{number:012}")
}

/// Source number `number`, of tenant `number % TENANTS`.
pub(crate) fn source(number: u64) -> String {
    format!("01941f29-7c00-7000-8001-{number:012}")
}

fn tenants() -> String {
    format!(
        "INSERT INTO tenants (id, name, created_at, updated_at) {} SELECT {}, 'Tenant ' || CAST(n AS TEXT), {EPOCH}, \
         {EPOCH} FROM series",
        series(TENANTS),
        id("8000", "n"),
    )
}

fn workers() -> String {
    format!(
        "INSERT INTO workers (id, name, created_at, updated_at) {} SELECT 'storage-' || CAST(n AS TEXT), \
         'Storage', {EPOCH}, {EPOCH} FROM series",
        series(WORKERS),
    )
}

fn sources(count: u64) -> String {
    let config = r#"{"host":"files.example","port":22,"username":"backup","paths":["/srv","/etc","/home"],"excludes":["*.tmp","cache/"],"host_key":"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"}"#;
    format!(
        "INSERT INTO sources (id, tenant_id, type, name, config, created_at, updated_at) {} \
         SELECT {}, {}, 'sftp', 'Server ' || CAST(n AS TEXT), '{config}', {EPOCH}, {EPOCH} FROM series",
        series(count),
        id("8001", "n"),
        id("8000", &format!("n % {TENANTS}")),
    )
}

/// A schedule for each source, which rests for a day from `now` (milliseconds) on: half by cron, half by interval.
pub(crate) fn schedules(count: u64, now: i64) -> String {
    let later = now + 86_400_000;
    let either = |cron: &str, interval: &str| format!("CASE WHEN n % 2 = 0 THEN {cron} ELSE {interval} END");
    format!(
        "INSERT INTO schedules (id, tenant_id, source_id, cron, interval_minutes, timezone, next_run_at, anchor_at, \
         watched_since, expected_at, overdue_after, created_at, updated_at) {} \
         SELECT {}, {}, {}, {}, {}, {}, {later}, {now}, {now}, {later}, {later}, {now}, {now} FROM series",
        series(count),
        id("8006", "n"),
        id("8000", &format!("n % {TENANTS}")),
        id("8001", "n"),
        either("'30 3 * * *'", "NULL"),
        either("NULL", "1440"),
        either("'Europe/Berlin'", "'UTC'"),
    )
}

fn jobs(count: u64, sources: u64) -> String {
    let failed =
        |yes: &str, no: &str| format!("CASE WHEN n % {FAILS} = {} THEN {yes} ELSE {no} END", FAILS - 1);
    let at = format!("{EPOCH} + CAST(n AS BIGINT) * 60000");
    let snapshot = id("8003", "n");
    let worker = format!("'storage-' || CAST(n % {WORKERS} AS TEXT)");
    format!(
        "INSERT INTO jobs (id, tenant_id, source_id, type, status, capability, revision, attempt, not_before, worker_id, \
         error_code, error_message, snapshot_id, progress, enqueued_at, enqueue_count, push_at, started_at, finished_at, \
         created_at, updated_at) {} \
         SELECT {}, {}, {}, 'backup', {}, 'sftp', 4, 1, {at}, {worker}, {}, {}, {}, \
         '{{\"phase\":\"read_back\",\"bytes\":734003200,\"total_bytes\":734003200,\"entries\":48211,\"warnings\":0}}', \
         {at}, 1, {at}, {at}, {at} + 41000, {at}, {at} + 41000 FROM series",
        series(count),
        id("8002", "n"),
        id("8000", &format!("n % {TENANTS}")),
        id("8001", &format!("n % {sources}")),
        failed("'failed'", "'completed'"),
        failed("'connect'", "NULL"),
        failed("'no answer from files.example:22 within 20 s'", "NULL"),
        failed("NULL", &snapshot),
    )
}

/// A snapshot for each job that made one; of a hundred one is partial.
const SNAPSHOTS: &str = "
    INSERT INTO snapshots (id, tenant_id, source_id, job_id, status, size_bytes, content_bytes, files, warnings,
        started_at, finished_at, duration_ms, manifest_json, encryption_algorithm, encryption_key_id,
        encryption_recipient, storage_backend, worker_id, local_path, verified_at, created_at, updated_at)
    SELECT snapshot_id, tenant_id, source_id, id, CASE WHEN id LIKE '%77' THEN 'partial' ELSE 'completed' END,
        301989888, 734003200, 48211, CASE WHEN id LIKE '%77' THEN 3 ELSE 0 END, started_at, finished_at, 41000, $1,
        'age-x25519', '5f1d0c2b9a7e4836',
        'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p', 'local_fs', worker_id,
        '/var/lib/xvault/backups/tenants/' || tenant_id || '/sources/' || source_id || '/snapshots/' || snapshot_id,
        finished_at, finished_at, finished_at
    FROM jobs WHERE status = 'completed' AND type = 'backup'";

/// What a queued job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Remove a snapshot: for the hub the least work that there is.
    DeleteSnapshot,
    /// Pull a source: its credential is sealed to the worker, and a snapshot comes of it.
    Backup,
}

/// Queues a job for each of so many sources (or one snapshot of each), and gives their ids. `tenant` is whose sources they
/// become, with credential `credential`.
pub(crate) async fn queue(
    platform: &Platform,
    work: Work,
    count: u64,
    tenant: &str,
    credential: &str,
) -> anyhow::Result<Vec<JobId>> {
    // Messages are due in a day: it is claims that are measured, and no worker listens.
    let later = EPOCH + 86_400_000 * 3650;
    let (kind, snapshot, group) = match work {
        Work::DeleteSnapshot => ("delete_snapshot", "snapshot_id", "8004"),
        Work::Backup => ("backup", "NULL", "8005"),
    };
    let own = format!("tenant_id = '{tenant}'");
    platform.execute(&format!("UPDATE sources SET {own}, credential_id = '{credential}'")).await?;
    platform.execute(&format!("UPDATE snapshots SET {own}")).await?;
    platform
        .execute(&format!(
            "INSERT INTO jobs (id, tenant_id, source_id, type, status, capability, not_before, snapshot_id, push_at, \
             created_at, updated_at) \
             SELECT replace(id, '-8002-', '-{group}-'), '{tenant}', source_id, '{kind}', 'queued', 'sftp', {EPOCH}, \
             {snapshot}, {later}, {EPOCH}, {EPOCH} FROM jobs \
             WHERE type = 'backup' AND status = 'completed' ORDER BY id LIMIT {count}"
        ))
        .await?;
    platform.settle().await?;
    let rows =
        sqlx::query("SELECT id FROM jobs WHERE status = 'queued' ORDER BY id").fetch_all(&platform.sql);
    rows.await?.iter().map(|row| Ok(sqlx::Row::try_get::<String, _>(row, "id")?.parse()?)).collect()
}
