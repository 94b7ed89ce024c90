//! Claim → complete of jobs that need no work, by eight workers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use xvault_benches::Latencies;
use xvault_core::protocol::{
    Assignment, Claim, ClaimAnswer, Complete, CompleteAnswer, Outcome, Register, Registered, Task, TaskResult,
};
use xvault_core::snapshot::Locator;
use xvault_core::{Identity, JobId, JobStatus, SnapshotKey, WorkerId};

use crate::api::{Api, text};
use crate::manifest;
use crate::platform::{Engine, Platform};
use crate::report::{Section, Verdict, percentiles};
use crate::rows::{self, Work};

/// Workers at once.
const WORKERS: usize = 8;

/// Eight clients that speak as workers do, with a token each.
pub(crate) struct Crew {
    members: Vec<(WorkerId, Api)>,
    tenant: String,
    credential: String,
}

impl Crew {
    /// Makes the workers known, and a tenant with a password for its sources.
    pub(crate) async fn hire(platform: &Platform) -> anyhow::Result<Self> {
        let operator = platform.operator().await?;
        let tenant: Value = operator.post("/api/v1/tenants", &json!({"name": "Bench"})).await?;
        let tenant = text(&tenant, "id")?.to_owned();
        let secret =
            json!({"tenant_id": tenant, "kind": "source", "plaintext": STANDARD.encode("a password")});
        let credential: Value = operator.post("/api/v1/credentials", &secret).await?;
        let credential = text(&credential, "id")?.to_owned();
        let mut members = Vec::new();
        for number in 0..WORKERS {
            members.push(member(platform, &format!("bench-{number}")).await?);
        }
        Ok(Self { members, tenant, credential })
    }

    /// Does `count` jobs of a kind, which are queued first; a row of the report, and jobs per second.
    async fn work(&self, platform: &Platform, work: Work, count: u64) -> anyhow::Result<(Vec<String>, f64)> {
        let jobs = Arc::new(rows::queue(platform, work, count, &self.tenant, &self.credential).await?);
        ensure!(jobs.len() as u64 == count, "{} jobs are queued, not {count}", jobs.len());
        let (next, before, start) = (Arc::new(AtomicUsize::new(0)), platform.hub.usage()?, Instant::now());
        let tasks = self
            .members
            .iter()
            .cloned()
            .map(|(id, api)| tokio::spawn(member_works(id, api, jobs.clone(), next.clone())));
        let tasks: Vec<_> = tasks.collect();
        let (mut claims, mut completions) = (Latencies::default(), Latencies::default());
        for task in tasks {
            let (claimed, completed) = task.await??;
            claims.append(claimed);
            completions.append(completed);
        }
        let wall = start.elapsed();
        let cpu = platform.hub.usage()?.cpu - before.cpu;
        let open = platform
            .number("SELECT COUNT(*) AS n FROM jobs WHERE status NOT IN ('completed', 'failed')")
            .await?;
        ensure!(open == 0 && completions.count() as u64 == count, "{open} jobs are not completed");
        let rate = f64::from(u32::try_from(count)?) / wall.as_secs_f64();
        let mut row = vec![format!("{work:?}"), count.to_string(), format!("{rate:.0}")];
        row.extend([&claims, &completions].map(|times| percentiles(times, &[50, 99])));
        row.push(format!("{:.2}", cpu.as_secs_f64() * 1000.0 / f64::from(u32::try_from(count)?)));
        Ok((row, rate))
    }
}

async fn member(platform: &Platform, id: &str) -> anyhow::Result<(WorkerId, Api)> {
    let api = platform.api.with_token(&platform.worker_token(id)?)?;
    let register = Register {
        worker_id: id.parse()?,
        name: None,
        recipient: Identity::generate().recipient(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities: vec!["sftp".to_owned(), "ssh".to_owned()],
        storage_base_path: "/var/lib/xvault/backups".to_owned(),
        concurrency: 1,
        download_url: None,
    };
    let _: Registered = api.post("/internal/workers/register", &register).await?;
    Ok((register.worker_id, api))
}

/// Takes the next job of the list, as one who got its message, until there is none; the times of claims and completions.
async fn member_works(
    id: WorkerId,
    api: Api,
    jobs: Arc<Vec<JobId>>,
    next: Arc<AtomicUsize>,
) -> anyhow::Result<(Latencies, Latencies)> {
    let (mut claims, mut completions) = (Latencies::default(), Latencies::default());
    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        let (assignment, took) = claim(&api, job).await?;
        claims.push(took);
        completions.push(complete(&id, &api, *assignment).await?);
    }
    Ok((claims, completions))
}

async fn claim(api: &Api, job: &JobId) -> anyhow::Result<(Box<Assignment>, Duration)> {
    let start = Instant::now();
    match api.post("/internal/jobs/claim", &Claim { job_id: Some(job.clone()), nonce: None }).await? {
        ClaimAnswer::Claimed(assignment) => Ok((assignment, start.elapsed())),
        ClaimAnswer::Nothing { reason } => bail!("job {job}: {reason}"),
    }
}

async fn complete(worker: &WorkerId, api: &Api, assignment: Assignment) -> anyhow::Result<Duration> {
    let path = format!("/internal/jobs/{}/complete", assignment.job_id);
    let lease_token = assignment.lease_token.clone();
    let outcome = Outcome::Completed { result: result(worker, assignment)? };
    let start = Instant::now();
    let answer: CompleteAnswer = api.post(&path, &Complete { lease_token, outcome }).await?;
    let took = start.elapsed();
    ensure!(answer.status == JobStatus::Completed, "{path}: {:?}", answer.status);
    Ok(took)
}

/// What a worker says that has done what it was asked to.
fn result(worker: &WorkerId, assignment: Assignment) -> anyhow::Result<TaskResult> {
    match assignment.task {
        Task::DeleteSnapshot { .. } => Ok(TaskResult::DeleteSnapshot { copies_kept: Vec::new() }),
        Task::Backup(task) => {
            task.credential.context("a backup comes with its credential")?;
            let key = SnapshotKey {
                tenant_id: assignment.tenant_id,
                source_id: task.source_id,
                snapshot_id: task.snapshot_id,
            };
            let local_path = format!("/var/lib/xvault/backups/{}", key.prefix());
            let manifest = Box::new(manifest::of(key, assignment.job_id, worker.clone()));
            Ok(TaskResult::Backup {
                manifest,
                locator: Locator::LocalFs { worker_id: worker.clone(), local_path },
                locked_until: None,
            })
        }
        task => bail!("nobody asked for {task:?}"),
    }
}

/// The case.
pub(crate) async fn run(platform: &Platform, count: u64) -> anyhow::Result<Section> {
    let crew = Crew::hire(platform).await?;
    let (deletions, rate) = crew.work(platform, Work::DeleteSnapshot, count).await?;
    let (backups, _) = crew.work(platform, Work::Backup, count).await?;
    let target = match platform.engine {
        Engine::Postgres => 500.0,
        Engine::Sqlite => 200.0,
    };
    Ok(Section {
        title: format!("claims, {}: claim → complete by {WORKERS} workers", platform.engine.name()),
        head: &["job", "jobs", "jobs/s", "claim ms p50 / p99", "complete ms p50 / p99", "hub CPU ms a job"],
        rows: vec![deletions, backups],
        verdicts: vec![Verdict {
            met: rate >= target,
            text: format!("at least {target} no-op jobs (`DeleteSnapshot`) a second"),
            measured: format!("{rate:.0}"),
        }],
        notes: vec![format!(
            "every job was put into the table beforehand; each of the {WORKERS} clients keeps one connection and does one \
             job after another, by the id that a message would have brought"
        )],
    })
}
