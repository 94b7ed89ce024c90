//! `xvault restore -o`: into one archive file, or to standard output.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde_json::json;
use xvault::core::EntryPath;
use xvault::{Control, ExportFormat, Exported, Snapshot};

use crate::WrongUsage;
use crate::args::{OverwriteArg, RestoreArgs};
use crate::output::{Output, write_stderr};
use crate::units::{show_bytes, show_count};

/// Where an export goes, found out before anything is read.
pub(super) enum Destination {
    Stdout(ExportFormat),
    File(ExportFormat, PathBuf),
}

/// What the flags mean; `None` when they name no file.
pub(super) fn destination(args: &RestoreArgs) -> anyhow::Result<Option<Destination>> {
    let Some(path) = &args.output else { return Ok(None) };
    if path.as_os_str() == "-" {
        let Some(format) = args.format else {
            return Err(
                WrongUsage("standard output has no name that tells a format: add --format".into()).into()
            );
        };
        if io::stdout().is_terminal() {
            return Err(WrongUsage("an archive does not belong on a terminal: redirect it".into()).into());
        }
        return Ok(Some(Destination::Stdout(format)));
    }
    let Some(format) = args.format.or_else(|| by_name(path)) else {
        let message = format!("{} ends in none of .tar, .tar.zst, .zip: add --format", path.display());
        return Err(WrongUsage(message).into());
    };
    if args.overwrite == OverwriteArg::Never && path.symlink_metadata().is_ok() {
        bail!("{} exists: choose another name, or --overwrite always", path.display());
    }
    Ok(Some(Destination::File(format, path.clone())))
}

fn by_name(path: &Path) -> Option<ExportFormat> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    ExportFormat::ALL.into_iter().find(|format| name.ends_with(&format!(".{format}")))
}

pub(super) async fn run(
    snapshot: &Snapshot<'_>,
    destination: &Destination,
    paths: &[EntryPath],
    args: &RestoreArgs,
    control: &Control,
    output: &Output,
) -> anyhow::Result<()> {
    match destination {
        Destination::Stdout(format) => {
            let exported = snapshot.export(*format, paths, io::stdout(), control).await?;
            // Standard output holds the archive.
            if output.json() {
                write_stderr(&describe(snapshot, *format, &exported).to_string());
            } else {
                output.say(&said(&exported, "standard output"));
            }
        }
        Destination::File(format, path) => {
            let partial = Partial::create(path)?;
            let exported = snapshot.export(*format, paths, BufWriter::new(partial.open()?), control).await?;
            partial.keep(args.overwrite)?;
            let value = describe(snapshot, *format, &exported);
            output.result(&value, || said(&exported, &path.display().to_string()))?;
        }
    }
    Ok(())
}

fn describe(snapshot: &Snapshot<'_>, format: ExportFormat, exported: &Exported) -> serde_json::Value {
    let manifest = snapshot.manifest();
    json!({
        "snapshot_id": manifest.snapshot_id,
        "completeness": manifest.completeness,
        "format": format,
        "entries": exported.entries,
        "bytes": exported.bytes,
        "renamed": exported.renamed,
    })
}

fn said(exported: &Exported, place: &str) -> String {
    let Exported { bytes, entries, renamed } = *exported;
    let mut text = format!("wrote {} entries, {}, to {place}", show_count(entries), show_bytes(bytes));
    if renamed > 0 {
        text.push_str(&format!(
            "\n  {} have other names there, that every system can have: see xvault-renamed.jsonl in it",
            show_count(renamed)
        ));
    }
    text
}

/// A file under a name of its own until it is whole; removed when it never was.
struct Partial {
    target: PathBuf,
    name: PathBuf,
    file: File,
}

impl Partial {
    fn create(target: &Path) -> anyhow::Result<Self> {
        let mut name = OsString::from(".");
        name.push(target.file_name().with_context(|| format!("{} names no file", target.display()))?);
        name.push(format!(".{}.partial", std::process::id()));
        let name = target.with_file_name(name);
        let file = File::create_new(&name).with_context(|| format!("create {}", name.display()))?;
        Ok(Self { target: target.to_owned(), name, file })
    }

    fn open(&self) -> anyhow::Result<File> {
        self.file.try_clone().with_context(|| format!("open {}", self.name.display()))
    }

    fn keep(self, overwrite: OverwriteArg) -> anyhow::Result<()> {
        let target = &self.target;
        self.file.sync_all().with_context(|| format!("write {}", target.display()))?;
        let renamed = match overwrite {
            OverwriteArg::Never => {
                match rustix::fs::renameat_with(CWD, &self.name, CWD, target, RenameFlags::NOREPLACE) {
                    // Some file systems don't know the flag; that nothing stood there was seen before.
                    Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::rename(&self.name, target),
                    renamed => renamed,
                }
            }
            OverwriteArg::IfChanged | OverwriteArg::Always => rustix::fs::rename(&self.name, target),
        };
        renamed.with_context(|| format!("rename {} to {}", self.name.display(), target.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was given its name.
        let _ = fs::remove_file(&self.name);
    }
}
