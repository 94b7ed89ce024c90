//! A pass of retention over all sources, with nothing to delete.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::platform::Platform;
use crate::report::{Section, Verdict, mebibytes};
use crate::rows::Rows;

/// Passes that are measured; the first finds nothing in memory.
const PASSES: usize = 3;
/// Keeps all that there is, and looks at each rule.
const POLICY: &str =
    r#"{"keep_last_n":1000,"keep_daily":30,"keep_weekly":12,"keep_monthly":6,"min_age_hours":24}"#;
/// The target, for 10,000 sources with 100 snapshots each.
const TARGET: Duration = Duration::from_secs(30);

/// The case.
pub(crate) async fn run(platform: &Platform, rows: Rows) -> anyhow::Result<Section> {
    platform.execute(&format!("UPDATE sources SET retention_policy = '{POLICY}'")).await?;
    platform.settle().await?;
    let operator = platform.operator().await?;
    let (mut lines, mut slowest) = (Vec::new(), Duration::ZERO);
    for number in 1..=PASSES {
        let (before, start) = (platform.hub.usage()?, Instant::now());
        let answer: Value = operator.post("/api/v1/admin/retention/run", &json!({})).await?;
        let (took, after) = (start.elapsed(), platform.hub.usage()?);
        check(&answer["summary"], rows)?;
        slowest = slowest.max(took);
        let cpu = (after.cpu - before.cpu).as_secs_f64();
        lines.push(vec![
            number.to_string(),
            format!("{:.1}", took.as_secs_f64()),
            format!("{cpu:.1}"),
            mebibytes(before.resident),
            mebibytes(after.peak),
        ]);
    }
    let Rows { sources, snapshots } = rows;
    Ok(Section {
        title: format!("retention, {}: {sources} sources, {snapshots} snapshots", platform.engine.name()),
        head: &["pass", "s", "hub CPU s", "hub MiB before", "hub MiB at most"],
        rows: lines,
        verdicts: vec![Verdict {
            met: slowest <= TARGET,
            text: format!(
                "a pass over 10,000 sources with 100 snapshots each in at most {} s",
                TARGET.as_secs()
            ),
            measured: format!("{:.1} s for the slowest", slowest.as_secs_f64()),
        }],
        notes: vec![format!("each source has the policy `{POLICY}`, which keeps all of its snapshots")],
    })
}

fn check(summary: &Value, rows: Rows) -> anyhow::Result<()> {
    let number = |key: &str| summary[key].as_u64();
    ensure!(
        number("sources_evaluated") == Some(rows.sources)
            && number("total_to_keep") == Some(rows.snapshots)
            && number("jobs_enqueued") == Some(0),
        "{summary}"
    );
    Ok(())
}
