//! A round of the scheduler: many schedules, a hundredth of them due at once.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::time::sleep;

use crate::manifest;
use crate::platform::Platform;
use crate::report::{Section, Verdict, millis};
use crate::rows::{self, Rows};

/// With 100,000 schedules a round may take so long.
const LIMIT: Duration = Duration::from_secs(2);
/// The hub looks every 15 s.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at whether a round is over.
const LOOK: Duration = Duration::from_millis(10);

/// How long one round took.
struct Round {
    jobs: u64,
    took: Duration,
    /// Of the hub, from when schedules became due until all were run.
    cpu: Duration,
}

/// The case: `rows.sources` schedules, of which a hundredth becomes due, `trials` times.
pub(crate) async fn run(platform: &Platform, rows: Rows, trials: u32) -> anyhow::Result<Section> {
    rows.insert(platform, &manifest::example()?).await?;
    let now = xvault_core::clock::now().as_millisecond();
    platform.execute(&rows::schedules(rows.sources, now)).await?;
    platform.settle().await?;
    let mut rounds = Vec::new();
    for trial in 0..trials {
        rounds.push(round(platform, trial, rows.sources / 100).await?);
    }
    let worst = rounds.iter().map(|round| round.took).max().unwrap_or_default();
    Ok(Section {
        title: format!("schedules, {}: {} of them, a hundredth due", platform.engine.name(), rows.sources),
        head: &["round", "jobs", "ms", "hub CPU ms"],
        rows: rounds.iter().enumerate().map(|(number, round)| row(number, round)).collect(),
        verdicts: vec![Verdict {
            met: worst < LIMIT,
            text: format!("every round under {} s", LIMIT.as_secs()),
            measured: format!("{} ms", millis(worst)),
        }],
        notes: vec![
            "from the beginning of the scheduler's round (`last_run_at`) until the last schedule was seen to have moved on; half are \
             cron in Europe/Berlin, half intervals; their jobs' messages go to Redis meanwhile, and no worker takes them"
                .to_owned(),
        ],
    })
}

fn row(number: usize, round: &Round) -> Vec<String> {
    vec![(number + 1).to_string(), round.jobs.to_string(), millis(round.took), millis(round.cpu)]
}

/// Lets those become due whose number ends in `trial`, and waits until all have a job.
async fn round(platform: &Platform, trial: u32, expected: u64) -> anyhow::Result<Round> {
    // What the round before has queued is as if it were done.
    platform.execute("DELETE FROM jobs WHERE status = 'queued'").await?;
    platform.settle().await?;
    let before = platform.hub.usage()?;
    let due_at = xvault_core::clock::now().as_millisecond() - 1;
    let due = platform
        .execute(&format!("UPDATE schedules SET next_run_at = {due_at} WHERE id LIKE '%{trial:02}'"))
        .await?;
    ensure!(due == expected, "{due} schedules are due, not {expected}");
    let until = Instant::now() + PATIENCE;
    // None becomes due by itself within a day.
    let waiting =
        format!("SELECT COUNT(*) AS n FROM schedules WHERE enabled = 1 AND next_run_at <= {due_at}");
    while platform.number(&waiting).await? > 0 {
        ensure!(Instant::now() < until, "schedules are not run");
        sleep(LOOK).await;
    }
    let end = xvault_core::clock::now().as_millisecond();
    let begin = platform
        .number("SELECT MIN(last_run_at) AS n FROM schedules WHERE last_job_id IN (SELECT id FROM jobs WHERE status = 'queued')")
        .await?;
    let jobs = platform.number("SELECT COUNT(*) AS n FROM jobs WHERE schedule_id IS NOT NULL").await?;
    ensure!(jobs.unsigned_abs() == expected, "{jobs} jobs were made, not {expected}");
    let took = Duration::from_millis((end - begin).unsigned_abs());
    Ok(Round { jobs: expected, took, cpu: platform.hub.usage()?.cpu - before.cpu })
}
