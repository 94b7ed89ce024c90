//! While sources of every kind are backed up, in every way there is, their passwords are looked for all the time: in command lines and
//! environments of all processes of this machine, which is worker, database server and SSH server in one, in files of memory that others may
//! read, in logs, in Redis and in the hub's database. The password of a site's database, which nobody types, is looked for as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{FtpKind, Ftpd, Mariadb, Postgres, Wordpress, tools, trees};

use super::{Secret, contains};
use crate::fleet::{Fleet, Plan, text};
use crate::wait::until;

const POSTGRES_PASSWORD: &str = "planted:in\\postgres \u{e9}";
const MYSQL_PASSWORD: &str = "planted#in\"mysql \u{e9}";
const CANARY: &str = "a-canary-that-is-planted-on-purpose";

/// What the looks at processes must have come across, or they were too few: tools, and the script that runs them on the SSH server.
const TOOLS: [&str; 6] = ["pg_dump", "mariadb-dump", "psql", "mariadb", "sshd", "mktemp /dev/shm"];

/// What the looks brought so far.
#[derive(Default)]
struct Sightings {
    /// Place and secret.
    found: Mutex<BTreeSet<(&'static str, String)>>,
    looks: Mutex<BTreeMap<&'static str, u32>>,
    tools: Mutex<BTreeSet<&'static str>>,
}

impl Sightings {
    fn look(&self, place: &'static str, secrets: &[Secret], bytes: &[u8]) {
        *self.looks.lock().unwrap().entry(place).or_default() += 1;
        let text = String::from_utf8_lossy(bytes);
        for secret in secrets.iter().filter(|secret| secret.is_in_text(&text)) {
            self.found.lock().unwrap().insert((place, secret.what.clone()));
        }
    }

    fn look_at_processes(&self, secrets: &[Secret]) {
        let [lines, environments] = ["cmdline", "environ"].map(of_all_processes);
        let new = TOOLS.iter().filter(|tool| contains(&lines, tool.as_bytes()));
        self.tools.lock().unwrap().extend(new);
        self.look("command lines", secrets, &lines);
        self.look("environments", secrets, &environments);
        self.look("files of memory", secrets, &in_memory(|mode| mode & 0o077 != 0));
    }

    fn look_at_what_is_kept(&self, fleet: &Fleet, secrets: &[Secret]) {
        self.look("log of the hub", secrets, fleet.hubs[0].program.log().as_bytes());
        self.look("log of the worker", secrets, fleet.workers[0].program.log().as_bytes());
        self.look("Redis", secrets, &fleet.redis.dump_everything());
        self.look("the hub's database", secrets, &Postgres::shared().dump(&fleet.database));
    }

    fn found(&self) -> Vec<(&'static str, String)> {
        self.found.lock().unwrap().iter().cloned().collect()
    }
}

/// That file of all processes, one after the other.
fn of_all_processes(file: &str) -> Vec<u8> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let texts = processes.filter_map(|process| fs::read(process.path().join(file)).ok());
    texts.collect::<Vec<_>>().join(&b'\n')
}

/// What lies in `/dev/shm` in files whose permissions are such.
fn in_memory(are: impl Fn(u32) -> bool) -> Vec<u8> {
    let files = fs::read_dir("/dev/shm").unwrap().flatten();
    let open = files
        .filter(|file| file.metadata().is_ok_and(|meta| meta.is_file() && are(meta.permissions().mode())));
    open.filter_map(|file| fs::read(file.path()).ok()).collect::<Vec<_>>().join(&b'\n')
}

/// Looks everywhere again and again while `act` runs.
fn watching<T>(fleet: &Fleet, secrets: &[Secret], act: impl FnOnce(&Sightings) -> T) -> T {
    let (sightings, stop) = (Sightings::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sightings.look_at_processes(secrets);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sightings.look_at_what_is_kept(fleet, secrets);
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&sightings)));
        stop.store(true, Ordering::Relaxed);
        done
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Servers with something to back up.
struct Servers {
    ftpd: Ftpd,
    postgres: (&'static Postgres, String),
    mysql: (&'static Mariadb, String),
    wordpress: Wordpress,
}

impl Servers {
    fn start(fleet: &Fleet) -> Self {
        let ftpd = Ftpd::builder(FtpKind::Proftpd).self_signed().start();
        trees::small_files(&ftpd.home.join("www"), 100, 2000);
        ftpd.give(&ftpd.home.join("www"));
        let (postgres, mysql) = (Postgres::shared(), Mariadb::shared());
        let (url, name) = (postgres.create_database(), mysql.create_database());
        let role = format!("CREATE ROLE planted SUPERUSER LOGIN PASSWORD '{POSTGRES_PASSWORD}';");
        let _ = postgres.psql(&url, &format!("{role}\n{POSTGRES_SAMPLE}"));
        let account =
            format!("CREATE USER planted IDENTIFIED BY '{MYSQL_PASSWORD}'; GRANT ALL ON *.* TO planted;");
        let _ = mysql.sql(&name, &format!("{account}\n{MARIADB_SAMPLE}"));
        let database = url.rsplit('/').next().unwrap().to_owned();
        let wordpress = Wordpress::install(mysql, &fleet.site.sshd.home.join("html"));
        wordpress.give_to(fleet.site.sshd.ids());
        Self { ftpd, postgres: (postgres, database), mysql: (mysql, name), wordpress }
    }

    fn secrets(&self, fleet: &Fleet) -> Vec<Secret> {
        vec![
            Secret::new("the password of PostgreSQL", POSTGRES_PASSWORD),
            Secret::new("the password of MySQL", MYSQL_PASSWORD),
            Secret::new("the password of FTP", &self.ftpd.password),
            // Without its quotes, which PHP escapes in a way of its own.
            Secret::new("the password in wp-config.php", self.wordpress.password.rsplit(' ').next().unwrap()),
            Secret::new("the password of SSH", &fleet.site.sshd.password),
            Secret::new("canary", CANARY),
        ]
    }

    /// Type, settings and credential of a source of every kind, in every way.
    fn sources(&self, fleet: &Fleet) -> Vec<(&'static str, Value, String)> {
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

/// Tests each source, and backs it up.
fn full_run(fleet: &Fleet, sources: &[(&str, Value, String)]) {
    let saved = sources.iter().enumerate().map(|(number, (kind, config, secret))| {
        let body = json!({
            "tenant_id": fleet.tenant, "type": kind, "name": format!("{kind} {number}"),
            "credential_id": fleet.new_credential(secret), "config": config,
        });
        text(&fleet.api.post("/api/v1/sources", &body)["id"])
    });
    let saved: Vec<String> = saved.collect();
    for source in &saved {
        let test = fleet.api.post(&format!("/api/v1/sources/{source}/test?wait_seconds=30"), &json!({}));
        assert_eq!(test["probe"]["logged_in"], true, "{test}");
    }
    let jobs: Vec<String> = saved.iter().map(|source| fleet.backup(source)).collect();
    for job in &jobs {
        let _ = fleet.completed(job);
    }
}

/// Puts the canary where the looks must find it, if they find anything.
fn plant(fleet: &Fleet) -> Vec<(&'static str, String)> {
    for log in ["hub-0.log", "worker-0.log"] {
        let mut log = fs::File::options().append(true).open(fleet.dir.path().join(log)).unwrap();
        writeln!(log, "{CANARY}").unwrap();
    }
    let _ =
        Postgres::shared().psql(&fleet.database, &format!("CREATE TABLE canary AS SELECT '{CANARY}' AS a"));
    let _ = fleet.redis.cli(&["SET", "canary", CANARY]);
    let shared =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in("/dev/shm");
    let mut shared = shared.unwrap();
    write!(shared, "{CANARY}").unwrap();
    // For no longer than a tool takes that asks a server something.
    let shown = tools::command("sleep", ["0.1"]).env("CANARY", CANARY).status().unwrap();
    let said = tools::command("sh", ["-c", "sleep 0.1", CANARY]).status().unwrap();
    assert!(shown.success() && said.success());
    let places = [
        "Redis",
        "command lines",
        "environments",
        "files of memory",
        "log of the hub",
        "log of the worker",
        "the hub's database",
    ];
    places.map(|place| (place, "canary".to_owned())).to_vec()
}

#[test]
fn no_password_of_a_source_shows_at_any_moment_of_a_full_run() {
    let plan = Plan { concurrency: 3, log_filter: "debug", ..Plan::default() };
    let fleet = Fleet::start(&plan);
    let servers = Servers::start(&fleet);
    let (secrets, sources) = (servers.secrets(&fleet), servers.sources(&fleet));
    assert_eq!(sources.len(), 11);
    watching(&fleet, &secrets, |sightings| {
        full_run(&fleet, &sources);
        assert_eq!(sightings.found(), []);
        let left = in_memory(|_| true);
        let own = &secrets.iter().find(|secret| secret.what.ends_with("wp-config.php")).unwrap();
        assert!(!own.is_in(&left), "a file with a password was left in memory");
        let tools = sightings.tools.lock().unwrap().clone();
        assert_eq!(tools, BTreeSet::from(TOOLS));
        let looks = sightings.looks.lock().unwrap().clone();
        assert!(looks["command lines"] >= 40 && looks["the hub's database"] >= 5, "{looks:?}");
        eprintln!("looks: {looks:?}");
        let planted = plant(&fleet);
        until(60, "the canary is found wherever it was planted", || sightings.found() == planted);
    });
}
