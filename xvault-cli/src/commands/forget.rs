//! `xvault forget`: which snapshots stay, and the end of the others.

use std::fmt::Write;

use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xvault::connectors::{Control, Store};
use xvault::core::{Dispose, Manifest, SnapshotKey, clock, error};
use xvault::forget::{self, SourcePlan};
use xvault::retention::{Decision, Policy, PolicyError, Rules};

use crate::args::{ForgetArgs, RuleArgs};
use crate::output::Output;
use crate::units::{show_bytes, show_count};
use crate::{Outcome, WrongUsage, store};

pub(super) async fn run(
    args: &ForgetArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let removal = Removal { dry_run: args.dry_run, control: super::control(output, cancel), output };
    if args.snapshots.is_empty() { by_rules(args, &removal).await } else { by_name(args, &removal).await }
}

async fn by_rules(args: &ForgetArgs, removal: &Removal<'_>) -> anyhow::Result<Outcome> {
    let (policy, zone) = (policy(&args.rules)?, zone(args.time_zone.as_deref())?);
    let store = store::open(&args.store, false)?;
    if !args.dry_run {
        store::sweep(&*store, removal.output).await;
    }
    let filter = super::filter(&args.filter);
    let plans = forget::plan(&*store, &filter, &policy, (clock::now(), &zone), &removal.control).await?;
    for plan in &plans {
        show(plan, &zone, removal.output)?;
    }
    let doomed = plans.iter().flat_map(SourcePlan::to_delete);
    let doomed: Vec<(SnapshotKey, u64)> =
        doomed.map(|manifest| (manifest.key(), stored_bytes(manifest))).collect();
    removal.run(&*store, &doomed).await?;
    let damaged = plans.iter().any(|plan| !plan.damaged.is_empty());
    Ok(if damaged { Outcome::Warnings } else { Outcome::Done })
}

async fn by_name(args: &ForgetArgs, removal: &Removal<'_>) -> anyhow::Result<Outcome> {
    let store = store::open(&args.store, false)?;
    let filter = super::filter(&args.filter);
    let mut doomed: Vec<(SnapshotKey, u64)> = Vec::with_capacity(args.snapshots.len());
    for selector in &args.snapshots {
        let key = xvault::locate(&*store, selector, &filter).await?;
        let manifest = xvault::connectors::snapshot::manifest(&*store, &key).await;
        if !doomed.iter().any(|(other, _)| *other == key) {
            // What lies there of a damaged one is not known.
            doomed.push((key, manifest.map_or(0, |manifest| stored_bytes(&manifest))));
        }
    }
    removal.run(&*store, &doomed).await?;
    Ok(Outcome::Done)
}

fn policy(args: &RuleArgs) -> anyhow::Result<Policy> {
    Policy::try_from(Rules::from(args)).map_err(|error| WrongUsage(in_flags(&error)).into())
}

/// The same in the words of the command line.
fn in_flags(error: &PolicyError) -> String {
    if matches!(error, PolicyError::KeepsNothing) {
        return "give at least one rule that keeps something: --keep-last N, --keep-hourly N, --keep-daily N, \
            --keep-weekly N, --keep-monthly N, --keep-yearly N, --keep-within TIME, --keep-tag TAG or --max-age-days N"
            .to_owned();
    }
    let flags = [
        ("`keep_tags`", "--keep-tag"),
        ("`min_age_hours`", "--min-age-hours"),
        ("`max_age_days`", "--max-age-days"),
    ];
    flags.iter().fold(error.to_string(), |text, (field, flag)| text.replace(field, flag))
}

fn zone(name: Option<&str>) -> anyhow::Result<TimeZone> {
    let Some(name) = name else {
        return TimeZone::try_system().context("find this machine's time zone (--time-zone names another)");
    };
    let unknown =
        |_| WrongUsage(format!("`{name}` is no time zone: write a name such as Europe/Berlin or UTC"));
    Ok(TimeZone::get(name).map_err(unknown)?)
}

/// All that lies in the store of it, but for its two small files.
fn stored_bytes(manifest: &Manifest) -> u64 {
    manifest.artifact.size_bytes.saturating_add(manifest.index.size_bytes)
}

fn show(source: &SourcePlan, zone: &TimeZone, output: &Output) -> anyhow::Result<()> {
    if !output.json() {
        output.result(&(), || header(source))?;
    }
    for decision in &source.plan.decisions {
        let bytes = source.manifest(decision).map_or(0, stored_bytes);
        output.result(&line(source, decision, bytes), || row(decision, bytes, zone))?;
    }
    for (key, fault) in &source.damaged {
        let (id, reason) = (&key.snapshot_id, error::chain(fault));
        let value = json!({
            "tenant_id": key.tenant_id, "source_id": key.source_id, "snapshot_id": id, "keep": true, "error": reason,
        });
        output.result(&value, || {
            format!("{id}  DAMAGED, counts for nothing and stays (`xvault forget {id}` deletes it): {reason}")
        })?;
    }
    Ok(())
}

fn line(source: &SourcePlan, decision: &Decision, bytes: u64) -> Value {
    json!({
        "tenant_id": source.tenant_id, "source_id": source.source_id, "snapshot_id": decision.id,
        "started_at": decision.at, "size_bytes": bytes, "keep": decision.keep, "reasons": decision.reasons,
    })
}

fn header(source: &SourcePlan) -> String {
    let summary = source.plan.summary;
    format!(
        "source {} of tenant {}: {} to keep, {} to delete\n{:36}  {:25}  {:>10}  {:6}  {}",
        source.source_id,
        source.tenant_id,
        summary.total_to_keep,
        summary.total_to_delete,
        "SNAPSHOT",
        "STARTED",
        "STORED",
        "ACTION",
        "REASONS",
    )
}

fn row(decision: &Decision, bytes: u64, zone: &TimeZone) -> String {
    let started = decision.at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let action = if decision.keep { "keep" } else { "delete" };
    let mut row = format!("{:36}  {started:25}  {:>10}  {action:6}  ", decision.id, show_bytes(bytes));
    for (place, reason) in decision.reasons.iter().enumerate() {
        let comma = if place > 0 { "; " } else { "" };
        // A tag comes from the store: it must not drive the terminal. A String takes all that is written.
        let _ = write!(row, "{comma}{}", printable(&reason.to_string()));
    }
    row
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How snapshots are removed.
struct Removal<'o> {
    dry_run: bool,
    control: Control,
    output: &'o Output,
}

impl Removal<'_> {
    /// Deletes one after the other, in their order; what can't be deleted keeps no other from being deleted.
    async fn run(&self, store: &dyn Store, doomed: &[(SnapshotKey, u64)]) -> anyhow::Result<()> {
        let (mut deleted, mut bytes, mut failed) = (0, 0_u64, 0);
        for (key, size) in doomed {
            self.control.check()?;
            match self.delete(store, key).await {
                Ok(()) => (deleted, bytes) = (deleted + 1, bytes.saturating_add(*size)),
                Err(fault) => {
                    failed += 1;
                    let message = format!("delete {}: {}", key.snapshot_id, error::chain(&fault));
                    self.output.error(&message, fault.disposition());
                }
            }
        }
        let value =
            json!({"dry_run": self.dry_run, "deleted": deleted, "deleted_bytes": bytes, "failed": failed});
        self.output.result(&value, || self.closing(deleted, bytes))?;
        match failed {
            0 => Ok(()),
            _ => bail!("{failed} of {} snapshots could not be deleted", doomed.len()),
        }
    }

    async fn delete(&self, store: &dyn Store, key: &SnapshotKey) -> Result<(), xvault::Error> {
        if self.dry_run { Ok(()) } else { forget::delete(store, key).await }
    }

    fn closing(&self, deleted: u64, bytes: u64) -> String {
        let snapshots = if deleted == 1 { "snapshot" } else { "snapshots" };
        let (count, size) = (show_count(deleted), show_bytes(bytes));
        if self.dry_run {
            format!("dry run: {count} {snapshots} would be deleted, {size}")
        } else {
            format!("deleted {count} {snapshots}, {size}")
        }
    }
}
