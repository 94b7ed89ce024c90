//! `xvault backup`: a source into a store.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault::connectors::Store;
use xvault::core::snapshot::{Completeness, MANIFEST_NAME};
use xvault::core::{Manifest, Phase, ReadBack, SourceId, SourceSettings};
use xvault::{BackupOptions, Filter};

use crate::args::BackupArgs;
use crate::output::Output;
use crate::units::{show_bytes, show_count, show_duration};
use crate::{Outcome, keys, store};

pub(super) async fn run(
    args: &BackupArgs,
    output: &Output,
    cancel: &CancellationToken,
) -> anyhow::Result<Outcome> {
    let (settings, mut source) = super::source(&args.source, Some(&args.store), output).await?;
    let store = store::open(&args.store, true)?;
    let source_id = args.source_id.clone().unwrap_or_else(|| source_id(&settings));
    let options = options(args, source_id.clone(), output)?;
    store::sweep(&*store, output).await;

    let mut control = super::control(output, cancel);
    if let Some(rate) = args.bwlimit {
        control = control.with_bandwidth(rate);
    }
    let expected = last_size(&*store, source_id).await;
    let options = options.control(control).expected_bytes(expected);
    output.progress().phase(Phase::Connect, None);
    let manifest = xvault::backup(&mut *source, &*store, &options).await?;
    report(&manifest, &*store, output)?;
    Ok(match manifest.completeness {
        Completeness::Whole => Outcome::Done,
        Completeness::Partial => Outcome::Warnings,
    })
}

/// The id that always belongs to this address, and to what is asked for of a database; a local path belongs to this machine.
fn source_id(settings: &SourceSettings) -> SourceId {
    let address = settings.address();
    SourceId::derive(&match settings {
        SourceSettings::Local(_) => {
            let machine = rustix::system::uname();
            format!("{address}@{}", machine.nodename().to_string_lossy())
        }
        SourceSettings::Postgres(database) => part_of(address, &[&database.schemas, &database.tables]),
        SourceSettings::Mysql(database) => part_of(address, &[&database.tables]),
        _ => address,
    })
}

/// A part is no newer snapshot of the whole: `latest` and `forget` would take it for one.
fn part_of(address: String, selected: &[&Vec<String>]) -> String {
    if selected.iter().all(|names| names.is_empty()) { address } else { format!("{address} {selected:?}") }
}

fn options(args: &BackupArgs, source_id: SourceId, output: &Output) -> anyhow::Result<BackupOptions> {
    let recipients = keys::recipients(args, output)?;
    let index_recipients = keys::parse_all(&args.index_recipient)?;
    let mut options = BackupOptions::to(recipients, source_id)?
        .tags(args.tag.clone())?
        .read_back(read_back(args))
        .level(args.level);
    if !index_recipients.is_empty() {
        options = options.index_recipients(index_recipients);
    }
    Ok(options)
}

/// All of it where that costs only time, a sample where somebody sends a bill for it.
fn read_back(args: &BackupArgs) -> ReadBack {
    match args.read_back {
        Some(asked) => asked.into(),
        None if args.store.is_bucket() => ReadBack::Sample,
        None => ReadBack::Full,
    }
}

/// What the newest snapshot of the source held; only the progress bar asks, so trouble is no error.
async fn last_size(store: &dyn Store, source_id: SourceId) -> Option<u64> {
    let filter = Filter { source_id: Some(source_id), ..Filter::default() };
    let newest = xvault::find(store, "latest", &filter).await.ok()?;
    Some(newest.content_summary.bytes)
}

fn report(manifest: &Manifest, store: &dyn Store, output: &Output) -> anyhow::Result<()> {
    let prefix = manifest.key().prefix();
    let value = json!({
        "snapshot": manifest,
        "locator": store.locator(&manifest.worker_id, &prefix),
    });
    output
        .result(&value, || describe(manifest, &format!("{}/{prefix}/{MANIFEST_NAME}", store.describe())))?;
    Ok(())
}

fn describe(manifest: &Manifest, place: &str) -> String {
    let content = &manifest.content_summary;
    let read_back = match manifest.read_back.mode {
        ReadBack::Full => "every byte was read back and compared".to_owned(),
        ReadBack::Sample => format!("{} frames were read back and compared", manifest.read_back.frames),
        ReadBack::Off => "it was not read back".to_owned(),
    };
    let mut text = format!(
        "snapshot {}\n  {} files, {} directories, {} links; {} of content, {} stored, in {}\n  {read_back}\n  {place}",
        manifest.snapshot_id,
        show_count(content.files),
        show_count(content.directories),
        show_count(content.symlinks + content.hardlinks),
        show_bytes(content.bytes),
        show_bytes(manifest.size_bytes),
        show_duration(Duration::from_millis(manifest.duration_ms)),
    );
    if content.skipped > 0 {
        text.push_str(&format!(
            "\n  {} sockets, pipes or devices were left out",
            show_count(content.skipped)
        ));
    }
    if content.warnings > 0 {
        let count = show_count(content.warnings);
        text.push_str(&format!(
            "\n  PARTIAL: {count} warnings, something could not be read whole (exit code 3)"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::core::MysqlSettings;

    #[test]
    fn a_part_of_a_database_is_another_source_than_the_whole() {
        let of = |tables: &[&str], exclude: &[&str]| {
            let mut settings = MysqlSettings::new("db.example", "u");
            settings.database = Some("shop".into());
            settings.tables = tables.iter().map(|name| (*name).to_owned()).collect();
            settings.exclude_tables = exclude.iter().map(|name| (*name).to_owned()).collect();
            source_id(&SourceSettings::Mysql(settings))
        };
        let whole = SourceId::derive("mysql://u@db.example:3306/shop");
        assert_eq!(of(&[], &[]), whole);
        assert_eq!(of(&[], &["log"]), whole);
        assert_ne!(of(&["a"], &[]), whole);
        assert_ne!(of(&["a"], &[]), of(&["b"], &[]));
    }
}
