//! How long it takes from the request for a job until a worker has it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::sleep;
use xvault_benches::Latencies;

use crate::api::{Api, text};
use crate::platform::{Platform, free_address, wait_for};
use crate::program::Program;
use crate::report::{Section, Verdict, millis, percentiles};

/// p99 must stay below.
const LIMIT: Duration = Duration::from_millis(250);
/// A job of these cases is done long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured in one way to run the service.
struct Trials {
    name: &'static str,
    /// From just before the request until the claim, by one machine's clock.
    started: Latencies,
    /// From just before the request until its answer.
    answered: Latencies,
}

/// Two fleets of one: hub, Redis, PostgreSQL and a worker; and everything in one program.
pub(crate) async fn run(
    platform: &Platform,
    worker: &mut Program,
    bin: &Path,
    trials: u32,
) -> anyhow::Result<Section> {
    let operator = platform.operator().await?;
    let tenant = new_tenant(&operator).await?;
    let fleet = measure(
        "a fleet: hub, Redis, a worker",
        &operator,
        worker,
        &probed(&operator, &tenant).await?,
        trials,
    )
    .await?;
    let all = [fleet, up(platform.dir(), bin, trials).await?];
    let worst = all.iter().filter_map(|trials| trials.started.percentile(99)).max().unwrap_or_default();
    Ok(Section {
        title: "start: from `POST /jobs` until a worker has the job".to_owned(),
        head: &["service", "jobs", "to the claim, ms p50", "p99", "max", "to the answer, ms p50"],
        rows: all.iter().map(row).collect(),
        verdicts: vec![Verdict {
            met: worst < LIMIT,
            text: format!("p99 under {} ms", LIMIT.as_millis()),
            measured: format!("{} ms", millis(worst)),
        }],
        notes: vec!["one job after another, with pauses that differ, to an idle worker".to_owned()],
    })
}

fn row(trials: &Trials) -> Vec<String> {
    let mut row = vec![trials.name.to_owned(), trials.started.count().to_string()];
    row.extend([50, 99, 100].map(|percent| percentiles(&trials.started, &[percent])));
    row.push(percentiles(&trials.answered, &[50]));
    row
}

async fn new_tenant(operator: &Api) -> anyhow::Result<String> {
    let tenant: Value = operator.post("/api/v1/tenants", &json!({"name": "Starts"})).await?;
    Ok(text(&tenant, "id")?.to_owned())
}

/// A job that any worker can run, and that ends at once: a look at a server that isn't there.
async fn probed(operator: &Api, tenant: &str) -> anyhow::Result<Value> {
    let address = free_address()?;
    let port: u16 = address.rsplit(':').next().context("a port")?.parse()?;
    let secret = json!({"tenant_id": tenant, "kind": "source", "plaintext": "YSBwYXNzd29yZA=="});
    let credential: Value = operator.post("/api/v1/credentials", &secret).await?;
    let config =
        json!({"host": "127.0.0.1", "port": port, "username": "u", "paths": ["/"], "use_password": true});
    let source = json!({
        "tenant_id": tenant, "type": "sftp", "name": "Nobody", "config": config,
        "credential_id": text(&credential, "id")?,
    });
    let source: Value = operator.post("/api/v1/sources", &source).await?;
    Ok(json!({"tenant_id": tenant, "source_id": text(&source, "id")?, "type": "probe"}))
}

async fn measure(
    name: &'static str,
    api: &Api,
    program: &mut Program,
    job: &Value,
    trials: u32,
) -> anyhow::Result<Trials> {
    let mut result = Trials { name, started: Latencies::default(), answered: Latencies::default() };
    for trial in 0..=trials {
        // Steps that no interval of the service is a multiple of.
        sleep(Duration::from_millis(200 + u64::from(trial * 37 % 150))).await;
        program.check()?;
        let (asked, timer) = (xvault_core::clock::now(), Instant::now());
        let made: Value = api.post("/api/v1/jobs", job).await?;
        let answered = timer.elapsed();
        let done = finished(api, text(&made, "id")?).await?;
        let started: jiff::Timestamp = text(&done, "started_at")?.parse()?;
        // The first one finds connections that are not made yet, as the first of a day would; it is not counted.
        if trial > 0 {
            result.started.push(started.duration_since(asked).try_into().unwrap_or_default());
            result.answered.push(answered);
        }
    }
    Ok(result)
}

async fn finished(api: &Api, id: &str) -> anyhow::Result<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let job: Value = api.get(&format!("/api/v1/jobs/{id}")).await?;
        match text(&job, "status")? {
            "completed" | "failed" => return Ok(job),
            status if Instant::now() > until => bail!("job {id} is still {status}"),
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// `xvault up`, backing up a small directory.
async fn up(dir: &Path, bin: &Path, trials: u32) -> anyhow::Result<Trials> {
    let (data, content, listen) = (dir.join("up"), dir.join("content"), free_address()?);
    std::fs::create_dir(&content)?;
    std::fs::write(content.join("file"), "content")?;
    let [data_dir, allowed] = [&data, &content].map(|path| path.to_str().unwrap_or_default());
    let args = ["up", "--data-dir", data_dir, "--listen", &listen, "--allow-local", allowed];
    let mut program = Program::start(&bin.join("xvault"), &args, &[], dir.join("up.log"))?;
    let api = Api::new(format!("http://{listen}"))?;
    wait_for(&api, &mut program).await?;
    let login: Value = serde_json::from_slice(&std::fs::read(data.join("first-login.json"))?)?;
    let operator = api.login(text(&login, "email")?, text(&login, "password")?).await?;
    let tenant = new_tenant(&operator).await?;
    let source =
        json!({"tenant_id": tenant, "type": "local", "name": "Files", "config": {"paths": [allowed]}});
    let source: Value = operator.post("/api/v1/sources", &source).await?;
    let job = json!({"tenant_id": tenant, "source_id": text(&source, "id")?});
    measure("`xvault up`", &operator, &mut program, &job, trials).await
}
