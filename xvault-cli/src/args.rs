//! The command line: every flag, and the help that teaches it.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use xvault::core::store::Addressing;
use xvault::core::tag::{self, InvalidTags};
use xvault::core::{SourceId, TenantId};
use xvault::retention::{Count, Rules, Within};
use xvault::{ExportFormat, Overwrite, ReadBack};

use crate::database::{DatabaseArgs, DumpArgs};
use crate::flags::{DATABASES, FILES, Flag, POSTGRES, SERVERS, SSH};
use crate::ftp::FtpArgs;
use crate::hooks::HookArgs;
use crate::units::parse_bytes;
use crate::wordpress::WordpressArgs;

const AFTER_HELP: &str = "\
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 done with warnings (something could not be read) · 130 interrupted

Examples:
  xvault backup ~/documents --store /mnt/backups
  xvault backup sftp://web@shop.example/srv/www --store /mnt/backups --ssh-key ~/.ssh/backup
  xvault backup ~/documents --store s3://bucket/place --s3-endpoint https://s3.example
  xvault snapshots --store /mnt/backups
  xvault restore latest --store /mnt/backups --to /tmp/restored

A backup opens without xvault, too:
  age -d -i KEYFILE backup.tar.zst.enc | zstd -d | tar x";

/// Encrypted backups of directories and servers, without an agent.
///
/// Nothing is installed on the server that is backed up: xvault logs in, reads, and streams everything into
/// one encrypted file per snapshot, which age, zstd and tar can open.
#[derive(Debug, Parser)]
#[command(name = "xvault", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn parse_tag(text: &str) -> Result<String, InvalidTags> {
    let tag = text.to_owned();
    tag::check(std::slice::from_ref(&tag)).map(|()| tag)
}

/// How results and progress are shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Print results as JSON Lines on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

impl Command {
    /// Whether its output is a listing or content that a reader may have enough of: `xvault ls | head`.
    pub(crate) fn is_listing(&self) -> bool {
        matches!(self, Self::Snapshots(_) | Self::Ls(_) | Self::Cat(_) | Self::Completions(_))
    }

    /// What is left behind when it is interrupted.
    pub(crate) fn when_interrupted(&self) -> &'static str {
        match self {
            Self::Backup(_) => "interrupted; no snapshot was made, nothing half-done was kept",
            Self::Up(_) => "interrupted; unfinished jobs go on at the next start",
            Self::Forget(_) => "interrupted; what was not deleted yet is whole and stays",
            Self::Restore(args) if args.output.is_some() => "interrupted; what was written is not whole",
            Self::Restore(_) => "interrupted; the files restored so far are whole and stay",
            _ => "interrupted",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up a directory or a server
    Backup(Box<BackupArgs>),
    /// List the snapshots in a store
    Snapshots(SnapshotsArgs),
    /// List what is in a snapshot
    Ls(LsArgs),
    /// Write one file of a snapshot to standard output
    Cat(CatArgs),
    /// Restore a snapshot, or some paths of it, into a directory, to a server, or into an archive file
    Restore(Box<RestoreArgs>),
    /// Check that snapshots are undamaged
    Verify(VerifyArgs),
    /// Copy snapshots into a second store, without a key
    Copy(CopyArgs),
    /// Delete the snapshots that no rule keeps
    Forget(Box<ForgetArgs>),
    /// Log in at a source and look at its paths, without reading content
    Probe(Box<ProbeArgs>),
    /// Make a key: prints its recipient, keeps its identity in a file
    Keygen(KeygenArgs),
    /// Run the service on this machine: hub and worker in one process, on SQLite
    Up(Box<UpArgs>),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Where snapshots lie.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where snapshots lie: a directory, or s3://BUCKET/PREFIX
    ///
    /// A bucket's credential is read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary ones,
    /// AWS_SESSION_TOKEN. AWS_CA_BUNDLE names a file of certificates that its server's may be of.
    #[arg(long, value_name = "STORE", env = "XVAULT_STORE", value_hint = ValueHint::DirPath)]
    pub(crate) store: String,
    /// Address of the S3 server, http(s)://HOST:PORT [env: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL] [default: Amazon's]
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// The region that requests are signed for [env: AWS_REGION, AWS_DEFAULT_REGION] [default: us-east-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) s3_region: Option<String>,
    /// Where the bucket's name stands in requests [default: path; virtual-host at Amazon]
    #[arg(long, value_name = "HOW")]
    pub(crate) s3_addressing: Option<AddressingArg>,
}

impl StoreArgs {
    /// Whether it is none of this machine's directories.
    pub(crate) fn is_bucket(&self) -> bool {
        self.store.contains("://")
    }
}

/// `--s3-addressing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AddressingArg {
    /// `https://s3.example/BUCKET/KEY`
    Path,
    /// `https://BUCKET.s3.example/KEY`
    VirtualHost,
}

impl From<AddressingArg> for Addressing {
    fn from(arg: AddressingArg) -> Self {
        match arg {
            AddressingArg::Path => Self::Path,
            AddressingArg::VirtualHost => Self::VirtualHost,
        }
    }
}

/// Which snapshot, and who reads it.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// A snapshot's id, a unique beginning of it, or `latest`: the newest of all sources, or of --source-id
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// Narrows a store to some of its snapshots.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only snapshots of this source
    #[arg(long, value_name = "ID")]
    pub(crate) source_id: Option<SourceId>,
    /// Only snapshots of this tenant
    #[arg(long, value_name = "ID")]
    pub(crate) tenant_id: Option<TenantId>,
}

/// The private key.
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// The age identity file that opens the snapshot [default: the key file of `keygen`]
    #[arg(long, short, value_name = "FILE", env = "XVAULT_IDENTITY", value_hint = ValueHint::FilePath)]
    pub(crate) identity: Option<PathBuf>,
}

/// What is backed up, and how to log in there.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// A path, sftp://, ssh://, ftp://, ftps:// or wordpress+ssh://user@host:port/path, postgres:// or mysql://user@host:port/database
    ///
    /// sftp:// reads files over SFTP. ssh:// runs `tar` on the server, which is faster for many small files and keeps
    /// hard links and fractions of seconds; it falls back to SFTP where the server has no tar.
    /// ftp:// asks for encryption (AUTH TLS) and refuses to go on without; ftps:// is encrypted from the first byte, on port 990.
    /// A path after the host is absolute; /~/docs starts at the account's home. Write a space as %20.
    /// wordpress+ssh:// takes the document root of a site: its wp-config.php leads to the database, which is dumped, too.
    /// postgres:// and mysql:// (which is MariaDB, too) dump one database, several (--path NAME), or all when none is named.
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub(crate) source: String,
    /// One more path, or database, of the same source; repeatable
    #[arg(long = "path", value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// Leave out what matches, in gitignore syntax, relative to each path of the source; repeatable
    #[arg(long = "exclude", value_name = "GLOB")]
    pub(crate) excludes: Vec<String>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    #[command(flatten)]
    pub(crate) dump: DumpArgs,
    #[command(flatten)]
    pub(crate) ftp: FtpArgs,
    #[command(flatten)]
    pub(crate) wordpress: WordpressArgs,
    #[command(flatten)]
    pub(crate) hooks: HookArgs,
}

impl SourceArgs {
    /// The flags that are for some types of sources only.
    pub(crate) fn flags(&self) -> impl Iterator<Item = Flag> {
        let excludes = Flag::new("--exclude", FILES, !self.excludes.is_empty());
        let shared = self.login.flags().into_iter().chain(self.database.flags());
        let own = self.ftp.flags().into_iter().chain(self.wordpress.flags());
        shared.chain(self.dump.flags()).chain(own).chain([excludes])
    }
}

/// How to log in, and how the server proves itself.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoginArgs {
    /// Private key to log in with (its passphrase: --password-file, XVAULT_PASSWORD, or asked for)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ssh_key: Option<PathBuf>,
    /// File that holds the password (XVAULT_PASSWORD works too; an argument would show in `ps`)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) password_file: Option<PathBuf>,
    /// File that holds the password of the --via server's account, when it takes no key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "via")]
    pub(crate) ssh_password_file: Option<PathBuf>,
    /// Accept exactly this server key, as `ssh-keygen -l` prints it
    #[arg(long, value_name = "SHA256:…", conflicts_with_all = ["known_hosts", "accept_new_host_key"])]
    pub(crate) host_key: Option<String>,
    /// File of known server keys [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Accept the key of a server that is not known yet, and add it to the file of known keys
    #[arg(long)]
    pub(crate) accept_new_host_key: bool,
}

impl LoginArgs {
    /// Its flags, and what each is for.
    pub(crate) fn flags(&self) -> [Flag; 6] {
        let Self { ssh_key, password_file, ssh_password_file, host_key, known_hosts, accept_new_host_key } =
            self;
        [
            Flag::new("--ssh-key", SSH, ssh_key.is_some()),
            Flag::new("--password-file", SERVERS, password_file.is_some()),
            Flag::new("--ssh-password-file", DATABASES, ssh_password_file.is_some()),
            Flag::new("--host-key", SSH, host_key.is_some()),
            Flag::new("--known-hosts", SSH, known_hosts.is_some()),
            Flag::new("--accept-new-host-key", SSH, *accept_new_host_key),
        ]
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Who can read the backup, an age public key; repeatable
    #[arg(long, short, value_name = "age1…")]
    pub(crate) recipient: Vec<String>,
    /// File of recipients, one a line; repeatable
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) recipients_file: Vec<PathBuf>,
    /// Who can read the index (names, sizes, times) instead of the recipients of the content; repeatable
    #[arg(long, value_name = "age1…")]
    pub(crate) index_recipient: Vec<String>,
    /// A word to put on the snapshot, for `forget --keep-tag`; repeatable
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub(crate) tag: Vec<String>,
    /// How much of the stored snapshot is read back and compared [default: full; sample in a bucket]
    #[arg(long, value_name = "HOW")]
    pub(crate) read_back: Option<ReadBackArg>,
    /// Compression, 1 (fast) to 19 (small)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) level: i32,
    /// Read at most so much a second: 20MiB, 500k
    #[arg(long, value_name = "RATE", value_parser = parse_bytes)]
    pub(crate) bwlimit: Option<NonZeroU64>,
    /// The id that this source's snapshots lie under [default: derived from its address]
    #[arg(long, value_name = "ID")]
    pub(crate) source_id: Option<SourceId>,
}

/// `--read-back`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadBackArg {
    /// Every byte and every content hash
    Full,
    /// First, last and random frames
    Sample,
    /// Nothing
    Off,
}

impl From<ReadBackArg> for ReadBack {
    fn from(arg: ReadBackArg) -> Self {
        match arg {
            ReadBackArg::Full => Self::Full,
            ReadBackArg::Sample => Self::Sample,
            ReadBackArg::Off => Self::Off,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) snapshot: SnapshotArgs,
    /// Only this path and what lies below it
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Show mode, owner, size and time, as `ls -l` does
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Show instead what could not be read whole when the snapshot was made
    #[arg(long, conflicts_with = "long")]
    pub(crate) warnings: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    pub(crate) snapshot: SnapshotArgs,
    /// The file, as `ls` shows it
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) snapshot: SnapshotArgs,
    /// Only these paths and what lies below them [default: everything]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The directory to restore into, made when it is missing; of a server as sftp://user@host:port/dir; or a
    /// database, for one dump: postgres:// or mysql://user@host:port/database
    ///
    /// A restore to a server that broke off is completed by running it again: whole files are recognised and stay.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "output")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
    /// Write one archive file instead, or `-` for standard output
    ///
    /// A tar keeps everything. A zip has names that every system can have, and says in `xvault-renamed.jsonl` which of
    /// them are others than in the snapshot; hard links become copies.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "to")]
    pub(crate) output: Option<PathBuf>,
    /// The archive's form: tar, tar.zst or zip [default: by the end of FILE]
    #[arg(long, value_name = "FORMAT", requires = "output")]
    pub(crate) format: Option<ExportFormat>,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Make the database that is loaded into when it is missing
    #[arg(long, help_heading = "Databases")]
    pub(crate) create: bool,
    /// PostgreSQL: restore owners and privileges, too; their roles must be there
    #[arg(long, help_heading = "Databases")]
    pub(crate) keep_owner: bool,
    /// What happens to files that are there already
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub(crate) overwrite: OverwriteArg,
}

impl RestoreArgs {
    /// The flags that are for some targets only.
    pub(crate) fn flags(&self) -> impl Iterator<Item = Flag> {
        let own = [
            Flag::new("--create", DATABASES, self.create),
            Flag::new("--keep-owner", POSTGRES, self.keep_owner),
        ];
        self.login.flags().into_iter().chain(self.database.flags()).chain(own)
    }
}

/// `--overwrite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverwriteArg {
    /// They stay, and are counted
    Never,
    /// They are replaced when size or time differ
    IfChanged,
    /// They are replaced
    Always,
}

impl From<OverwriteArg> for Overwrite {
    fn from(arg: OverwriteArg) -> Self {
        match arg {
            OverwriteArg::Never => Self::Never,
            OverwriteArg::IfChanged => Self::IfChanged,
            OverwriteArg::Always => Self::Always,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Ids, unique beginnings of ids, or `latest`
    #[arg(value_name = "SNAPSHOT", required_unless_present = "all")]
    pub(crate) snapshots: Vec<String>,
    /// Every snapshot in the store
    #[arg(long, conflicts_with = "snapshots")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Also decrypt, and check every byte and every content hash
    ///
    /// Without a key, sizes and hashes of the stored files are checked, which finds any damage on the disk.
    #[arg(long, short, value_name = "FILE", env = "XVAULT_IDENTITY", value_hint = ValueHint::FilePath)]
    pub(crate) identity: Option<PathBuf>,
}

/// Where copies go.
#[derive(Debug, Args)]
pub(crate) struct SecondStoreArgs {
    /// The store to copy into: a directory, made when it is missing, or s3://BUCKET/PREFIX
    ///
    /// Its credential is read from XVAULT_TO_AWS_ACCESS_KEY_ID, XVAULT_TO_AWS_SECRET_ACCESS_KEY and
    /// XVAULT_TO_AWS_SESSION_TOKEN; without the first of these, it is that of --store. The other AWS_* variables are read
    /// with XVAULT_TO_ before them, too.
    #[arg(long, value_name = "STORE", env = "XVAULT_TO_STORE", value_hint = ValueHint::DirPath)]
    pub(crate) to_store: String,
    /// As --s3-endpoint, for --to-store
    #[arg(long, value_name = "URL")]
    pub(crate) to_s3_endpoint: Option<String>,
    /// As --s3-region, for --to-store
    #[arg(long, value_name = "REGION")]
    pub(crate) to_s3_region: Option<String>,
    /// As --s3-addressing, for --to-store
    #[arg(long, value_name = "HOW")]
    pub(crate) to_s3_addressing: Option<AddressingArg>,
}

impl From<&SecondStoreArgs> for StoreArgs {
    fn from(args: &SecondStoreArgs) -> Self {
        Self {
            store: args.to_store.clone(),
            s3_endpoint: args.to_s3_endpoint.clone(),
            s3_region: args.to_s3_region.clone(),
            s3_addressing: args.to_s3_addressing,
        }
    }
}

/// Copy snapshots, as they are, into a second store. No key is needed; what is there already, whole and the same, is left
/// as it is. Every byte is compared with the manifest on its way: a damaged snapshot is named, and not copied.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Ids, unique beginnings of ids, or `latest`
    #[arg(value_name = "SNAPSHOT", required_unless_present = "all")]
    pub(crate) snapshots: Vec<String>,
    /// Every snapshot in the store
    #[arg(long, conflicts_with = "snapshots")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) to: SecondStoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Copy at most so much a second: 20MiB, 500k
    #[arg(long, value_name = "RATE", value_parser = parse_bytes)]
    pub(crate) bwlimit: Option<NonZeroU64>,
}

/// Delete the snapshots that no rule keeps, source by source.
///
/// Rules add up: a snapshot stays when one of them keeps it. --max-age-days beats the --keep rules; --min-age-hours, and
/// the last good snapshot of each source, beat everything. Look first with --dry-run: each decision has its reasons.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Instead of rules: exactly these snapshots, by their ids or unique beginnings of them, be they sound or damaged
    #[arg(value_name = "SNAPSHOT", conflicts_with = "rules")]
    pub(crate) snapshots: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
    /// Where hours, days, weeks, months and years begin, such as Europe/Berlin [default: this machine's time zone]
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// Show what would be deleted, and delete nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// A retention policy as flags.
#[derive(Debug, Args)]
#[group(id = "rules", multiple = true)]
pub(crate) struct RuleArgs {
    /// Keep the N most recent snapshots
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<u64>,
    /// Keep the newest snapshot of each hour, for N hours
    #[arg(long, value_name = "N")]
    pub(crate) keep_hourly: Option<u64>,
    /// Keep the newest snapshot of each day, for N days
    #[arg(long, value_name = "N")]
    pub(crate) keep_daily: Option<u64>,
    /// Keep the newest snapshot of each week, Monday to Sunday, for N weeks
    #[arg(long, value_name = "N")]
    pub(crate) keep_weekly: Option<u64>,
    /// Keep the newest snapshot of each month, for N months
    #[arg(long, value_name = "N")]
    pub(crate) keep_monthly: Option<u64>,
    /// Keep the newest snapshot of each year, for N years
    #[arg(long, value_name = "N")]
    pub(crate) keep_yearly: Option<u64>,
    /// Keep every snapshot that is not older than this: 30d, 1y6m, 2w, 36h (m is months)
    #[arg(long, value_name = "TIME")]
    pub(crate) keep_within: Option<Within>,
    /// Keep every snapshot with this tag; repeatable
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub(crate) keep_tag: Vec<String>,
    /// Delete nothing that is younger than N hours
    #[arg(long, value_name = "N")]
    pub(crate) min_age_hours: Option<u64>,
    /// Delete what is older than N days, whatever the --keep rules say
    #[arg(long, value_name = "N")]
    pub(crate) max_age_days: Option<u64>,
    /// Delete nothing before a newer snapshot, that holds at least as much, was read back in full
    #[arg(long)]
    pub(crate) require_verified: bool,
    /// Delete even the last good snapshot of a source, if it is too old or no rule keeps it
    #[arg(long)]
    pub(crate) may_delete_last: bool,
    /// How hours, days, weeks, months, years and --keep-within count
    #[arg(long, value_name = "HOW", default_value = "calendar")]
    pub(crate) count: CountArg,
}

/// `--count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CountArg {
    /// Back from now, by the calendar
    Calendar,
    /// The last ones that have a snapshot, as restic counts
    Existing,
}

impl From<CountArg> for Count {
    fn from(arg: CountArg) -> Self {
        match arg {
            CountArg::Calendar => Self::Calendar,
            CountArg::Existing => Self::Existing,
        }
    }
}

impl From<&RuleArgs> for Rules {
    fn from(args: &RuleArgs) -> Self {
        Self {
            keep_all: false,
            keep_last_n: args.keep_last,
            keep_hourly: args.keep_hourly,
            keep_daily: args.keep_daily,
            keep_weekly: args.keep_weekly,
            keep_monthly: args.keep_monthly,
            keep_yearly: args.keep_yearly,
            keep_within: args.keep_within,
            keep_tags: args.keep_tag.clone(),
            min_age_hours: args.min_age_hours,
            max_age_days: args.max_age_days,
            require_verified: args.require_verified,
            may_delete_last: args.may_delete_last,
            count: args.count.into(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Where the identity is kept [default: ~/.config/xvault/identity.txt]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

/// The service on one machine: its settings are those of hub and worker.
///
/// Everything it keeps lies in the data directory: hub.db, kek.txt and jwt-secret.txt (made at the first start), and backups/.
/// HUB_ENCRYPTION_KEK, HUB_JWT_SECRET and HUB_OPERATOR_PASSWORD (or the same with _FILE) take the place of what is made.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./xvault-data", value_hint = ValueHint::DirPath)]
    pub(crate) data_dir: PathBuf,
    /// Where to listen
    #[arg(long, env = "HUB_LISTEN_ADDR", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Give the operator (--operator-email, or operator@localhost) a new password, kept in first-login.json
    #[arg(long)]
    pub(crate) reset_login: bool,
    #[command(flatten)]
    pub(crate) behaviour: xvault_hub::config::BehaviourArgs,
    #[command(flatten)]
    pub(crate) worker: xvault_worker::args::BehaviourArgs,
    #[command(flatten)]
    pub(crate) logs: xvault_hub::config::LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
