//! The worker's settings from flags and environment variables.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;
use xvault::core::WorkerId;
use xvault::core::secret::{InvalidSecret, SecretString, from_file_bytes};

use crate::config::{CONCURRENCY, WorkerConfig};
use crate::telemetry::{DEFAULT_FILTER, LogFormat};

/// Secrets are taken from the environment or from a file, never from a flag: a process list shows flags.
const TOKEN: &str = "WORKER_TOKEN";
const REDIS: &str = "REDIS_URL";
/// The longest file that a secret is read from.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// Runs the jobs of an xVault hub: pulls from sources, encrypts, and stores.
///
/// The token comes from WORKER_TOKEN or WORKER_TOKEN_FILE, the address of Redis (which may hold a password) from REDIS_URL or REDIS_URL_FILE.
#[derive(Debug, clap::Parser)]
#[command(name = "xvault-worker", version)]
pub struct Args {
    /// Name of this worker, as `xvault-hub token` made it known
    #[arg(long, env = "WORKER_ID", value_name = "WORKER_ID")]
    id: WorkerId,
    /// File with the token that the hub gave for this worker
    #[arg(long, env = "WORKER_TOKEN_FILE", value_name = "WORKER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Address of the hub
    #[arg(long, env = "HUB_BASE_URL", value_name = "HUB_BASE_URL", default_value = "http://127.0.0.1:8080")]
    hub: String,
    /// File with the address of Redis
    #[arg(long, env = "REDIS_URL_FILE", value_name = "REDIS_URL_FILE")]
    redis_url_file: Option<PathBuf>,
    /// Directory that snapshots lie in
    #[arg(
        long,
        env = "WORKER_STORAGE_BASE",
        value_name = "WORKER_STORAGE_BASE",
        default_value = "/var/lib/xvault/backups"
    )]
    storage_base: PathBuf,
    /// Jobs at a time
    #[arg(long, env = "WORKER_CONCURRENCY", value_name = "WORKER_CONCURRENCY", default_value_t = CONCURRENCY)]
    concurrency: NonZeroUsize,
    /// Directory of this machine that tenants may back up; repeatable (in the variable: separated by `:`)
    #[arg(long, env = "WORKER_ALLOW_LOCAL", value_name = "WORKER_ALLOW_LOCAL", value_delimiter = ':')]
    allow_local: Vec<PathBuf>,
    /// Address that /metrics and /healthz are served at, such as 127.0.0.1:9100; nowhere when absent
    #[arg(long, env = "WORKER_METRICS_ADDR", value_name = "WORKER_METRICS_ADDR")]
    metrics_addr: Option<SocketAddr>,
    /// Seconds that running jobs may take to end when the worker is stopped
    #[arg(long, env = "WORKER_DRAIN_SECONDS", value_name = "WORKER_DRAIN_SECONDS", default_value_t = 300)]
    drain_seconds: u32,
    /// Room on the disk that no backup may use: bytes, or with KiB, MiB, GiB or TiB
    #[arg(long, env = "WORKER_MIN_FREE", value_name = "WORKER_MIN_FREE", default_value = "1GiB", value_parser = parse_bytes)]
    min_free: u64,
    /// Which log lines are shown: error, warn, info, debug, or target=level
    #[arg(long, env = "WORKER_LOG", value_name = "WORKER_LOG", default_value = DEFAULT_FILTER)]
    log: String,
    /// How log lines look
    #[arg(long, env = "WORKER_LOG_FORMAT", value_name = "WORKER_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable that means nothing: a misspelt one would be ignored.
    #[error("the environment variable {0} is unknown: xvault-worker --help lists those that are")]
    UnknownVariable(String),
    /// Neither the variable nor its file is given.
    #[error("{0} or {0}_FILE is needed")]
    Missing(&'static str),
    /// Both are given.
    #[error("{0} and {0}_FILE are both set: one of them is enough")]
    Both(&'static str),
    /// A secret that can't be used.
    #[error("{name}: {reason}")]
    Secret {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        reason: InvalidSecret,
    },
    /// A file that can't be read.
    #[error("{name}_FILE: read {}", path.display())]
    File {
        /// The variable.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Args {
    /// The settings, and the address of Redis. `env` holds the environment.
    ///
    /// # Errors
    /// When a secret is missing, or a variable named `WORKER_…` is unknown.
    pub fn settings(&self, env: &[(OsString, OsString)]) -> Result<(WorkerConfig, SecretString), Error> {
        check_names(env)?;
        let token = secret(TOKEN, env, self.token_file.as_deref())?;
        let redis = secret(REDIS, env, self.redis_url_file.as_deref())?;
        let config = WorkerConfig {
            concurrency: self.concurrency,
            allow_local: self.allow_local.clone(),
            drain: Duration::from_secs(self.drain_seconds.into()),
            min_free: self.min_free,
            metrics_addr: self.metrics_addr,
            ..WorkerConfig::new(self.id.clone(), token, &self.hub, &self.storage_base)
        };
        Ok((config, redis))
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

/// Every variable of the worker's that means something.
fn known_names() -> BTreeSet<String> {
    let command = Args::command();
    let names = command.get_arguments().filter_map(|arg| arg.get_env()).filter_map(|name| name.to_str());
    names.map(str::to_owned).chain([TOKEN.to_owned()]).collect()
}

fn check_names(env: &[(OsString, OsString)]) -> Result<(), Error> {
    let known = known_names();
    let names = env.iter().map(|(name, _)| name.to_string_lossy());
    match names.into_iter().find(|name| name.starts_with("WORKER_") && !known.contains(&**name)) {
        Some(name) => Err(Error::UnknownVariable(name.escape_debug().to_string())),
        None => Ok(()),
    }
}

/// A secret from the variable `name`, or from the file that its `_FILE` twin names.
fn secret(
    name: &'static str,
    env: &[(OsString, OsString)],
    file: Option<&Path>,
) -> Result<SecretString, Error> {
    let given = env.iter().find(|(found, value)| found == name && !value.is_empty());
    let bytes = match (given, file) {
        (Some(_), Some(_)) => return Err(Error::Both(name)),
        (Some((_, value)), None) => value.clone().into_encoded_bytes(),
        (None, Some(path)) => {
            read(path).map_err(|source| Error::File { name, path: path.to_owned(), source })?
        }
        (None, None) => return Err(Error::Missing(name)),
    };
    from_file_bytes(bytes).map_err(|reason| Error::Secret { name, reason })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SECRET_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `1GiB`, `500MiB`, `4096`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("", 0)];
    let wrong = || format!("`{text}` is no size: write bytes, or a whole number with KiB, MiB, GiB or TiB");
    let found = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = found.ok_or_else(wrong)?;
    let number: u64 = number.trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;
    use xvault::core::secret::ExposeSecret;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn args(more: &[&str]) -> Args {
        Args::try_parse_from(["xvault-worker", "--id", "w1"].iter().chain(more)).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        assert_eq!(parse_bytes("1GiB"), Ok(crate::config::MIN_FREE));
        assert_eq!(Duration::from_secs(args(&[]).drain_seconds.into()), crate::config::DRAIN);
    }

    #[test]
    fn an_unknown_variable_stops_the_program_by_name() {
        let both = [("WORKER_TOKEN", "t"), ("REDIS_URL", "redis://h"), ("WORKER_CONCURENCY", "9")];
        let error = args(&[]).settings(&env(&both)).unwrap_err().to_string();
        assert!(error.contains("WORKER_CONCURENCY"), "{error}");
        let fine = [("WORKER_TOKEN", "t"), ("REDIS_URL", "redis://h"), ("WORKERS", "9"), ("WORKER_ID", "w1")];
        assert!(args(&[]).settings(&env(&fine)).is_ok());
    }

    #[test]
    fn each_secret_comes_from_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let file = file.to_str().unwrap();
        let redis = ("REDIS_URL", "redis://h");
        let (config, _) = args(&["--token-file", file]).settings(&env(&[redis])).unwrap();
        assert_eq!(config.token.expose_secret(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        let token = ("WORKER_TOKEN", "t");
        let both = args(&["--token-file", file]).settings(&env(&[redis, token])).unwrap_err();
        assert!(matches!(both, Error::Both("WORKER_TOKEN")), "{both}");
        let none = args(&[]).settings(&env(&[token])).unwrap_err();
        assert_eq!(none.to_string(), "REDIS_URL or REDIS_URL_FILE is needed");
        let gone = args(&["--token-file", "/nowhere"]).settings(&env(&[redis])).unwrap_err();
        assert!(gone.to_string().contains("/nowhere"), "{gone}");
    }

    proptest! {
        #[test]
        fn sizes_are_read_exactly_or_refused(number in 0u64..u64::MAX, unit in 0usize..5, text in ".{0,8}") {
            let (name, shift) = [("", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)][unit];
            let exact = u128::from(number) << shift;
            prop_assert_eq!(parse_bytes(&format!("{number}{name}")).ok(), u64::try_from(exact).ok());
            drop(parse_bytes(&text));
        }
    }
}
