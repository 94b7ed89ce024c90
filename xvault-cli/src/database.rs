//! Databases on the command line: `postgres://` and `mysql://`, and how to log in there.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum, ValueHint};
use xvault::connectors::tool::ToolOptions;
use xvault::connectors::{DatabaseLoad, DatabaseLogin};
use xvault::core::source::{DatabaseServer, DumpFormat, MysqlTarget, PostgresTarget, SshMode, TlsMode};
use xvault::core::{DatabaseTarget, MysqlSettings, PostgresSettings, SourceSettings, SshSettings};

use crate::args::{LoginArgs, SourceArgs};
use crate::flags::{DATABASES, Flag, POSTGRES, TLS, TOOLS};
use crate::source_url::{decode, host_and_port};
use crate::{keys, login};

/// How a database is reached.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DatabaseArgs {
    /// Reach the database through this SSH server: ssh://user@host:port
    #[arg(long, value_name = "URL", help_heading = "Databases")]
    pub(crate) via: Option<String>,
    /// Run the database's tools on the --via server instead of here
    #[arg(long, requires = "via", help_heading = "Databases")]
    pub(crate) remote_tools: bool,
    /// How the connection is encrypted and checked [default: verify-full; prefer with --via and on this machine]
    #[arg(long, value_name = "MODE", help_heading = "Databases")]
    pub(crate) tls: Option<TlsArg>,
    /// Certificates that are trusted instead of the system's, of a database or an FTP server: those of authorities, or of the
    /// server itself
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Databases")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Use database tools with known holes, which a hostile server can use against this machine
    #[arg(long, help_heading = "Databases")]
    pub(crate) allow_outdated_tools: bool,
}

impl DatabaseArgs {
    /// This machine's.
    pub(crate) fn tools(&self) -> ToolOptions {
        ToolOptions { allow_outdated: self.allow_outdated_tools, ..ToolOptions::default() }
    }

    /// Its flags, and what each is for.
    pub(crate) fn flags(&self) -> [Flag; 5] {
        let Self { via, remote_tools, tls, tls_ca, allow_outdated_tools } = self;
        [
            Flag::new("--via", DATABASES, via.is_some()),
            Flag::new("--remote-tools", DATABASES, *remote_tools),
            Flag::new("--tls", DATABASES, tls.is_some()),
            Flag::new("--tls-ca", TLS, tls_ca.is_some()),
            Flag::new("--allow-outdated-tools", TOOLS, *allow_outdated_tools),
        ]
    }
}

/// What of a database is dumped, and how.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DumpArgs {
    /// Only this table; repeatable (PostgreSQL: a pattern)
    #[arg(long = "table", value_name = "NAME", help_heading = "Databases")]
    pub(crate) tables: Vec<String>,
    /// Not this table; repeatable (PostgreSQL: a pattern)
    #[arg(long = "exclude-table", value_name = "NAME", help_heading = "Databases")]
    pub(crate) exclude_tables: Vec<String>,
    /// PostgreSQL: only this schema, a pattern; repeatable
    #[arg(long = "schema", value_name = "NAME", help_heading = "Databases")]
    pub(crate) schemas: Vec<String>,
    /// PostgreSQL: no schema of this name, a pattern; repeatable
    #[arg(long = "exclude-schema", value_name = "NAME", help_heading = "Databases")]
    pub(crate) exclude_schemas: Vec<String>,
    /// PostgreSQL: how long a lock on a table is waited for before the backup fails [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Databases")]
    pub(crate) lock_timeout: Option<u32>,
    /// PostgreSQL: dump SQL instead of the custom format
    #[arg(long, help_heading = "Databases")]
    pub(crate) plain_sql: bool,
    /// PostgreSQL: keep roles and tablespaces, too
    #[arg(long, help_heading = "Databases")]
    pub(crate) globals: bool,
}

impl DumpArgs {
    /// Its flags, and what each is for.
    pub(crate) fn flags(&self) -> [Flag; 7] {
        let Self { tables, exclude_tables, schemas, exclude_schemas, lock_timeout, plain_sql, globals } =
            self;
        [
            Flag::new("--table", DATABASES, !tables.is_empty()),
            Flag::new("--exclude-table", DATABASES, !exclude_tables.is_empty()),
            Flag::new("--schema", POSTGRES, !schemas.is_empty()),
            Flag::new("--exclude-schema", POSTGRES, !exclude_schemas.is_empty()),
            Flag::new("--lock-timeout", POSTGRES, lock_timeout.is_some()),
            Flag::new("--plain-sql", POSTGRES, *plain_sql),
            Flag::new("--globals", POSTGRES, *globals),
        ]
    }
}

/// `--tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsArg {
    /// Plain text
    Disable,
    /// TLS where the server offers it, unchecked
    Prefer,
    /// TLS or nothing, unchecked
    Require,
    /// The certificate is of a trusted authority
    VerifyCa,
    /// The certificate is of a trusted authority, and of this name
    VerifyFull,
}

impl From<TlsArg> for TlsMode {
    fn from(arg: TlsArg) -> Self {
        match arg {
            TlsArg::Disable => Self::Disable,
            TlsArg::Prefer => Self::Prefer,
            TlsArg::Require => Self::Require,
            TlsArg::VerifyCa => Self::VerifyCa,
            TlsArg::VerifyFull => Self::VerifyFull,
        }
    }
}

/// What a URL names.
struct Named {
    username: String,
    host: String,
    port: Option<u16>,
    database: Option<String>,
}

fn named(url: &str, rest: &str) -> anyhow::Result<Named> {
    if rest.contains('?') {
        bail!(
            "nothing is read behind a `?`: say how the connection is encrypted with --tls and --tls-ca (a `?` in a name is written %3F)"
        )
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = url.split("://").next().unwrap_or_default();
    let Some((username, server)) = authority.rsplit_once('@') else {
        bail!("the URL names no user: write {scheme}://user@host/database")
    };
    if username.contains(':') {
        bail!(
            "a password does not belong into the URL, where `ps` and the shell's history show it: use --password-file or XVAULT_PASSWORD"
        )
    }
    let (host, port) = host_and_port(server)?;
    let database = Some(decode(database)?).filter(|name| !name.is_empty());
    Ok(Named { username: decode(username)?, host: decode(&host)?, port, database })
}

/// The SSH server of `--via`.
fn hop(args: &DatabaseArgs) -> anyhow::Result<Option<(String, u16, String)>> {
    let Some(url) = &args.via else { return Ok(None) };
    let Some(rest) = url.strip_prefix("ssh://") else { bail!("--via takes ssh://user@host:port") };
    let hop = named(url, rest)?;
    if hop.database.is_some() {
        bail!("--via takes ssh://user@host:port, and nothing behind it")
    }
    Ok(Some((hop.host, hop.port.unwrap_or_else(SshSettings::default_port), hop.username)))
}

/// Fills the fields that all database types share.
macro_rules! fill {
    ($settings:ident, $named:ident, $args:ident, $login:ident) => {
        if let Some(port) = $named.port {
            $settings.port = port;
        }
        $settings.tls_mode = $args.tls.map(TlsMode::from);
        $settings.tls_ca = $args.tls_ca.as_deref().map(keys::read_text).transpose()?;
        $settings.ssh_mode = if $args.remote_tools { SshMode::Remote } else { SshMode::Tunnel };
        if let Some((host, port, username)) = hop($args)? {
            ($settings.use_ssh, $settings.ssh_host, $settings.ssh_port) = (true, Some(host), port);
            ($settings.ssh_username, $settings.ssh_host_key) = (Some(username), $login.host_key.clone());
        }
    };
}

/// A source of that scheme.
pub(crate) fn source(args: &SourceArgs, scheme: &str, rest: &str) -> anyhow::Result<SourceSettings> {
    let named = named(&args.source, rest)?;
    let (database, dump, login) = (&args.database, &args.dump, &args.login);
    let names: Vec<String> = named.database.iter().chain(&args.paths).cloned().collect();
    Ok(if scheme == "mysql" {
        let mut settings = MysqlSettings::new(named.host, named.username);
        fill!(settings, named, database, login);
        settings.databases = names;
        settings.hooks = args.hooks.hooks();
        settings.tables.clone_from(&dump.tables);
        settings.exclude_tables.clone_from(&dump.exclude_tables);
        SourceSettings::Mysql(settings)
    } else {
        let mut settings = PostgresSettings::new(named.host, named.username);
        fill!(settings, named, database, login);
        settings.databases = names;
        settings.hooks = args.hooks.hooks();
        settings.tables.clone_from(&dump.tables);
        settings.exclude_tables.clone_from(&dump.exclude_tables);
        settings.schemas.clone_from(&dump.schemas);
        settings.exclude_schemas.clone_from(&dump.exclude_schemas);
        settings.lock_timeout_seconds = dump.lock_timeout;
        settings.format = if dump.plain_sql { DumpFormat::Plain } else { DumpFormat::Custom };
        settings.globals = dump.globals;
        SourceSettings::Postgres(settings)
    })
}

/// What happens to a database that is loaded into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Into {
    pub(crate) create: bool,
    pub(crate) overwrite: bool,
    pub(crate) keep_owner: bool,
}

/// The database that `--to` names, where it is one.
pub(crate) fn target(
    url: &str,
    args: &DatabaseArgs,
    login: &LoginArgs,
    into: Into,
) -> anyhow::Result<Option<DatabaseTarget>> {
    let Some((scheme @ ("postgres" | "postgresql" | "mysql"), rest)) = url.split_once("://") else {
        return Ok(None);
    };
    let named = named(url, rest)?;
    let Some(name) = named.database.clone() else {
        bail!("the URL names no database: write {scheme}://user@host/database")
    };
    let target = if scheme == "mysql" {
        let mut target = MysqlTarget::new(named.host, named.username);
        fill!(target, named, args, login);
        (target.database, target.create, target.overwrite) = (name, into.create, into.overwrite);
        DatabaseTarget::Mysql(target)
    } else {
        let mut target = PostgresTarget::new(named.host, named.username);
        fill!(target, named, args, login);
        (target.database, target.create, target.overwrite) = (name, into.create, into.overwrite);
        target.keep_owner = into.keep_owner;
        DatabaseTarget::Postgres(target)
    };
    target.validate()?;
    Ok(Some(target))
}

/// How to log in at `server`, and at the SSH server in between.
pub(crate) fn login(
    server: &DatabaseServer,
    args: &DatabaseArgs,
    login: &LoginArgs,
) -> anyhow::Result<DatabaseLogin> {
    let account = format!("{}@{}", server.username, server.place());
    let password = match login::given_password(login)? {
        None if !server.is_remote() => login::ask(&format!("password of {account}: "))?,
        given => given,
    };
    let ssh = server.ssh.as_ref().map(|hop| login::hop(login, hop)).transpose()?;
    Ok(DatabaseLogin { password, ssh, tools: args.tools(), ..DatabaseLogin::default() })
}

/// Ready to load into `target`.
pub(crate) fn load(
    target: &DatabaseTarget,
    args: &DatabaseArgs,
    login: &LoginArgs,
) -> anyhow::Result<DatabaseLoad> {
    let login = self::login(&target.server(), args, login).context("log in at the database")?;
    Ok(DatabaseLoad::new(target, login)?)
}
