//! `xvault snapshots`: what is in a store.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use xvault::connectors::snapshot;
use xvault::core::snapshot::Completeness;
use xvault::core::{Manifest, error};
use xvault::{Listed, Store};

use crate::Outcome;
use crate::args::SnapshotsArgs;
use crate::output::Output;
use crate::store;
use crate::units::{show_bytes, show_count};

pub(super) async fn run(args: &SnapshotsArgs, output: &Output) -> anyhow::Result<Outcome> {
    let store = store::open(&args.store, false)?;
    let listed = xvault::list(&*store, &super::filter(&args.filter)).await?;
    let locks = match output.json() {
        true => locks(&*store, &listed).await?,
        false => vec![None; listed.len()],
    };
    let mut outcome = Outcome::Done;
    if !output.json() && !listed.is_empty() {
        output.result(&(), header)?;
    }
    for (snapshot, locked_until) in listed.iter().zip(locks) {
        match &snapshot.manifest {
            Ok(manifest) => output.result(&Line { manifest, locked_until }, || row(manifest))?,
            Err(fault) => {
                outcome = Outcome::Warnings;
                let (id, reason) = (&snapshot.key.snapshot_id, error::chain(fault));
                let (tenant, source) = (&snapshot.key.tenant_id, &snapshot.key.source_id);
                let line =
                    json!({"snapshot_id": id, "tenant_id": tenant, "source_id": source, "error": reason});
                output.result(&line, || format!("{id}  DAMAGED: {reason}"))?;
            }
        }
    }
    Ok(outcome)
}

/// A snapshot as `--json` tells it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    /// Until when its store lets nobody delete it, where the store tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_until: Option<Timestamp>,
}

async fn locks(store: &dyn Store, listed: &[Listed]) -> anyhow::Result<Vec<Option<Timestamp>>> {
    let keys: Vec<_> = listed.iter().map(|snapshot| snapshot.key.clone()).collect();
    let locks = snapshot::locks(store, &keys).await;
    Ok(locks.map_err(xvault::Error::Store)?)
}

fn header() -> String {
    format!(
        "{:36}  {:20}  {:6}  {:36}  {:>10}  {:>10}  {:>10}",
        "SNAPSHOT", "STARTED", "TYPE", "SOURCE", "FILES", "CONTENT", "STORED"
    )
}

fn row(manifest: &Manifest) -> String {
    let content = &manifest.content_summary;
    let mut row = format!(
        "{:36}  {:20}  {:6}  {:36}  {:>10}  {:>10}  {:>10}",
        manifest.snapshot_id,
        manifest.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        manifest.source_type,
        manifest.source_id,
        show_count(content.files),
        show_bytes(content.bytes),
        show_bytes(manifest.size_bytes),
    );
    if manifest.completeness == Completeness::Partial {
        row.push_str(&format!("  partial, {} warnings", show_count(content.warnings)));
    }
    row
}
