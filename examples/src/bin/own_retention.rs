//! Retention for backups that are none of xVault's: database dumps in a directory, `NAME-YYYYMMDD-HHMMSS.sql.gz`.
//!
//! `own_retention DIR [--delete]`; without `--delete` it only says what would happen.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use xvault::core::clock;
use xvault::retention::jiff::civil::DateTime;
use xvault::retention::jiff::tz::TimeZone;
use xvault::retention::{Policy, Rules, Snapshot, Status, evaluate};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = args.first().context("usage: own_retention DIR [--delete]")?;
    let delete = args.get(1).is_some_and(|arg| arg == "--delete");

    // The same policy is `{"keep_last_n": 3, "keep_daily": 7, …}` in a configuration file: `Policy::parse`.
    let policy = Policy::try_from(Rules {
        keep_last_n: Some(3),
        keep_daily: Some(7),
        keep_monthly: Some(12),
        min_age_hours: Some(12),
        ..Rules::default()
    })?;
    let dumps = dumps(Path::new(dir))?;
    let snapshots: Vec<Snapshot> = dumps.iter().map(|(_, snapshot)| snapshot.clone()).collect();
    let plan = evaluate(&policy, &snapshots, clock::now(), &TimeZone::UTC);

    for decision in &plan.decisions {
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        println!(
            "{}  {}  {}",
            decision.id,
            if decision.keep { "keep" } else { "delete" },
            reasons.join("; ")
        );
    }
    // Oldest first, so that whoever stops it half-way has the newer ones still.
    for decision in plan.to_delete().filter(|_| delete) {
        let (path, _) =
            dumps.iter().find(|(_, snapshot)| snapshot.id == decision.id).context("unknown dump")?;
        fs::remove_file(path)?;
    }
    println!("{} to keep, {} to delete", plan.summary.total_to_keep, plan.summary.total_to_delete);
    Ok(())
}

/// The dumps in a directory; other files are none of our business.
fn dumps(dir: &Path) -> anyhow::Result<Vec<(PathBuf, Snapshot)>> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(snapshot) = snapshot(&name, entry.metadata()?.len()) {
            dumps.push((entry.path(), snapshot));
        }
    }
    Ok(dumps)
}

/// What the name of a dump tells. An empty dump is a failed one: it counts for nothing.
fn snapshot(name: &str, len: u64) -> Option<Snapshot> {
    let stem = name.strip_suffix(".sql.gz")?;
    let time = stem.get(stem.len().checked_sub(15)?..)?;
    let at = DateTime::strptime("%Y%m%d-%H%M%S", time).ok()?;
    let at = at.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp();
    let status = if len > 0 { Status::Whole } else { Status::Failed };
    Some(Snapshot { status, ..Snapshot::new(stem.parse().ok()?, at) })
}
