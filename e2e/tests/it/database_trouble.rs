//! Databases whose backups are called off: the job says so, and there is no snapshot. Those that break off are told of in `cut`.

use serde_json::{Value, json};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{FaultProxy, Mariadb, Postgres};

use crate::fleet::{Fleet, Plan, SOON};
use crate::wait::eventually;

/// Logins and questions pass, a dump does not.
const LET_THROUGH: u64 = 600_000;

/// A database of each kind behind a line that can be cut.
struct Shops {
    fleet: Fleet,
    lines: [FaultProxy; 2],
    sources: [String; 2],
    /// Their names: of the one in PostgreSQL, and of the one in MariaDB.
    databases: [String; 2],
}

impl Shops {
    fn open() -> Self {
        let (postgres, mysql) = (Postgres::shared(), Mariadb::shared());
        let (url, name) = (postgres.create_database(), mysql.create_database());
        let _ = postgres.psql(&url, POSTGRES_SAMPLE);
        let _ = mysql.sql(&name, MARIADB_SAMPLE);
        let fleet = Fleet::start(&Plan::default());
        let lines = [postgres.port, mysql.port].map(FaultProxy::start);
        let settings = |line: &FaultProxy, user: &str, database: &str| json!({"host": "127.0.0.1", "port": line.port, "username": user, "database": database, "tls_mode": "disable"});
        let database = url.rsplit('/').next().unwrap();
        let sources = [
            fleet.source_of("postgres", postgres.password(), &settings(&lines[0], "postgres", database)),
            fleet.source_of("mysql", &mysql.password, &settings(&lines[1], Mariadb::USER, &name)),
        ];
        let databases = [database.to_owned(), name];
        Self { fleet, lines, sources, databases }
    }

    fn ends(&self, job: &str) -> Value {
        eventually(SOON, "the job has ended", || {
            let job = self.fleet.job(job);
            ["completed", "failed", "canceled"].contains(&job["status"].as_str()?).then_some(job)
        })
    }

    /// Neither on record nor on the disk.
    fn has_no_snapshot(&self, source: &str) {
        assert!(self.fleet.snapshots(source).is_empty() && self.fleet.on_disk(source).is_empty());
        assert!(self.fleet.workers[0].stagings().is_empty(), "{:?}", self.fleet.workers[0].stagings());
    }
}

#[test]
fn a_backup_that_is_called_off_ends_its_dump_on_both_ends() {
    let shops = Shops::open();
    let [postgres, mysql] = &shops.databases;
    let postgres = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{postgres}' AND application_name = 'xvault'"
    );
    let mysql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{mysql}'");
    let seen: [&dyn Fn() -> String; 2] =
        [&|| Postgres::shared().psql("postgres", &postgres), &|| Mariadb::shared().sql("", &mysql)];
    for ((line, source), sessions) in shops.lines.iter().zip(&shops.sources).zip(seen) {
        line.stall_after(LET_THROUGH);
        let job = shops.fleet.backup(source);
        eventually(SOON, "a dump in its middle", || {
            (line.bytes_to_client() >= LET_THROUGH && sessions() != "0\n").then_some(())
        });
        let _ = shops.fleet.api.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({}));
        assert_eq!(shops.ends(&job)["status"], "canceled");
        eventually(SOON, "no session of the dump", || (sessions() == "0\n").then_some(()));
        shops.has_no_snapshot(source);
    }
}
