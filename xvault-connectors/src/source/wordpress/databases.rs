//! The databases of sites: which they are, where their tools run, and their dumps.

use tokio::time::Instant;
use xvault_core::snapshot::Evidence;
use xvault_core::source::{DatabaseCredential, InvalidSettings, SshMode};
use xvault_core::{MysqlSettings, WarningCode, WordpressSettings};

use super::locate::Site;
use super::rows;
use crate::Error;
use crate::database::DatabaseLogin;
use crate::source::mysql::Required;
use crate::source::{Emitter, MysqlSource, Probe, ProbedPath, dump};
use crate::ssh::{Session, SshOptions};
use crate::tool::ToolOptions;
use crate::wordpress::{DbHost, WpConfig};

/// What the server's `sh` tells: whether it has the tools, and where the socket is that PHP and the tools take for `localhost`: where it
/// usually is, where their settings say, and where some distributions put it.
const LOOK: &str = r#"
has() { command -v "$1" >/dev/null 2>&1 || command -v "$2" >/dev/null 2>&1; }
has mariadb-dump mysqldump && has mariadb mysql && echo tools
at() { [ -S "$1" ] && echo "$1" && exit 0; }
for s in /run/mysqld/mysqld.sock /var/run/mysqld/mysqld.sock /var/lib/mysql/mysql.sock /tmp/mysql.sock; do at "$s"; done
for s in $(my_print_defaults client mysqld 2>/dev/null | sed -n 's/^--socket=//p'); do at "$s"; done
at "$(php -r 'echo ini_get("mysqli.default_socket");' 2>/dev/null </dev/null)"
for s in /opt/bitnami/*/tmp/mysql.sock /opt/lampp/var/mysql/mysql.sock /run/mysqld/mysqld10.sock; do at "$s"; done
true"#;

/// More than this is no answer.
const MAX_LOOK_LEN: usize = 64 << 10;

/// The databases of all sites, each once.
#[derive(Default)]
pub(super) struct Databases(Vec<One>);

struct One {
    name: String,
    settings: MysqlSettings,
    source: MysqlSource,
    /// Why sites may mean another database.
    doubts: Vec<String>,
    /// What of their rows lies in other ones.
    lacks: Vec<String>,
    /// What helps where it can't be reached.
    hint: Option<String>,
}

/// What the server has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Around {
    tools: bool,
    socket: Option<String>,
}

impl Databases {
    pub(super) async fn of(
        sites: &[Site],
        session: &Session,
        settings: &WordpressSettings,
        options: &SshOptions,
        tools: &ToolOptions,
    ) -> Result<Self, Error> {
        if !settings.dump_database || sites.is_empty() {
            return Ok(Self::default());
        }
        let around = if settings.ssh_mode == Some(SshMode::Tunnel) {
            Around::default()
        } else {
            look(session).await?
        };
        let mut all: Vec<One> = Vec::new();
        for site in sites {
            let config = site.config()?;
            let server = server(config, settings, &around)?;
            let same_place =
                |one: &&mut One| (&one.settings.host, one.settings.port) == (&server.host, server.port);
            match all.iter_mut().find(|one| one.name == config.name) {
                Some(other) if same_place(&other) => {
                    other.belongs_to(site, config);
                    continue;
                }
                Some(_) => return Err(ambiguous(&config.name)),
                None => {}
            }
            let login = DatabaseLogin {
                password: Some(config.password.clone()),
                ssh: Some(options.clone()),
                tools: tools.clone(),
                network: options.network.clone(),
            };
            let source = MysqlSource::new(&server, login)?;
            let (doubts, lacks) = (Vec::new(), Vec::new());
            let (name, hint) = (config.name.clone(), hint(&config.host, server.ssh_mode, &around));
            let mut one = One { name, settings: server, source, doubts, lacks, hint };
            one.belongs_to(site, config);
            all.push(one);
        }
        let mut all = Self(all);
        sites.iter().for_each(|site| all.look_at_users(site));
        Ok(all)
    }

    /// Tables of users may lie in the database of another site, which is in the backup, too.
    fn look_at_users(&mut self, site: &Site) {
        let lacks =
            rows::of_users(&site.layout.user_tables, |name| self.0.iter().any(|one| one.name == name));
        let own = site.config().ok().and_then(|config| self.0.iter_mut().find(|one| one.name == config.name));
        own.into_iter().for_each(|one| one.lacks.extend(lacks.iter().cloned()));
    }

    /// The directories that the database of `site` names for uploads, as far as it was looked at by now.
    pub(super) fn upload_paths(&self, site: &Site) -> Vec<String> {
        self.0.iter().flat_map(|one| one.source.upload_paths(&site.config_file)).collect()
    }

    /// Every database as found before `end`, with what is worth knowing of it.
    pub(super) async fn probe(&self, end: Instant) -> Vec<(ProbedPath, Vec<String>)> {
        let probes = self.0.iter().map(|one| async {
            match Box::pin(one.source.look(end)).await {
                Ok(Probe { server, notes, paths, .. }) => {
                    let path = one.name.clone();
                    let error = paths.into_iter().find_map(|path| path.error);
                    let found = ProbedPath { path, kind: Some("database"), error };
                    let notes = server.into_iter().chain(notes).chain(one.lacks.iter().cloned());
                    (
                        found,
                        notes.map(|note| format!("database `{}`: {note}", one.name.escape_debug())).collect(),
                    )
                }
                Err(error) => {
                    let error = Some(xvault_core::error::chain(&error));
                    (
                        ProbedPath { path: one.name.clone(), kind: None, error },
                        one.hint.iter().cloned().collect(),
                    )
                }
            }
        });
        futures::future::join_all(probes).await
    }

    /// Dumps all, one after the other.
    pub(super) async fn dump(&self, emitter: &mut Emitter<'_>) -> Result<Vec<Evidence>, Error> {
        if !self.0.is_empty() {
            dump::folder(emitter).await?;
        }
        let mut evidence = Vec::new();
        for one in &self.0 {
            one.hint.iter().for_each(|hint| emitter.control().progress().note(hint));
            evidence.push(one.source.dump_all(emitter).await?);
            for doubt in one.doubts.iter().chain(&one.lacks) {
                emitter.warn(dump::place(&one.name, "sql")?, WarningCode::Other, doubt).await?;
            }
        }
        Ok(evidence)
    }
}

impl One {
    /// A database without the site's tables is not the site's, and would be an empty backup of it.
    fn belongs_to(&mut self, site: &Site, config: &WpConfig) {
        let WpConfig { name, user, host, table_prefix, doubt, .. } = config;
        let table = format!("{table_prefix}options");
        let why = doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default();
        let place = host.to_string();
        let [name, user, place, shown] = [name, user, &place, &table].map(|text| text.escape_debug());
        let reason = format!(
            "the database `{name}` on {place} has no table `{shown}` that `{user}` sees, so it is not the site's{why}"
        );
        self.lacks.extend(site.content.rows.iter().cloned());
        let prefix = config.multisite.unwrap_or(true).then(|| config.table_prefix.clone());
        let required = Required::new(table, prefix, site.config_file.clone(), reason);
        self.source.require(if site.sets_uploads() { required.with_known_uploads() } else { required });
        self.doubts.extend(doubt.as_ref().map(|doubt| {
            format!(
                "the site may have another database than this one: {}, {doubt}; define DB_NAME and DB_HOST in front of that \
                 line, as plain text, or back the database up by a source of type `mysql`",
                site.config_file
            )
        }));
    }
}

async fn look(session: &Session) -> Result<Around, Error> {
    let looked = match session.exec(&["sh", "-c", LOOK]).await {
        Ok(exec) => exec.output(MAX_LOOK_LEN).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok((_, stdout, _)) => Ok(around(&stdout)),
        // There is no plain shell.
        Err(Error::Remote { .. } | Error::Protocol { .. }) => Ok(Around::default()),
        Err(error) => Err(error),
    }
}

fn around(stdout: &[u8]) -> Around {
    let text = String::from_utf8_lossy(stdout);
    Around {
        tools: text.lines().any(|line| line == "tools"),
        socket: text.lines().find(|line| line.starts_with('/')).map(str::to_owned),
    }
}

/// The database of `config`, by the way that `settings` or the server's tools decide.
fn server(config: &WpConfig, settings: &WordpressSettings, around: &Around) -> Result<MysqlSettings, Error> {
    let usual = if around.tools { SshMode::Remote } else { SshMode::Tunnel };
    let mode = settings.ssh_mode.unwrap_or(usual);
    if DatabaseCredential::is_unfit(&config.password) {
        return Err(unfit(
            "DB_PASSWORD has a line break or a NUL in it, which the database's tools can't take",
        ));
    }
    let mut server = MysqlSettings::new(host(&config.host, mode, around)?, &config.user);
    server.port = config.host.port.unwrap_or(server.port);
    server.database = Some(config.name.clone());
    server.use_ssh = true;
    server.ssh_mode = mode;
    server.ssh_host = Some(settings.host.clone());
    server.ssh_port = settings.port;
    server.ssh_username = Some(settings.username.clone());
    server.ssh_use_password = settings.use_password;
    server.ssh_host_key.clone_from(&settings.host_key);
    let validated = xvault_core::SourceSettings::Mysql(server.clone()).validate();
    validated
        .map_err(|error| unfit(&format!("the database that it names can't be dumped: {}", error.reason)))?;
    Ok(server)
}

fn unfit(reason: &str) -> Error {
    Error::SiteConfig { file: "wp-config.php".to_owned(), reason: reason.to_owned() }
}

/// `localhost` is PHP's word for a socket, which grants may depend on.
fn host(host: &DbHost, mode: SshMode, around: &Around) -> Result<String, Error> {
    match (&host.socket, mode) {
        (Some(socket), SshMode::Remote) => Ok(socket.clone()),
        (Some(socket), SshMode::Tunnel) => {
            let reason = format!(
                "the database is reached by the socket `{}`, where no tunnel leads to: install mariadb-client on the SSH \
                 server, and leave `ssh_mode` out",
                socket.escape_debug()
            );
            Err(Error::Tool { tool: "mariadb-dump or mysqldump".to_owned(), reason })
        }
        (None, SshMode::Remote) if host.is_usual_socket() => {
            Ok(around.socket.clone().unwrap_or_else(|| host.host.clone()))
        }
        (None, _) => Ok(host.host.clone()),
    }
}

/// Where `localhost` had to be taken for an address.
fn hint(host: &DbHost, mode: SshMode, around: &Around) -> Option<String> {
    let is_guess =
        mode == SshMode::Remote && host.is_usual_socket() && around.socket.is_none() && around.tools;
    is_guess.then(|| {
        format!(
            "DB_HOST is `{host}`, and no socket was found where PHP has it, so that is reached over TCP: where the server has its \
             socket elsewhere, name it in wp-config.php, as `localhost:/path/of/mysqld.sock`"
        )
    })
}

fn ambiguous(name: &str) -> Error {
    let reason = format!(
        "two sites have databases of the same name, `{}`, on different servers: make a source of each",
        name.escape_debug()
    );
    Error::Settings(InvalidSettings { field: "paths", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(db_host: &str) -> WpConfig {
        let source = format!(
            "<?php define('DB_NAME','shop'); define('DB_USER','u'); define('DB_PASSWORD',''); \
             define('DB_HOST','{db_host}'); $table_prefix = 'wp_';"
        );
        WpConfig::read(source.as_bytes(), b"/w/wp-config.php", b"/w").unwrap()
    }

    fn place(db_host: &str, mode: Option<SshMode>, around: &Around) -> (String, u16, SshMode) {
        let mut settings = WordpressSettings::new("web", "www", vec!["/w".into()]);
        settings.ssh_mode = mode;
        let server = server(&config(db_host), &settings, around).unwrap();
        assert_eq!((server.database.as_deref(), server.ssh_host.as_deref()), (Some("shop"), Some("web")));
        (server.host, server.port, server.ssh_mode)
    }

    #[test]
    fn the_way_depends_on_what_the_server_has_unless_somebody_says() {
        let bare = Around::default();
        let full = around(b"tools\n/run/mysqld/mysqld.sock\n");
        assert_eq!(full, Around { tools: true, socket: Some("/run/mysqld/mysqld.sock".into()) });
        let (remote, tunnel) = (SshMode::Remote, SshMode::Tunnel);
        assert_eq!(place("localhost", None, &full), ("/run/mysqld/mysqld.sock".into(), 3306, remote));
        assert_eq!(place("localhost", None, &bare), ("localhost".into(), 3306, tunnel));
        assert_eq!(place("localhost", Some(tunnel), &full), ("localhost".into(), 3306, tunnel));
        assert_eq!(place("db:3307", None, &full), ("db".into(), 3307, remote));
        assert_eq!(place("x:/s/my.sock", None, &full), ("/s/my.sock".into(), 3306, remote));
        let settings = WordpressSettings::new("web", "www", vec!["/w".into()]);
        let error = server(&config("x:/s/my.sock"), &settings, &bare).unwrap_err().to_string();
        assert!(error.contains("`/s/my.sock`") && error.contains("install mariadb-client"), "{error}");
    }
}
