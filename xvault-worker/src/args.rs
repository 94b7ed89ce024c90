//! The worker's settings from flags and environment variables.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use xvault::core::egress::{Egress, Networks};
use xvault::core::secret::SecretString;
use xvault::core::service::{DEFAULT_LOG_FILTER, Environment, LogFormat, SettingError, parse_bytes};
use xvault::core::{EgressPolicy, WorkerId};

use crate::config::{
    CONCURRENCY, DOWNLOAD_CONNECTIONS, DOWNLOAD_CONNECTIONS_PER_ADDRESS, DOWNLOADS, WorkerConfig,
};
use crate::scratch;

/// Secrets are taken from the environment or from a file, never from a flag: a process list shows flags.
const TOKEN: &str = "WORKER_TOKEN";
const REDIS: &str = "REDIS_URL";

/// Runs the jobs of an xVault hub: pulls from sources, encrypts, and stores.
///
/// The token comes from WORKER_TOKEN or WORKER_TOKEN_FILE, the address of Redis (which may hold a password) from REDIS_URL or REDIS_URL_FILE,
/// and those of the servers that restore tests load dumps into, if any, from WORKER_SCRATCH_POSTGRES_URL and WORKER_SCRATCH_MYSQL_URL
/// or from files in the same way.
#[derive(Debug, clap::Parser)]
#[command(name = "xvault-worker", version)]
pub struct Args {
    /// Name of this worker, as `xvault-hub token` made it known
    #[arg(long, env = "WORKER_ID", value_name = "WORKER_ID")]
    id: WorkerId,
    /// Address of the hub
    #[arg(long, env = "HUB_BASE_URL", value_name = "HUB_BASE_URL", default_value = "http://127.0.0.1:8080")]
    hub: String,
    /// PEM file with the certificate authorities that the hub's certificate may be of; the system's when absent
    #[arg(long, env = "WORKER_HUB_CA_FILE", value_name = "WORKER_HUB_CA_FILE")]
    hub_ca_file: Option<PathBuf>,
    /// Directory that snapshots lie in
    #[arg(
        long,
        env = "WORKER_STORAGE_BASE",
        value_name = "WORKER_STORAGE_BASE",
        default_value = "/var/lib/xvault/backups"
    )]
    storage_base: PathBuf,
    #[command(flatten)]
    behaviour: BehaviourArgs,
    /// Which log lines are shown: error, warn, info, debug, or target=level
    #[arg(long, env = "WORKER_LOG", value_name = "WORKER_LOG", default_value = DEFAULT_LOG_FILTER)]
    log: String,
    /// How log lines look
    #[arg(long, env = "WORKER_LOG_FORMAT", value_name = "WORKER_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// How a worker behaves, wherever it runs.
#[derive(Debug, Clone, clap::Args)]
// `xvault up` takes the hub's of the same name beside it.
#[group(skip)]
pub struct BehaviourArgs {
    /// Jobs at a time
    #[arg(long, env = "WORKER_CONCURRENCY", value_name = "WORKER_CONCURRENCY", default_value_t = CONCURRENCY)]
    concurrency: NonZeroUsize,
    /// Directory of this machine that `local` sources, which only operators make, may read; repeatable (in the variable: separated by `:`)
    #[arg(long, env = "WORKER_ALLOW_LOCAL", value_name = "WORKER_ALLOW_LOCAL", value_delimiter = ':')]
    allow_local: Vec<PathBuf>,
    /// What tenants may have this worker connect to besides those in the lists: public (the internet), any, or listed (nothing); public for
    /// `xvault-worker`, any for `xvault up`
    #[arg(long, env = "WORKER_EGRESS", value_name = "WORKER_EGRESS")]
    egress: Option<Egress>,
    /// Networks and addresses that they may have it connect to in any case, such as 10.1.0.0/16 or fd00::1; separated by commas
    #[arg(long, env = "WORKER_EGRESS_ALLOW", value_name = "WORKER_EGRESS_ALLOW")]
    egress_allow: Option<Networks>,
    /// Those that they may not have it connect to, whatever else is said; separated by commas
    #[arg(long, env = "WORKER_EGRESS_DENY", value_name = "WORKER_EGRESS_DENY")]
    egress_deny: Option<Networks>,
    /// Use database tools with known holes, which a hostile database server can use against this machine
    #[arg(long, env = "WORKER_ALLOW_OUTDATED_TOOLS", value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true")]
    allow_outdated_tools: bool,
    /// Let restore tests use scratch servers as an account that reaches their machines' files and programs: so can every dump then
    #[arg(long, env = "WORKER_SCRATCH_SUPERUSER", value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true")]
    scratch_superuser: bool,
    /// Address that /metrics and /healthz are served at, such as 127.0.0.1:9100; nowhere when absent
    #[arg(long, env = "WORKER_METRICS_ADDR", value_name = "WORKER_METRICS_ADDR")]
    metrics_addr: Option<SocketAddr>,
    /// Address that downloads are served at, such as 127.0.0.1:8081; nowhere when absent
    #[arg(long, env = "WORKER_DOWNLOAD_ADDR", value_name = "WORKER_DOWNLOAD_ADDR")]
    download_addr: Option<SocketAddr>,
    /// What links to downloads begin with, as people reach this worker: `https://worker-1.example`; `http://` and the address when absent
    #[arg(long, env = "WORKER_DOWNLOAD_URL", value_name = "WORKER_DOWNLOAD_URL")]
    download_url: Option<String>,
    /// Downloads at a time, besides jobs
    #[arg(long, env = "WORKER_DOWNLOADS", value_name = "WORKER_DOWNLOADS", default_value_t = DOWNLOADS)]
    downloads: NonZeroUsize,
    /// Connections that are open at once where downloads are served; others wait
    #[arg(long, env = "WORKER_DOWNLOAD_CONNECTIONS", value_name = "WORKER_DOWNLOAD_CONNECTIONS",
          default_value_t = DOWNLOAD_CONNECTIONS)]
    download_connections: NonZeroUsize,
    /// How many of them are of one address; others are refused
    #[arg(long, env = "WORKER_DOWNLOAD_CONNECTIONS_PER_ADDRESS", value_name = "WORKER_DOWNLOAD_CONNECTIONS_PER_ADDRESS",
          default_value_t = DOWNLOAD_CONNECTIONS_PER_ADDRESS)]
    download_connections_per_address: NonZeroUsize,
    /// Bytes per second that a client must read of a download at least, over five minutes; else it is given up. 0: no limit
    #[arg(long, env = "WORKER_DOWNLOAD_MIN_RATE", value_name = "WORKER_DOWNLOAD_MIN_RATE", default_value = "1KiB",
          value_parser = parse_bytes)]
    download_min_rate: u64,
    /// Seconds that running jobs may take to end when the worker is stopped
    #[arg(long, env = "WORKER_DRAIN_SECONDS", value_name = "WORKER_DRAIN_SECONDS", default_value_t = 300)]
    drain_seconds: u32,
    /// Directory that long parts of uploads to buckets wait in, encrypted; WORKER_STORAGE_BASE when absent
    #[arg(long, env = "WORKER_UPLOAD_DIR", value_name = "WORKER_UPLOAD_DIR")]
    upload_dir: Option<PathBuf>,
    /// Room on the disk that no backup may use: bytes, or with KiB, MiB, GiB or TiB
    #[arg(long, env = "WORKER_MIN_FREE", value_name = "WORKER_MIN_FREE", default_value = "1GiB", value_parser = parse_bytes)]
    min_free: u64,
}

impl BehaviourArgs {
    /// `config`, with what the flags say, and the secrets of the environment that have no flag.
    ///
    /// # Errors
    /// When a secret can't be read.
    pub fn apply(
        &self,
        config: WorkerConfig,
        environment: &Environment,
    ) -> Result<WorkerConfig, SettingError> {
        Ok(WorkerConfig {
            scratch_postgres_url: environment.secret(scratch::POSTGRES)?,
            scratch_mysql_url: environment.secret(scratch::MYSQL)?,
            scratch_superuser: self.scratch_superuser,
            concurrency: self.concurrency,
            allow_local: self.allow_local.clone(),
            drain: Duration::from_secs(self.drain_seconds.into()),
            upload_dir: self.upload_dir.clone().or(config.upload_dir),
            min_free: self.min_free,
            egress: EgressPolicy {
                others: self.egress.unwrap_or(config.egress.others),
                allow: self.egress_allow.clone().unwrap_or_default().0,
                deny: self.egress_deny.clone().unwrap_or_default().0,
            },
            allow_outdated_tools: self.allow_outdated_tools,
            metrics_addr: self.metrics_addr,
            download_addr: self.download_addr,
            download_url: self.download_url.clone().or(config.download_url),
            downloads: self.downloads,
            download_connections: self.download_connections,
            download_connections_per_address: self.download_connections_per_address,
            download_min_rate: self.download_min_rate,
            ..config
        })
    }
}

impl Args {
    /// The settings, and the address of Redis.
    ///
    /// # Errors
    /// When a secret is missing, or a variable named `WORKER_…` is unknown.
    pub fn settings(&self, environment: &Environment) -> Result<(WorkerConfig, SecretString), SettingError> {
        check_names(environment)?;
        let token = environment.needed_secret(TOKEN, "what `xvault-hub token` printed for this worker")?;
        let redis = environment.needed_secret(REDIS, "redis://:password@host:6379/0")?;
        let config = WorkerConfig::new(self.id.clone(), token, &self.hub, &self.storage_base);
        // Strangers may give it addresses.
        let egress = EgressPolicy::public();
        let config = WorkerConfig { hub_ca_file: self.hub_ca_file.clone(), egress, ..config };
        Ok((self.behaviour.apply(config, environment)?, redis))
    }

    /// Which log lines are shown.
    #[must_use]
    pub fn log_filter(&self) -> &str {
        &self.log
    }

    /// How log lines look.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }
}

/// Refuses variables named `WORKER_…` that mean nothing: a misspelt one would be ignored.
///
/// # Errors
/// Names the first one.
pub fn check_names(environment: &Environment) -> Result<(), SettingError> {
    let command = Args::command();
    let names = command.get_arguments().filter_map(|arg| arg.get_env()).filter_map(|name| name.to_str());
    environment.refuse_unknown(
        "WORKER_",
        &names.collect::<Vec<_>>(),
        &[TOKEN, scratch::POSTGRES, scratch::MYSQL],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use xvault::core::secret::ExposeSecret;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    fn args(more: &[&str]) -> Args {
        Args::try_parse_from(["xvault-worker", "--id", "w1"].iter().chain(more)).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        assert_eq!(args(&[]).behaviour.min_free, crate::config::MIN_FREE);
        assert_eq!(args(&[]).behaviour.download_min_rate, crate::config::DOWNLOAD_MIN_RATE);
        assert_eq!(Duration::from_secs(args(&[]).behaviour.drain_seconds.into()), crate::config::DRAIN);
    }

    #[test]
    fn the_manual_lists_every_setting_and_no_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let table = manual.split_once("\nOf a worker:\n").unwrap().1.split_once("\n## ").unwrap().0;
        let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let mut listed: Vec<_> = first_cells.flat_map(|cell| cell.split([' ', ',', '`'])).collect();
        listed.retain(|word| !word.is_empty() && *word != "(secret)");
        let command = Args::command();
        let mut settings: Vec<_> = command
            .get_arguments()
            .filter_map(|arg| arg.get_env()?.to_str())
            .chain([TOKEN, REDIS, scratch::POSTGRES, scratch::MYSQL])
            .collect();
        listed.sort_unstable();
        settings.sort_unstable();
        assert_eq!(listed, settings);
    }

    #[test]
    fn tenants_have_the_program_connect_to_the_internet_alone_until_it_is_told() {
        let secrets = env(&[("WORKER_TOKEN", "t"), ("REDIS_URL", "redis://h")]);
        let egress = |more: &[&str]| args(more).settings(&secrets).unwrap().0.egress;
        assert_eq!(egress(&[]), EgressPolicy::public());
        let told = egress(&["--egress-allow", "10.0.0.0/8,::1", "--egress-deny", "10.0.0.1"]);
        assert_eq!((told.others, told.allow.len(), told.deny.len()), (Egress::Public, 2, 1));
        assert_eq!(egress(&["--egress", "any"]), EgressPolicy::default());
        // `xvault up` begins with settings of its own.
        let own = WorkerConfig::new("w1".parse().unwrap(), "t".into(), "http://h", "/nowhere");
        let own = args(&[]).behaviour.apply(own, &secrets).unwrap();
        assert_eq!(own.egress, EgressPolicy::default());
    }

    #[test]
    fn malformed_networks_stop_the_program_with_a_sentence() {
        for (setting, part) in [
            ("--egress-allow=10.0.0.0/40", "no network"),
            ("--egress-allow=db.example", "no network"),
            ("--egress-deny=10.0.0.1/8", "write 10.0.0.0/8"),
            ("--egress=all", "any, public and listed"),
        ] {
            let error =
                Args::try_parse_from(["xvault-worker", "--id", "w1", setting]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_unknown_variable_stops_the_program_by_name() {
        let both = [("WORKER_TOKEN", "t"), ("REDIS_URL", "redis://h"), ("WORKER_CONCURENCY", "9")];
        let error = args(&[]).settings(&env(&both)).unwrap_err().to_string();
        assert!(error.contains("WORKER_CONCURENCY"), "{error}");
        let fine = [("WORKER_TOKEN", "t"), ("REDIS_URL", "redis://h"), ("WORKERS", "9"), ("WORKER_ID", "w1")];
        assert!(args(&[]).settings(&env(&fine)).is_ok());
        let both = [("WORKER_TOKEN", "t"), ("REDIS_URL", "redis://h"), ("WORKER_LOG_FILE", "/x")];
        let error = args(&[]).settings(&env(&both)).unwrap_err().to_string();
        assert!(error.contains("WORKER_LOG_FILE") && error.contains("only secrets"), "{error}");
    }

    #[test]
    fn the_token_and_redis_come_from_the_environment() {
        let all = [("WORKER_TOKEN", "hunter2"), ("REDIS_URL", "redis://:hunter3@h")];
        let (config, redis) = args(&["--concurrency", "7"]).settings(&env(&all)).unwrap();
        assert_eq!((config.token.expose_secret(), redis.expose_secret()), ("hunter2", "redis://:hunter3@h"));
        assert_eq!(config.concurrency.get(), 7);
        assert!(!format!("{config:?}").contains("hunter2"));
        for (kept, missing) in [(&all[..1], "REDIS_URL is not set"), (&all[1..], "WORKER_TOKEN is not set")] {
            let error = args(&[]).settings(&env(kept)).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
}
