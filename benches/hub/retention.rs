//! A pass of retention over all sources, with nothing to delete.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::platform::Platform;
use crate::report::{Section, Verdict, mebibytes};
use crate::rows::Rows;

/// Passes over each part; the first finds nothing in memory.
const PASSES: usize = 3;
/// Which sources have the policy, one part after the other: a tenth, then all.
const PARTS: [(&str, u64); 2] = [("id LIKE '%0'", 10), ("1 = 1", 1)];
/// Keeps all that there is, and looks at each rule.
const POLICY: &str =
    r#"{"keep_last_n":1000,"keep_daily":30,"keep_weekly":12,"keep_monthly":6,"min_age_hours":24}"#;
/// The target, for 10,000 sources with 100 snapshots each.
const TARGET: Duration = Duration::from_secs(30);
/// What ten times as many sources may need more, in bytes: nothing, but for how an allocator rounds.
const GROWTH: u64 = 8 << 20;

/// The case.
pub(crate) async fn run(platform: &Platform, rows: Rows) -> anyhow::Result<Section> {
    let operator = platform.operator().await?;
    let (mut lines, mut slowest, mut peaks) = (Vec::new(), Duration::ZERO, Vec::new());
    for (which, part) in PARTS {
        platform.execute(&format!("UPDATE sources SET retention_policy = '{POLICY}' WHERE {which}")).await?;
        platform.settle().await?;
        let sources = rows.sources / part;
        for number in 1..=PASSES {
            let (before, start) = (platform.hub.usage()?, Instant::now());
            let answer: Value = operator.post("/api/v1/admin/retention/run", &json!({})).await?;
            let (took, after) = (start.elapsed(), platform.hub.usage()?);
            let snapshots = check(&answer["summary"], sources)?;
            slowest = slowest.max(took);
            lines.push(vec![
                number.to_string(),
                sources.to_string(),
                snapshots.to_string(),
                format!("{:.1}", took.as_secs_f64()),
                format!("{:.1}", (after.cpu - before.cpu).as_secs_f64()),
                mebibytes(before.resident),
                mebibytes(after.peak),
            ]);
        }
        peaks.push(platform.hub.usage()?.peak);
    }
    let growth = peaks[1].saturating_sub(peaks[0]);
    let Rows { sources, snapshots } = rows;
    Ok(Section {
        title: format!("retention, {}: {sources} sources, {snapshots} snapshots", platform.engine.name()),
        head: &["pass", "sources", "snapshots", "s", "hub CPU s", "hub MiB before", "hub MiB at most"],
        rows: lines,
        verdicts: vec![
            Verdict {
                met: slowest <= TARGET,
                text: format!(
                    "a pass over 10,000 sources with 100 snapshots each in at most {} s",
                    TARGET.as_secs()
                ),
                measured: format!("{:.1} s for the slowest", slowest.as_secs_f64()),
            },
            Verdict {
                met: growth <= GROWTH,
                text: format!("ten times as many sources need at most {} MiB more", mebibytes(GROWTH)),
                measured: format!("{} MiB more", mebibytes(growth)),
            },
        ],
        notes: vec![format!("each source has the policy `{POLICY}`, which keeps all of its snapshots")],
    })
}

/// How many snapshots were looked at. All were kept.
fn check(summary: &Value, sources: u64) -> anyhow::Result<u64> {
    let number = |key: &str| summary[key].as_u64().unwrap_or(u64::MAX);
    let snapshots = number("total_snapshots");
    ensure!(
        number("sources_evaluated") == sources
            && number("total_to_keep") == snapshots
            && number("jobs_enqueued") == 0
            && snapshots / sources > 10,
        "{summary}"
    );
    Ok(snapshots)
}
