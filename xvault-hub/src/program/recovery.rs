//! The commands for the day after: keys, rebuild, reconcile.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use xvault_core::secret::{ExposeSecret as _, SecretString};
use xvault_core::service::Environment;
use xvault_core::{Identity, Recipient, SnapshotId, StoreId, WorkerId, clock, seal};
use zeroize::Zeroizing;

use super::commands::{FEW, print, say};
use crate::Db;
use crate::config;
use crate::recovery::{self, Forgotten, Found, Listing, Orphans, Place, listing};

/// The longest export that is read, in bytes: some 200,000 tenants.
const MAX_EXPORT: u64 = 64 << 20;
/// How long before this command a listing may have been begun that comes through a pipe.
const PIPED: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Write the identities of all tenants into a file that only an offline recovery key opens
    Export(ExportArgs),
    /// Bring the identities of an export into this hub's database, with the tenants that are not there
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Who can open the file, as age-keygen prints it; repeatable
    #[arg(long, value_name = "RECIPIENT", required_unless_present = "recipient_file")]
    to: Vec<Recipient>,
    /// A file of such recipients, one per line
    #[arg(long, value_name = "FILE")]
    recipient_file: Option<PathBuf>,
    /// Where to write it; a file that is there stays as it is
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The recovery key that opens the export: an age identity file
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The export
    #[arg(value_name = "EXPORT")]
    export: PathBuf,
}

/// Which store, and how it is listed.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// Where the snapshots lie: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "STORE")]
    store: String,
    /// The worker whose disk the directory lies on; without it, the one that made each snapshot
    #[arg(long, value_name = "ID")]
    worker: Option<WorkerId>,
    /// The id of the hub's store, where several of them have that bucket and prefix
    #[arg(long, value_name = "ID")]
    hub_store: Option<StoreId>,
    /// Read what `xvault snapshots --json` printed on another machine; - is standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// When that listing was begun, as 2026-11-24T10:00:00Z. What has come or gone since then is not judged by it
    #[arg(long, value_name = "TIME", requires = "from")]
    listed_at: Option<Timestamp>,
    /// The command that lists stores
    #[arg(long, value_name = "PATH", default_value = "xvault")]
    xvault: OsString,
    /// Given to that command as they are: --s3-endpoint URL, say
    #[arg(last = true, value_name = "FLAGS")]
    more: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Delete this one of those that are found: its bytes where it has no record, its record where it has no bytes; repeatable
    #[arg(long, value_name = "SNAPSHOT")]
    delete: Vec<SnapshotId>,
    /// This one is damaged there: its record moves to its copy, once that was verified, and the damaged bytes are removed; repeatable
    #[arg(long = "move", value_name = "SNAPSHOT")]
    moved: Vec<SnapshotId>,
}

pub(super) async fn keys(command: &KeysCommand, environment: &Environment) -> anyhow::Result<()> {
    match command {
        KeysCommand::Export(args) => export(args, environment).await,
        KeysCommand::Import(args) => import(args, environment).await,
    }
}

async fn export(args: &ExportArgs, environment: &Environment) -> anyhow::Result<()> {
    let mut recipients = args.to.clone();
    if let Some(path) = &args.recipient_file {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        recipients.extend(seal::parse_recipients_file(&text)?);
    }
    let (keys, db) = (config::keys(environment)?, config::database(environment, FEW).await?);
    db.check_schema().await?;
    let file = recovery::export_keys(&db, &keys).await?;
    let sealed = seal::seal(&recipients, file.expose_secret().as_bytes())?;
    write_new(&args.output, &sealed).with_context(|| format!("write {}", args.output.display()))?;
    let count = file.expose_secret().lines().filter(|line| line.starts_with("AGE-SECRET-KEY-")).count();
    say(&format!(
        "{count} identities; try it: age -d -i RECOVERY_KEY {} | grep -c AGE-SECRET-KEY",
        args.output.display()
    ));
    Ok(())
}

/// Nobody else may read it, and what is there is not lost for it.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

async fn import(args: &ImportArgs, environment: &Environment) -> anyhow::Result<()> {
    let (keys, db) = (config::keys(environment)?, config::database(environment, FEW).await?);
    db.check_schema().await?;
    let done = recovery::import_keys(&db, &keys, &opened(args)?).await?;
    print(&format!(
        "{} tenants and {} keys were added, {} keys were here already",
        done.tenants, done.keys, done.known
    ))
}

fn opened(args: &ImportArgs) -> anyhow::Result<SecretString> {
    let read =
        |path: &Path| fs::read(path).map(Zeroizing::new).with_context(|| format!("read {}", path.display()));
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(SecretString::from);
    let key = text(&read(&args.identity)?).context("the recovery key is no text")?;
    let identities =
        Identity::parse_file(&key).with_context(|| format!("read {}", args.identity.display()))?;
    let sealed = read(&args.export)?;
    let opened = seal::open_up_to(&identities, &sealed, MAX_EXPORT)
        .with_context(|| format!("open {}", args.export.display()))?;
    text(opened.expose_secret()).context("the export is no text")
}

impl StoreArgs {
    fn place(&self) -> Place {
        Place::of_store(&self.store, self.worker.clone()).known_as(self.hub_store.clone())
    }

    /// What is there, as of a time of which nothing later is to be judged by it.
    fn listing(&self) -> anyhow::Result<Listing> {
        let begun_at = match (self.listed_at, &self.from) {
            (Some(told), _) => told,
            (None, None) => clock::now(),
            (None, Some(path)) if path.as_os_str() == "-" => clock::now() - PIPED,
            (None, Some(path)) => {
                bail!("say when the listing {} was begun: --listed-at 2026-11-24T10:00:00Z", path.display())
            }
        };
        Ok(Listing { begun_at, found: self.found()? })
    }

    fn found(&self) -> anyhow::Result<Vec<Found>> {
        match &self.from {
            None => Ok(listing::list(&self.xvault, &self.store, &self.more)?),
            Some(path) if path.as_os_str() == "-" => Ok(listing::read(std::io::stdin().lock())?),
            Some(path) => {
                let mut text = String::new();
                fs::File::open(path)
                    .and_then(|mut file| file.read_to_string(&mut text))
                    .with_context(|| format!("read {}", path.display()))?;
                Ok(listing::read(text.as_bytes())?)
            }
        }
    }
}

pub(super) async fn rebuild(args: &RebuildArgs, environment: &Environment) -> anyhow::Result<()> {
    let (keys, db) = (config::keys(environment)?, config::database(environment, FEW).await?);
    db.check_schema().await?;
    let listing = args.store.listing()?;
    let done = recovery::rebuild(&db, &keys, &listing, &args.store.place()).await?;
    print(&format!(
        "{} snapshots, {} sources and {} tenants were added, {} snapshots were on record already",
        done.snapshots, done.sources, done.tenants, done.known
    ))?;
    if done.copies > 0 {
        print(&format!("{} copies of snapshots that lie elsewhere were added", done.copies))?;
    }
    if done.undeletable {
        say("the store's credential may not delete: what was added there stays for as long as that is so");
    }
    if !done.without_identity.is_empty() {
        say(&format!(
            "no identity is here for what was backed up of: {}; bring it back with `xvault-hub keys import`",
            done.without_identity.join(", ")
        ));
    }
    for (id, reason) in &done.left_out {
        say(&format!("{id} is not on record: {reason}"));
    }
    if !done.left_out.is_empty() {
        bail!("{} snapshots are not on record", done.left_out.len());
    }
    Ok(())
}

pub(super) async fn reconcile(args: &ReconcileArgs, environment: &Environment) -> anyhow::Result<()> {
    let db = config::database(environment, FEW).await?;
    db.check_schema().await?;
    let listing = args.store.listing()?;
    let orphans = recovery::orphans(&db, &listing, &args.store.place()).await?;
    print(&format!("{} snapshots lie there and are on record", orphans.matching))?;
    for id in &orphans.without_record {
        print(&format!("{id}  no record: `rebuild` puts it on record, `--delete {id}` removes its bytes"))?;
    }
    for id in &orphans.elsewhere {
        print(&format!("{id}  on record elsewhere: `rebuild` puts a copy in a bucket on record"))?;
    }
    for id in &orphans.without_bytes {
        print(&format!("{id}  no bytes: `--delete {id}` moves its record to a copy, or removes it"))?;
    }
    for id in &orphans.deleting_without_bytes {
        print(&format!(
            "{id}  no bytes, and to be deleted: if its worker is gone, `--delete {id}` moves its record to a copy, or removes it"
        ))?;
    }
    for id in &orphans.copies_without_bytes {
        print(&format!(
            "{id}  no bytes of its copy: `--delete {id}` removes the copy's record, and it is made anew"
        ))?;
    }
    for (id, reason) in orphans.damaged.iter().chain(&orphans.known_damaged) {
        print(&format!(
            "{id}  damaged: {reason}; `--move {id}` moves its record to a copy that was verified"
        ))?;
    }
    for id in &args.moved {
        move_damaged(&db, args, id, &orphans).await?;
    }
    for id in &args.delete {
        if orphans.without_record.contains(id) {
            forget(&args.store, id)?;
        } else if orphans.without_bytes.contains(id) || orphans.deleting_without_bytes.contains(id) {
            if let Forgotten::Moved(store) = recovery::forget_record(&db, id).await? {
                print(&format!("{id}  lies in store {store} from now on"))?;
                continue;
            }
        } else if orphans.copies_without_bytes.contains(id) {
            recovery::forget_copy(&db, id, &args.store.place()).await?;
        } else {
            bail!("{id} is none of those without a record or without bytes: nothing more was deleted");
        }
        print(&format!("{id}  deleted"))?;
    }
    Ok(())
}

/// The record first: bytes that stay behind are on no record, and harm nobody.
async fn move_damaged(
    db: &Db,
    args: &ReconcileArgs,
    id: &SnapshotId,
    orphans: &Orphans,
) -> anyhow::Result<()> {
    let is_in = |list: &[(SnapshotId, String)]| list.iter().any(|(damaged, _)| damaged == id);
    let seen = is_in(&orphans.damaged);
    if !seen && !is_in(&orphans.known_damaged) {
        bail!("{id} is none of those that are damaged there: nothing more was moved");
    }
    let store = recovery::move_damaged(db, id, &args.store.place(), seen).await?;
    print(&format!("{id}  lies in store {store} from now on"))?;
    let by_hand = format!("xvault forget {id} --store {}", args.store.store);
    if args.store.from.is_some() {
        return print(&format!("{id}  remove what is damaged where it was listed: `{by_hand}`"));
    }
    forget(&args.store, id).with_context(|| format!("its damaged bytes are still there: try `{by_hand}`"))?;
    print(&format!("{id}  what was damaged is deleted"))
}

fn forget(store: &StoreArgs, id: &SnapshotId) -> anyhow::Result<()> {
    let mut command = Command::new(&store.xvault);
    command.args(["forget", id.as_str(), "--store", &store.store]).args(&store.more);
    listing::without_own_secrets(&mut command);
    let status =
        command.status().context("run xvault forget: is xvault installed? Else name it with --xvault")?;
    if status.success() { Ok(()) } else { bail!("xvault forget {id} failed: {status}") }
}
