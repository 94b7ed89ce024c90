//! Settings of the program, from flags and the environment. Secrets come from the environment or from files alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use xvault_core::Recipient;
use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::service::{DEFAULT_LOG_FILTER, Environment, LogFormat, SettingError, parse_bytes};

use crate::queue::{JobQueue, RedisQueue};
use crate::{Clock, Db, HubParts, IpNet, Keys, PrivateStores, Registration, Settings};

/// Every environment variable that begins with `HUB_`, besides [`SECRETS`].
pub const KNOWN: &[&str] = &[
    "HUB_LISTEN_ADDR",
    "HUB_AUTO_MIGRATE",
    "HUB_OPERATOR_EMAIL",
    "HUB_LEASE_SECONDS",
    "HUB_MAX_ATTEMPTS",
    "HUB_JOB_LOG_DAYS",
    "HUB_VERIFY_BYTES_PER_DAY",
    "HUB_REGISTRATION",
    "HUB_RECOVERY_RECIPIENT",
    "HUB_PRIVATE_STORES",
    "HUB_TRUSTED_PROXIES",
    "HUB_DATABASE_CONNECTIONS",
    "HUB_MAX_CONNECTIONS",
    "HUB_MAX_SILENCE_SECONDS",
    "HUB_LOG",
    "HUB_LOG_FORMAT",
    // The worker's, in an environment that both share.
    "HUB_BASE_URL",
];

/// Those that hold secrets: each may be in a file instead, named by the same word with `_FILE` added.
pub const SECRETS: &[&str] = &["HUB_ENCRYPTION_KEK", "HUB_JWT_SECRET", "HUB_OPERATOR_PASSWORD"];

const KEK_HELP: &str =
    "an age identity, as `xvault keygen` or `age-keygen` makes; keep a copy of it elsewhere";
const JWT_HELP: &str = "at least 32 random bytes, as `openssl rand -base64 48` makes";
const DATABASE_HELP: &str = "postgres://user:password@host/database, or sqlite:/path/to/hub.db";
const REDIS_HELP: &str = "redis://:password@host:6379/0";

/// How log lines look, and which there are.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How log lines look: text or json
    #[arg(long = "log-format", env = "HUB_LOG_FORMAT", default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub format: LogFormat,
    /// Which log lines there are: error, warn, info, debug, or by module as in `info,xvault_hub=debug`
    #[arg(long = "log", env = "HUB_LOG", default_value = DEFAULT_LOG_FILTER, value_name = "FILTER")]
    pub filter: String,
}

/// How the hub behaves.
#[derive(Debug, Clone, Args)]
// `xvault up` takes the worker's of the same name beside it.
#[group(skip)]
pub struct BehaviourArgs {
    /// How long a worker may be silent before its job is given to another, in seconds
    #[arg(long, env = "HUB_LEASE_SECONDS", default_value_t = 60, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(3..=3600))]
    pub lease_seconds: u64,
    /// After so many attempts a job fails
    #[arg(long, env = "HUB_MAX_ATTEMPTS", default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=20))]
    pub max_attempts: u32,
    /// How long job logs are kept, in days
    #[arg(long, env = "HUB_JOB_LOG_DAYS", default_value_t = 90, value_name = "DAYS",
          value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub job_log_days: u32,
    /// How often schedules are looked at, in seconds: so late a backup may begin
    #[arg(long, env = "BACKUP_SCHEDULER_INTERVAL_SECONDS", default_value_t = 15, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub scheduler_interval_seconds: u64,
    /// How often the retention policies of all sources are applied, in hours; 0: only after each backup of a source
    #[arg(long, env = "RETENTION_EVALUATION_INTERVAL_HOURS", default_value_t = 6, value_name = "HOURS",
          value_parser = clap::value_parser!(u32).range(0..=720))]
    pub retention_evaluation_interval_hours: u32,
    /// How much the verifications that the hub makes by itself may read in 24 hours of a worker's disk, or of a store: bytes, or with
    /// KiB, MiB, GiB or TiB; 0: as much as there is
    #[arg(long, env = "HUB_VERIFY_BYTES_PER_DAY", default_value = "500GiB", value_name = "SIZE", value_parser = parse_bytes)]
    pub verify_bytes_per_day: u64,
    /// Whether strangers may make themselves a tenant: open or closed
    #[arg(long, env = "HUB_REGISTRATION", default_value = "closed", value_name = "WHO")]
    pub registration: Registration,
    /// An offline age recipient that every backup is encrypted to, too
    #[arg(long, env = "HUB_RECOVERY_RECIPIENT", value_name = "RECIPIENT")]
    pub recovery_recipient: Option<Recipient>,
    /// Whose stores may have an address in a private network: operators or everybody
    #[arg(long, env = "HUB_PRIVATE_STORES", default_value = "operators", value_name = "WHO")]
    pub private_stores: PrivateStores,
    /// Proxies whose X-Forwarded-For is believed, such as 10.0.0.5 or 10.0.0.0/24; separated by commas
    #[arg(long, env = "HUB_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
    /// How many connections of clients are open at once; more wait. Half of the open files that the system allows at most
    #[arg(long, env = "HUB_MAX_CONNECTIONS", default_value_t = 4096, value_name = "N",
          value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub max_connections: u32,
    /// How long a connection may take to send the head of a request, and be idle between two, in seconds
    #[arg(long, env = "HUB_MAX_SILENCE_SECONDS", default_value_t = 75, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub max_silence_seconds: u64,
    /// E-mail address of the first operator; its password is HUB_OPERATOR_PASSWORD, or made and printed once
    #[arg(long, env = "HUB_OPERATOR_EMAIL", value_name = "EMAIL")]
    pub operator_email: Option<String>,
}

/// What `serve` is told.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen
    #[arg(long = "listen", env = "HUB_LISTEN_ADDR", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Bring the database's schema up to date at start
    #[arg(long, env = "HUB_AUTO_MIGRATE", value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true")]
    pub auto_migrate: bool,
    /// Connections to the database
    #[arg(long, env = "HUB_DATABASE_CONNECTIONS", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=200))]
    pub database_connections: u32,
    /// How it behaves
    #[command(flatten)]
    pub behaviour: BehaviourArgs,
}

impl BehaviourArgs {
    /// The settings, with the secret that access tokens are signed with.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn settings(&self, jwt_secret: &SecretString) -> Result<Settings, crate::SettingsError> {
        let mut settings = Settings::with_jwt_secret(jwt_secret.expose_secret().as_bytes())?;
        settings.lease = Duration::from_secs(self.lease_seconds);
        settings.max_attempts = self.max_attempts;
        settings.job_log_days = self.job_log_days;
        settings.scheduler_interval = Duration::from_secs(self.scheduler_interval_seconds);
        settings.retention_interval =
            Duration::from_secs(u64::from(self.retention_evaluation_interval_hours) * 3600);
        settings.verify_bytes_per_day = self.verify_bytes_per_day;
        settings.registration = self.registration;
        settings.max_connections = self.max_connections;
        settings.max_silence = Duration::from_secs(self.max_silence_seconds);
        settings.trusted_proxies = self.trusted_proxies.clone();
        settings.recovery_recipient = self.recovery_recipient.clone();
        settings.private_stores = self.private_stores;
        Ok(settings)
    }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| one())
        .map_err(|_| format!("`{text}` is no network: write 10.0.0.0/24, or an address"))
}

/// Stops at a misspelt setting.
///
/// # Errors
/// Names it.
pub fn check_names(environment: &Environment) -> Result<(), SettingError> {
    environment.refuse_unknown("HUB_", KNOWN, SECRETS)?;
    environment.refuse_unknown("BACKUP_SCHEDULER_", &["BACKUP_SCHEDULER_INTERVAL_SECONDS"], &[])
}

/// `HUB_ENCRYPTION_KEK`.
///
/// # Errors
/// When it is absent, or no list of identities.
pub fn keys(environment: &Environment) -> anyhow::Result<Keys> {
    Ok(Keys::parse(&environment.needed_secret("HUB_ENCRYPTION_KEK", KEK_HELP)?)?)
}

/// Connects to `DATABASE_URL`.
///
/// # Errors
/// When it is absent, of no supported kind, or can't be reached.
pub async fn database(environment: &Environment, connections: u32) -> anyhow::Result<Db> {
    let url = environment.needed_secret("DATABASE_URL", DATABASE_HELP)?;
    Ok(Db::connect(url.expose_secret(), connections).await?)
}

/// The password of the first operator, if it is given.
///
/// # Errors
/// When it is given twice, or can't be read.
pub fn operator_password(environment: &Environment) -> Result<Option<SecretString>, SettingError> {
    environment.secret("HUB_OPERATOR_PASSWORD")
}

/// Everything `serve` needs, from `args` and the environment.
///
/// # Errors
/// Names the setting at fault.
pub async fn parts(args: &ServeArgs, environment: &Environment) -> anyhow::Result<HubParts> {
    let keys = keys(environment)?;
    let settings = args.behaviour.settings(&environment.needed_secret("HUB_JWT_SECRET", JWT_HELP)?)?;
    let redis = environment.needed_secret("REDIS_URL", REDIS_HELP)?;
    let queue: Arc<dyn JobQueue> = Arc::new(RedisQueue::new(redis.expose_secret())?);
    let db = database(environment, args.database_connections).await?;
    Ok(HubParts { db, clock: Clock::system(), keys, queue, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that `--help` shows.
    fn settings() -> Vec<String> {
        let command = <crate::program::Cli as clap::CommandFactory>::command();
        let serve = command.find_subcommand("serve").unwrap();
        let settings = command.get_arguments().chain(serve.get_arguments()).filter_map(|arg| arg.get_env());
        settings.filter_map(|name| name.to_str()).map(str::to_owned).collect()
    }

    #[test]
    fn every_setting_of_the_program_is_known() {
        let settings = settings();
        assert!(settings.len() > 5, "{settings:?}");
        for name in settings {
            assert!(KNOWN.contains(&&*name) || !name.starts_with("HUB_"), "{name}");
        }
        assert!(KNOWN.iter().all(|name| !SECRETS.contains(name)));
    }

    #[test]
    fn the_manual_lists_every_setting_and_no_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let table = manual.split_once("\nOf the hub:\n").unwrap().1.split_once("\nOf a worker:\n").unwrap().0;
        let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let mut listed: Vec<_> = first_cells.flat_map(|cell| cell.split([' ', ',', '`'])).collect();
        listed.retain(|word| !word.is_empty() && *word != "(secret)");
        let mut settings = settings();
        settings.extend(SECRETS.iter().chain(&["DATABASE_URL", "REDIS_URL"]).map(|name| (*name).to_owned()));
        listed.sort_unstable();
        settings.sort_unstable();
        assert_eq!(listed, settings);
    }

    #[test]
    fn a_setting_that_would_be_ignored_stops_the_program() {
        let environment = |name: &str| [(name, "x")].into_iter().collect::<Environment>();
        for name in ["HUB_OPERATOR_EMAIL_FILE", "HUB_LOG_FILE", "HUB_BASE_URL_FILE", "HUB_LEASE_SECOND"] {
            let error = check_names(&environment(name)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        for name in ["HUB_BASE_URL", "HUB_ENCRYPTION_KEK_FILE", "HUB_SERVICE_HOST", "HUB_TRUSTED_PROXIES"] {
            check_names(&environment(name)).unwrap();
        }
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_library() {
        let Serve { args } = clap::Parser::parse_from(["serve"]);
        let secret = SecretString::from("at least thirty-two bytes of secret");
        let (flags, library) = (
            args.behaviour.settings(&secret).unwrap(),
            Settings::with_jwt_secret(secret.expose_secret().as_bytes()).unwrap(),
        );
        assert_eq!(format!("{flags:?}"), format!("{library:?}"));
    }

    #[derive(clap::Parser)]
    struct Serve {
        #[command(flatten)]
        args: ServeArgs,
    }

    #[tokio::test]
    async fn a_redis_that_will_never_answer_is_refused_without_a_word_of_its_password() {
        let Serve { args } = clap::Parser::parse_from(["serve"]);
        let kek = xvault_core::Identity::generate().to_secret();
        for (url, told) in [
            ("rediss://:hunter2@h:6379/0", "REDIS_URL: Redis over TLS (rediss://) is not supported"),
            ("valkeys://:hunter2@h", "REDIS_URL: Redis over TLS"),
            ("amqp://:hunter2@h", "REDIS_URL: it is no address"),
            ("hunter2@h:6379", "REDIS_URL: it is no address"),
            ("redis://:hunter2@h:port", "REDIS_URL: it is no address"),
            ("redis://:hunter2@h/db", "REDIS_URL: it is no address"),
        ] {
            let environment: Environment = [
                ("HUB_ENCRYPTION_KEK", kek.expose_secret()),
                ("HUB_JWT_SECRET", "at least thirty-two bytes of secret"),
                ("REDIS_URL", url),
                // It comes to this one last.
                ("DATABASE_URL", "none"),
            ]
            .into_iter()
            .collect();
            let error = format!("{:#}", parts(&args, &environment).await.unwrap_err());
            assert!(error.contains(told) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn networks_and_addresses_are_read() {
        for (text, network_text) in
            [("10.0.0.0/24", "10.0.0.0/24"), (" 10.0.0.5", "10.0.0.5/32"), ("fd00::1", "fd00::1/128")]
        {
            assert_eq!(network(text).unwrap().to_string(), network_text);
        }
        for text in ["", "10.0.0.0/33", "proxy.example", "10.0.0.0/24/1"] {
            assert!(network(text).unwrap_err().contains("no network"), "{text}");
        }
    }
}
