//! What there is to back up, and to give back.

use serde_json::{Value, json};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{FtpKind, Ftpd, Mariadb, Postgres, Wordpress, trees};

use super::super::Secret;
use super::CANARY;
use crate::fleet::Fleet;

/// However it is written, its last word stays as it is.
const POSTGRES_PASSWORD: &str = "in:\\postgres' \u{e9} 0bd1c47a93e6f258";
const MYSQL_PASSWORD: &str = "in#\"mysql' \u{e9} 7e20f9d5b1a8c364";

/// Type, settings and credential of a source.
pub(super) type Wanted = (&'static str, Value, String);

/// Servers with something to back up.
pub(super) struct Servers {
    ftpd: Ftpd,
    postgres: (&'static Postgres, String),
    mysql: (&'static Mariadb, String),
    wordpress: Wordpress,
}

impl Servers {
    pub(super) fn start(fleet: &Fleet) -> Self {
        let ftpd = Ftpd::builder(FtpKind::Proftpd).self_signed().start();
        trees::small_files(&ftpd.home.join("www"), 100, 2000);
        ftpd.give(&ftpd.home.join("www"));
        let (postgres, mysql) = (Postgres::shared(), Mariadb::shared());
        let (url, name) = (postgres.create_database(), mysql.create_database());
        let role = format!("CREATE ROLE planted SUPERUSER LOGIN PASSWORD '{}';", doubled(POSTGRES_PASSWORD));
        let _ = postgres.psql(&url, &format!("{role}\n{POSTGRES_SAMPLE}"));
        let account = format!(
            "CREATE USER planted IDENTIFIED BY '{}'; GRANT ALL ON *.* TO planted;",
            doubled(MYSQL_PASSWORD)
        );
        let _ = mysql.sql(&name, &format!("{account}\n{MARIADB_SAMPLE}"));
        let database = url.rsplit('/').next().unwrap().to_owned();
        let wordpress = Wordpress::install(mysql, &fleet.site.sshd.home.join("html"));
        wordpress.give_to(fleet.site.sshd.ids());
        Self { ftpd, postgres: (postgres, database), mysql: (mysql, name), wordpress }
    }

    /// The dump of a source's database in its snapshots.
    pub(super) fn dump(&self, kind: &str) -> Option<String> {
        match kind {
            "postgres" => Some(format!("{}.dump", self.postgres.1)),
            "mysql" => Some(format!("{}.sql", self.mysql.1)),
            "wordpress" => Some(format!("{}.sql", self.wordpress.database)),
            _ => None,
        }
    }

    pub(super) fn secrets(&self, fleet: &Fleet) -> Vec<Secret> {
        let mut secrets = vec![
            Secret::new("the password of PostgreSQL", last_word(POSTGRES_PASSWORD)),
            Secret::new("the password of MySQL", last_word(MYSQL_PASSWORD)),
            Secret::new("the password of FTP", &self.ftpd.password),
            Secret::new("the password in wp-config.php", last_word(&self.wordpress.password)),
            Secret::new("the password of SSH", &fleet.site.sshd.password),
            Secret::new("canary", CANARY),
        ];
        let key = private_key(fleet);
        // The first line is that of every such key, and the last one is short.
        let lines = key.lines().skip(2).filter(|line| line.len() == 70);
        secrets.extend(lines.map(|line| Secret::new("the private key for SSH", line)));
        secrets
    }

    /// A source of every kind, in every way.
    pub(super) fn sources(&self, fleet: &Fleet) -> Vec<Wanted> {
        let (sshd, tree) = (&fleet.site.sshd, fleet.site.small_tree("planted"));
        let ftp = json!({
            "host": "127.0.0.1", "port": self.ftpd.port, "username": self.ftpd.user, "paths": ["/www"],
            "tls_fingerprint": self.ftpd.fingerprint,
        });
        let mut sources = vec![("ftp", ftp, self.ftpd.password.clone())];
        let key = private_key(fleet);
        let login = |by_key: bool| if by_key { key.clone() } else { sshd.password.clone() };
        for (kind, by_key) in [("sftp", false), ("ssh", false), ("sftp", true)] {
            let mut config = fleet.site.direct(&tree);
            config["use_password"] = json!(!by_key);
            sources.push((kind, config, login(by_key)));
        }
        for (mode, by_key) in [("tunnel", true), ("remote", false)] {
            let mut config = fleet.site.direct(&self.wordpress.root);
            config["use_password"] = json!(!by_key);
            config["ssh_mode"] = json!(mode);
            config["excludes"] = json!(["/wp-admin/", "/wp-includes/", "/wp-content/themes/"]);
            sources.push(("wordpress", config, login(by_key)));
        }
        let (postgres, mysql) = (&self.postgres, &self.mysql);
        for (kind, port, database, password) in [
            ("postgres", postgres.0.port, &postgres.1, POSTGRES_PASSWORD),
            ("mysql", mysql.0.port, &mysql.1, MYSQL_PASSWORD),
        ] {
            let direct =
                json!({"host": "127.0.0.1", "port": port, "username": "planted", "database": database});
            for (mode, by_key) in [("tunnel", false), ("remote", true)] {
                let mut config = direct.clone();
                let hop = json!({
                    "use_ssh": true, "ssh_mode": mode, "ssh_host": "127.0.0.1", "ssh_port": sshd.port,
                    "ssh_username": sshd.user, "ssh_use_password": !by_key, "ssh_host_key": sshd.host_key.fingerprint,
                });
                config.as_object_mut().unwrap().extend(hop.as_object().unwrap().clone());
                sources.push((kind, config, json!({"password": password, "ssh": login(by_key)}).to_string()));
            }
            sources.push((kind, direct, password.to_owned()));
        }
        sources
    }
}

/// As people save it: the whole file.
fn private_key(fleet: &Fleet) -> String {
    std::fs::read_to_string(&fleet.site.sshd.key_path).unwrap()
}

fn last_word(password: &str) -> &str {
    password.rsplit(' ').next().unwrap()
}

/// With its quotes as SQL has them.
fn doubled(password: &str) -> String {
    password.replace('\'', "''")
}
