//! Sources of every kind that takes a while, each behind a line of its own.

use serde_json::{Value, json};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{FaultProxy, FtpFront, FtpKind, Ftpd, Mariadb, Postgres, Wordpress, trees};

use crate::fleet::{Fleet, Plan};

/// Which of two lines breaks: the worker's, or that between the SSH server and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Near,
    Far,
}

/// How a database is reached (directly where there is no mode of SSH), and what breaks.
const WAYS: [(Option<&str>, End); 5] = [
    (None, End::Far),
    (Some("tunnel"), End::Near),
    (Some("tunnel"), End::Far),
    (Some("remote"), End::Near),
    (Some("remote"), End::Far),
];

/// A source, and lines to it, any of which may be the one that carries the dump.
pub(super) struct Cut {
    pub(super) what: String,
    pub(super) source: String,
    pub(super) lines: Vec<FaultProxy>,
    /// What is said when they break.
    pub(super) told: &'static str,
}

pub(super) struct Scene {
    pub(super) cuts: Vec<Cut>,
    pub(super) fleet: Fleet,
    /// Databases of PostgreSQL, of MariaDB and of a site.
    databases: [String; 3],
    _ftp: (Ftpd, FaultProxy),
}

impl Scene {
    pub(super) fn start() -> Self {
        // All at once, and each for once: that broken lines are tried again is told elsewhere.
        let once = vec![("HUB_MAX_ATTEMPTS", "1".to_owned())];
        let fleet = Fleet::start(&Plan { concurrency: 16, hub_settings: once, ..Plan::default() });
        let (postgres, mysql) = (Postgres::shared(), Mariadb::shared());
        let (url, name) = (postgres.create_database(), mysql.create_database());
        let database = url.rsplit('/').next().unwrap().to_owned();
        let _ = postgres.psql(&url, POSTGRES_SAMPLE);
        let _ = mysql.sql(&name, MARIADB_SAMPLE);
        // Packed, a dump would pass.
        let login = json!({"username": "postgres", "database": database, "format": "plain"});
        let mut cuts = of_database(&fleet, "postgres", &login, (postgres.port, postgres.password()));
        let login = json!({"username": Mariadb::USER, "database": name});
        cuts.extend(of_database(&fleet, "mysql", &login, (mysql.port, &mysql.password)));
        let (sites, site) = of_wordpress(&fleet, mysql);
        cuts.extend(sites);
        let (ftp, ftpd) = of_ftp(&fleet);
        cuts.push(ftp);
        Self { cuts, fleet, databases: [database, name, site], _ftp: ftpd }
    }

    /// How much there is of each: tools of the worker, processes of the SSH server's account, and sessions in each database.
    pub(super) fn running(&self) -> Vec<(&'static str, usize)> {
        let [postgres, mysql, site] = &self.databases;
        let of_postgres = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{postgres}'");
        let of_mysql = |name: &str| {
            let sessions = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{name}'");
            number(&Mariadb::shared().sql("", &sessions))
        };
        vec![
            ("tools of the worker", self.fleet.workers[0].program.children().len()),
            ("processes of the account", self.fleet.site.sshd.processes().len()),
            ("sessions of PostgreSQL", number(&Postgres::shared().psql("postgres", &of_postgres))),
            ("sessions of MariaDB", of_mysql(mysql)),
            ("sessions of the site's database", of_mysql(site)),
        ]
    }
}

fn number(text: &str) -> usize {
    text.trim().parse().unwrap()
}

/// Who misses the line says so: the tool, unless it is the tool that is missed.
fn told(kind: &str, mode: Option<&str>, end: End) -> &'static str {
    match (kind, mode, end) {
        (_, Some("remote"), End::Near) => "it broke off",
        ("postgres", ..) => "server closed the connection unexpectedly",
        _ => "Lost connection to server during query",
    }
}

/// A source of its own for each way.
fn of_database(fleet: &Fleet, kind: &str, login: &Value, (port, password): (u16, &str)) -> Vec<Cut> {
    let sshd = &fleet.site.sshd;
    let each = WAYS.iter().map(|(mode, end)| {
        let line = FaultProxy::start(if *end == End::Near { sshd.port } else { port });
        let [near, far] = match end {
            End::Near => [line.port, port],
            End::Far => [sshd.port, line.port],
        };
        let mut config = login.clone();
        merge(&mut config, json!({"host": "127.0.0.1", "port": far, "tls_mode": "disable"}));
        let mut credential = password.to_owned();
        if let Some(mode) = mode {
            let hop = json!({
                "use_ssh": true, "ssh_mode": mode, "ssh_host": "127.0.0.1", "ssh_port": near, "ssh_username": sshd.user,
                "ssh_use_password": true, "ssh_host_key": sshd.host_key.fingerprint,
            });
            merge(&mut config, hop);
            credential = json!({"password": password, "ssh": sshd.password}).to_string();
        }
        let what = format!("{kind} {mode:?} {end:?}");
        Cut { source: fleet.source_of(kind, &credential, &config), what, lines: vec![line], told: told(kind, *mode, *end) }
    });
    each.collect()
}

/// One site, whose database is larger than a site's usually is. Gives its name, too.
fn of_wordpress(fleet: &Fleet, server: &Mariadb) -> (Vec<Cut>, String) {
    let sshd = &fleet.site.sshd;
    let site = Wordpress::install(server, &sshd.home.join("html"));
    site.give_to(sshd.ids());
    let large = "CREATE TABLE wp_large (body LONGTEXT) SELECT REPEAT('xv', 100000) AS body FROM seq_1_to_15";
    let _ = server.sql(&site.database, large);
    let each = ["tunnel", "remote"].map(|mode| {
        let line = FaultProxy::start(sshd.port);
        let config = json!({
            "host": "127.0.0.1", "port": line.port, "username": sshd.user, "use_password": true, "paths": [site.root],
            "host_key": sshd.host_key.fingerprint, "ssh_mode": mode,
            "excludes": ["/wp-admin/", "/wp-includes/", "/wp-content/themes/"],
        });
        let source = fleet.source_of("wordpress", &sshd.password, &config);
        Cut { what: format!("wordpress {mode}"), source, lines: vec![line], told: told("mysql", Some(mode), End::Near) }
    });
    (each.into(), site.database)
}

/// Lines of data; control connections hold.
fn of_ftp(fleet: &Fleet) -> (Cut, (Ftpd, FaultProxy)) {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).self_signed().passive_ports(8).start();
    std::fs::create_dir(ftpd.home.join("www")).unwrap();
    trees::random_file(&ftpd.home.join("www/large"), 4 << 20, 3);
    ftpd.give(&ftpd.home);
    let FtpFront { control, data } = FtpFront::of(&ftpd);
    let config = json!({
        "host": FtpFront::ADDRESS, "port": control.port, "username": ftpd.user, "paths": ["/www"],
        "tls_fingerprint": ftpd.fingerprint,
    });
    let source = fleet.source_of("ftp", &ftpd.password, &config);
    (
        Cut { what: "ftp".to_owned(), source, lines: data, told: "no data connection was made" },
        (ftpd, control),
    )
}

fn merge(config: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("no settings: {more}") };
    config.as_object_mut().unwrap().extend(more);
}
