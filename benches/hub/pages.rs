//! Pages of lists, two hundred requests a second, with full tables.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use xvault_benches::Latencies;

use crate::api::{Api, text};
use crate::platform::Platform;
use crate::report::{Section, Verdict, millis, percentiles};
use crate::rows::{Rows, TENANTS, source, tenant};

/// p99 of all pages must stay below.
const LIMIT: Duration = Duration::from_millis(20);
/// Rows of a page when nothing else is asked for.
const PAGE: u64 = 50;
/// Requests a second.
const RATE: u32 = 200;
/// The tenant user's login.
const USER: (&str, &str) = ("user@bench.example", "user password of the benches");

/// What is asked for.
struct Question {
    name: String,
    who: Api,
    /// Asked for in turn.
    paths: Vec<String>,
    /// How many rows each answer has, unless that differs.
    rows: Option<u64>,
    list: &'static str,
}

/// One who looks at lists, and how many rows there are for that eye.
struct Reader {
    name: &'static str,
    api: Api,
    share: u64,
}

/// The case.
pub(crate) async fn run(platform: &Platform, rows: Rows, span: Duration) -> anyhow::Result<Section> {
    let operator = platform.operator().await?;
    let user = json!({"tenant_id": tenant(0), "email": USER.0, "password": USER.1, "role": "member"});
    let _: Value = operator.post("/api/v1/users", &user).await?;
    let readers = [
        Reader { name: "tenant", api: platform.api.login(USER.0, USER.1).await?, share: TENANTS },
        Reader { name: "operator", api: operator, share: 1 },
    ];
    let mut questions = Vec::new();
    for reader in &readers {
        for (list, all) in [("snapshots", rows.snapshots), ("sources", rows.sources), ("jobs", rows.jobs())] {
            questions.extend(first_and_deep(reader, list, all / reader.share).await?);
        }
        questions.extend(filtered(reader, rows));
    }
    let (by_name, all) = ask(&questions, RATE, span).await?;
    let mut table = vec![row("all", &all)];
    table.extend(by_name.iter().map(|(name, times)| row(name, times)));
    let p99 = all.percentile(99).unwrap_or_default();
    let usage = platform.hub.usage()?;
    Ok(Section {
        title: format!("pages, {}: `GET` of list pages at {RATE} requests/s", platform.engine.name()),
        head: &["page", "requests", "ms p50", "p99", "max"],
        rows: table,
        verdicts: vec![Verdict {
            met: p99 < LIMIT,
            text: format!("p99 under {} ms", LIMIT.as_millis()),
            measured: format!("{} ms", millis(p99)),
        }],
        notes: vec![
            format!(
                "{} snapshots, {} sources and {} jobs of {TENANTS} tenants; pages of {PAGE}; every kind of page in turn, {} s, \
                 at fixed times whatever the answers take; times count from when a request was due",
                rows.snapshots,
                rows.sources,
                rows.jobs(),
                span.as_secs(),
            ),
            format!("the hub had at most {} MiB resident", crate::report::mebibytes(usage.peak)),
        ],
    })
}

fn row(name: &str, times: &Latencies) -> Vec<String> {
    let mut row = vec![name.to_owned(), times.count().to_string()];
    row.extend([50, 99, 100].map(|percent| percentiles(times, &[percent])));
    row
}

/// The first page, and pages anywhere; all are walked through once, and must be as many rows as there are.
async fn first_and_deep(reader: &Reader, list: &'static str, rows: u64) -> anyhow::Result<[Question; 2]> {
    let (mut cursors, mut count, mut path) = (Vec::new(), 0, format!("/api/v1/{list}?limit=100"));
    loop {
        let page: Value = reader.api.get(&path).await?;
        count += length(&page, list);
        let Ok(cursor) = text(&page, "next_cursor") else { break };
        path = format!("/api/v1/{list}?limit=100&cursor={cursor}");
        cursors.push(cursor.to_owned());
    }
    ensure!(count == rows, "{} of {}: {count} rows, not {rows}", list, reader.name);
    // The last cursors may lead to less than a page.
    cursors.truncate(cursors.len().saturating_sub(1).max(1));
    let question = |name, paths| Question {
        name: format!("{list}, {name}, {}", reader.name),
        who: reader.api.clone(),
        paths,
        rows: Some(PAGE.min(rows)),
        list,
    };
    let deep = cursors.iter().map(|cursor| format!("/api/v1/{list}?cursor={cursor}")).collect();
    Ok([question("first", vec![format!("/api/v1/{list}")]), question("deep", deep)])
}

/// Lists by what few rows, or none, have.
fn filtered(reader: &Reader, rows: Rows) -> Vec<Question> {
    // Sources of tenant 0.
    let sources =
        (0..rows.sources / TENANTS).map(|n| format!("/api/v1/snapshots?source_id={}", source(n * TENANTS)));
    let failed = (rows.jobs() - rows.snapshots) / reader.share;
    let question = |name: &str, paths, rows, list| Question {
        name: format!("{list}, {name}, {}", reader.name),
        who: reader.api.clone(),
        paths,
        rows,
        list,
    };
    vec![
        question("of a source", sources.collect(), None, "snapshots"),
        question("failed", vec!["/api/v1/jobs?status=failed".to_owned()], Some(failed.min(PAGE)), "jobs"),
        question("running", vec!["/api/v1/jobs?status=running".to_owned()], Some(0), "jobs"),
    ]
}

fn length(page: &Value, list: &str) -> u64 {
    page.get(list).and_then(Value::as_array).map_or(0, |rows| rows.len() as u64)
}

type Times = BTreeMap<String, Latencies>;

/// Asks all questions in turn at a fixed rate for so long.
async fn ask(questions: &[Question], rate: u32, span: Duration) -> anyhow::Result<(Times, Latencies)> {
    let start = Instant::now() + Duration::from_millis(100);
    let every = Duration::from_secs(1) / rate;
    let mut open = JoinSet::new();
    for (number, question) in (0..).zip(questions.iter().cycle()) {
        let due = start + every * number;
        if due >= start + span {
            break;
        }
        sleep_until(due).await;
        let round = usize::try_from(number)? / questions.len();
        // A step that shares no divisor with most lengths: deep pages come in no order.
        let Some(path) = question.paths.get(round * 7919 % question.paths.len()) else { continue };
        open.spawn(one(
            question.who.clone(),
            path.clone(),
            question.list,
            question.rows,
            question.name.clone(),
            due,
        ));
    }
    let (mut times, mut all) = (Times::new(), Latencies::default());
    while let Some(done) = open.join_next().await {
        let (name, took) = done??;
        all.push(took);
        times.entry(name).or_default().push(took);
    }
    Ok((times, all))
}

async fn one(
    who: Api,
    path: String,
    list: &'static str,
    rows: Option<u64>,
    name: String,
    due: Instant,
) -> anyhow::Result<(String, Duration)> {
    let bytes = who.send(Method::GET, &path, None).await?;
    let took = due.elapsed();
    let page: Value = serde_json::from_slice(&bytes)?;
    let found = length(&page, list);
    ensure!(rows.is_none_or(|rows| rows == found), "{path}: {found} rows, not {rows:?}");
    Ok((name, took))
}
