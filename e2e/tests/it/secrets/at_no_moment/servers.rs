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

    pub(super) fn secrets(&self, fleet: &Fleet) -> Vec<Secret> {
        vec![
            Secret::new("the password of PostgreSQL", last_word(POSTGRES_PASSWORD)),
            Secret::new("the password of MySQL", last_word(MYSQL_PASSWORD)),
            Secret::new("the password of FTP", &self.ftpd.password),
            Secret::new("the password in wp-config.php", last_word(&self.wordpress.password)),
            Secret::new("the password of SSH", &fleet.site.sshd.password),
            Secret::new("canary", CANARY),
        ]
    }

    /// A source of every kind, in every way.
    pub(super) fn sources(&self, fleet: &Fleet) -> Vec<Wanted> {
        let (sshd, tree) = (&fleet.site.sshd, fleet.site.small_tree("planted"));
        let ftp = json!({
            "host": "127.0.0.1", "port": self.ftpd.port, "username": self.ftpd.user, "paths": ["/www"],
            "tls_fingerprint": self.ftpd.fingerprint,
        });
        let mut sources = vec![("ftp", ftp, self.ftpd.password.clone())];
        for kind in ["sftp", "ssh"] {
            sources.push((kind, fleet.site.direct(&tree), sshd.password.clone()));
        }
        for mode in ["tunnel", "remote"] {
            let mut config = fleet.site.direct(&self.wordpress.root);
            config["ssh_mode"] = json!(mode);
            config["excludes"] = json!(["/wp-admin/", "/wp-includes/", "/wp-content/themes/"]);
            sources.push(("wordpress", config, sshd.password.clone()));
        }
        let (postgres, mysql) = (&self.postgres, &self.mysql);
        for (kind, port, database, password) in [
            ("postgres", postgres.0.port, &postgres.1, POSTGRES_PASSWORD),
            ("mysql", mysql.0.port, &mysql.1, MYSQL_PASSWORD),
        ] {
            let direct =
                json!({"host": "127.0.0.1", "port": port, "username": "planted", "database": database});
            for mode in ["tunnel", "remote"] {
                let mut config = direct.clone();
                let hop = json!({
                    "use_ssh": true, "ssh_mode": mode, "ssh_host": "127.0.0.1", "ssh_port": sshd.port,
                    "ssh_username": sshd.user, "ssh_use_password": true, "ssh_host_key": sshd.host_key.fingerprint,
                });
                config.as_object_mut().unwrap().extend(hop.as_object().unwrap().clone());
                sources.push((kind, config, json!({"password": password, "ssh": sshd.password}).to_string()));
            }
            sources.push((kind, direct, password.to_owned()));
        }
        sources
    }
}

fn last_word(password: &str) -> &str {
    password.rsplit(' ').next().unwrap()
}

/// With its quotes as SQL has them.
fn doubled(password: &str) -> String {
    password.replace('\'', "''")
}
