//! What hub and worker cost while nothing is to be done.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::platform::Platform;
use crate::program::{Program, Usage};
use crate::report::{Section, Verdict, mebibytes};

/// Each program may use so much of one processor, in percent.
const CPU: f64 = 1.0;
/// Each program may keep so much memory.
const MEMORY: u64 = 64 << 20;
/// How long programs may take to settle.
const SETTLE: Duration = Duration::from_secs(10);
/// How long a hub may take to give memory back.
const REST: Duration = Duration::from_secs(20);

/// The case: the programs must have worked before, so that what that left behind counts, too.
pub(crate) async fn run(platform: &Platform, worker: &Program, span: Duration) -> anyhow::Result<Section> {
    sleep(SETTLE).await;
    let start = Instant::now();
    let before = [platform.hub.usage()?, worker.usage()?];
    sleep(span).await;
    let after = [platform.hub.usage()?, worker.usage()?];
    let wall = start.elapsed();
    let shares: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| share(before, after, wall)).collect();
    let rows = ["hub", "worker"].into_iter().zip(&after).zip(&shares).map(|((name, usage), share)| {
        vec![name.to_owned(), format!("{share:.2}"), mebibytes(usage.resident), mebibytes(usage.peak)]
    });
    let (cpu, memory) = (shares.iter().copied().fold(0.0, f64::max), after.map(|usage| usage.resident));
    let memory = memory.into_iter().max().unwrap_or_default();
    Ok(Section {
        title: format!("idle: hub and worker with {} and Redis", platform.engine.name()),
        head: &["program", "% of one processor", "resident MiB", "peak MiB"],
        rows: rows.collect(),
        verdicts: vec![
            Verdict {
                met: cpu < CPU,
                text: format!("each under {CPU} % of a processor"),
                measured: format!("{cpu:.2} %"),
            },
            Verdict {
                met: memory < MEMORY,
                text: format!("each under {} MiB resident", MEMORY >> 20),
                measured: format!("{} MiB", mebibytes(memory)),
            },
        ],
        notes: vec![format!(
            "over {} s, after logins and the jobs of `start`; the hub after heavier work: see `after load`",
            span.as_secs()
        )],
    })
}

/// What a hub keeps when the load of the other cases is over.
pub(crate) async fn after_load(platform: &Platform) -> anyhow::Result<Section> {
    sleep(REST).await;
    let usage = platform.hub.usage()?;
    Ok(Section {
        title: format!("after load: the hub with {}", platform.engine.name()),
        head: &["program", "resident MiB", "peak MiB"],
        rows: vec![vec!["hub".to_owned(), mebibytes(usage.resident), mebibytes(usage.peak)]],
        verdicts: vec![Verdict {
            met: usage.resident < MEMORY,
            text: format!("under {} MiB resident", MEMORY >> 20),
            measured: format!("{} MiB", mebibytes(usage.resident)),
        }],
        notes: vec![format!(
            "{} s after the last request, with the allocator's settings of deploy/",
            REST.as_secs()
        )],
    })
}

fn share(before: &Usage, after: &Usage, wall: Duration) -> f64 {
    100.0 * (after.cpu - before.cpu).as_secs_f64() / wall.as_secs_f64()
}
