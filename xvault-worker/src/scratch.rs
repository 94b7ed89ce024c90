//! The servers that restore tests load dumps into.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use tokio::sync::{Mutex, MutexGuard};
use xvault::connectors::tool::ToolOptions;
use xvault::connectors::{DatabaseLogin, Scratch};
use xvault::core::DatabaseTarget;
use xvault::core::clock::now;
use xvault::core::error::chain;
use xvault::core::secret::{ExposeSecret as _, SecretString};
use xvault::core::service::SettingError;
use xvault::core::source::{DatabaseCredential, MysqlTarget, PostgresTarget, TlsMode};

use crate::config::WorkerConfig;

/// Where the server for PostgreSQL's dumps is.
pub(crate) const POSTGRES: &str = "WORKER_SCRATCH_POSTGRES_URL";
/// Where the server for MySQL's and MariaDB's dumps is.
pub(crate) const MYSQL: &str = "WORKER_SCRATCH_MYSQL_URL";

/// Older scratch databases are left over: no trial takes so long and is not connected.
const LEFT_OVER: Duration = Duration::from_secs(24 * 3600);
/// How often left over ones are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// Those that this worker has.
#[derive(Debug, Default)]
pub(crate) struct ScratchServers {
    postgres: Option<Scratch>,
    mysql: Option<Scratch>,
    /// One dump at a time: under MySQL one could spoil the test of another, and a small server has enough to do with one.
    turn: Mutex<()>,
}

impl ScratchServers {
    /// Of the settings. Nobody is asked yet.
    pub(crate) fn of(config: &WorkerConfig, tools: &ToolOptions) -> Result<Self, SettingError> {
        let open = |name, url: &Option<SecretString>| {
            let scratch = url.as_ref().map(|url| scratch(url, tools)).transpose();
            let scratch = scratch.map_err(|reason| SettingError::Unusable { name, reason })?;
            Ok(scratch.map(|scratch| if config.scratch_superuser { scratch.any_account() } else { scratch }))
        };
        Ok(Self {
            postgres: open(POSTGRES, &config.scratch_postgres_url)?,
            mysql: open(MYSQL, &config.scratch_mysql_url)?,
            turn: Mutex::default(),
        })
    }

    /// The one for dumps of sources of this type.
    pub(crate) fn for_source(&self, source_type: &str) -> Option<&Scratch> {
        match source_type {
            "postgres" => self.postgres.as_ref(),
            "mysql" | "wordpress" => self.mysql.as_ref(),
            _ => None,
        }
    }

    /// Whoever holds it may load a dump.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Drops, now and then, what trials of workers that were killed have left. May be dropped at any time.
    pub(crate) async fn keep_clean(&self) {
        loop {
            for scratch in [&self.postgres, &self.mysql].into_iter().flatten() {
                sweep(scratch).await;
            }
            tokio::time::sleep(SWEEP).await;
        }
    }
}

async fn sweep(scratch: &Scratch) {
    let before = now().checked_sub(LEFT_OVER).unwrap_or(Timestamp::MIN);
    match scratch.sweep(before).await {
        Ok(0) => {}
        Ok(dropped) => {
            tracing::info!(
                dropped,
                server = scratch.address(),
                "dropped scratch databases that were left over"
            );
        }
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                server = scratch.address(),
                "a scratch server can't be asked"
            );
        }
    }
}

/// The server that a setting names, or what is wrong with it. The setting is not repeated: it holds a password.
fn scratch(url: &SecretString, tools: &ToolOptions) -> Result<Scratch, &'static str> {
    let url =
        Url::parse(url.expose_secret()).map_err(|_| "it is no URL: postgres://user:password@host:5432 is")?;
    let target = target(&url)?;
    let password = match url.password() {
        Some(password) => Some(SecretString::from(decoded(password)?)),
        None => None,
    };
    let mut login = DatabaseLogin::new(&target.server(), DatabaseCredential { password, ssh: None });
    login.tools = tools.clone();
    Scratch::new(&target, login).map_err(|_| "its host, user or database can't be used")
}

fn target(url: &Url) -> Result<DatabaseTarget, &'static str> {
    let host = url.host_str().ok_or("it names no host")?.trim_matches(['[', ']']).to_owned();
    let user = decoded(url.username())?;
    if user.is_empty() {
        return Err("it names no user: postgres://user:password@host:5432 does");
    }
    let (tls, tls_ca) = tls(url)?;
    let named = Some(decoded(url.path().trim_start_matches('/'))?).filter(|name| !name.is_empty());
    // What both types have in common.
    macro_rules! fill {
        ($target:expr, $default:literal) => {{
            let mut target = $target;
            target.port = url.port().unwrap_or(target.port);
            target.use_password = url.password().is_some();
            (target.tls_mode, target.tls_ca) = (tls, tls_ca);
            target.database = named.unwrap_or_else(|| $default.to_owned());
            target
        }};
    }
    match url.scheme() {
        "postgres" | "postgresql" => {
            Ok(DatabaseTarget::Postgres(fill!(PostgresTarget::new(host, user), "postgres")))
        }
        "mysql" | "mariadb" => Ok(DatabaseTarget::Mysql(fill!(MysqlTarget::new(host, user), "mysql"))),
        _ => Err("it must begin with postgres:// or mysql://"),
    }
}

/// `?sslmode=…` in PostgreSQL's words, and `sslrootcert` for a file of certificates.
fn tls(url: &Url) -> Result<(Option<TlsMode>, Option<String>), &'static str> {
    let mut options: BTreeMap<_, _> = url.query_pairs().collect();
    let mode = match options.remove("sslmode").as_deref() {
        None => None,
        Some(word) => Some(
            [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull]
                .into_iter()
                .find(|mode| mode.as_str() == word)
                .ok_or("sslmode must be disable, prefer, require, verify-ca or verify-full")?,
        ),
    };
    let ca = match options.remove("sslrootcert").as_deref() {
        None => None,
        Some(file) => {
            Some(std::fs::read_to_string(file).map_err(|_| "the file of sslrootcert can't be read")?)
        }
    };
    if options.is_empty() { Ok((mode, ca)) } else { Err("only sslmode and sslrootcert may follow the `?`") }
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| "it is no text once its %-escapes are read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<DatabaseTarget, &'static str> {
        scratch(&SecretString::from(url.to_owned()), &ToolOptions::default())?;
        target(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_every_part() {
        let DatabaseTarget::Postgres(target) =
            read("postgres://t%40r:p%2Fw@[::1]:5433/other?sslmode=require").unwrap()
        else {
            panic!()
        };
        assert_eq!((target.username.as_str(), target.host.as_str(), target.port), ("t@r", "::1", 5433));
        assert_eq!((target.database.as_str(), target.use_password), ("other", true));
        assert_eq!(target.tls_mode, Some(TlsMode::Require));
        let DatabaseTarget::Mysql(target) = read("mysql://trial@db.example").unwrap() else { panic!() };
        assert_eq!((target.port, target.use_password, target.tls_mode), (3306, false, None));
    }

    #[test]
    fn each_bad_setting_is_told_what_is_wrong_without_its_password() {
        for (url, part) in [
            ("hunter2", "no URL"),
            ("redis://u:hunter2@h", "postgres:// or mysql://"),
            ("postgres://:hunter2@h", "no user"),
            ("postgres:///x", "no host"),
            ("postgres://u:hunter2@h?sslmode=maybe", "sslmode must be"),
            ("postgres://u:hunter2@h?sslrootcert=/nowhere/hunter2", "can't be read"),
            ("postgres://u:hunter2@h?options=-c", "only sslmode"),
            ("postgres://u:%ff@h", "no text"),
            ("postgres://u%0a:hunter2@h", "can't be used"),
        ] {
            let mut config =
                WorkerConfig::new("w1".parse().unwrap(), "token".into(), "http://127.0.0.1:1", "/nowhere");
            config.scratch_postgres_url = Some(SecretString::from(url.to_owned()));
            let error = ScratchServers::of(&config, &ToolOptions::default()).unwrap_err().to_string();
            assert!(error.contains(part) && error.starts_with(POSTGRES), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
