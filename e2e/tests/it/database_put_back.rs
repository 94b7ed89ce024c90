//! The hub's database is lost and put back from an older copy. What was on record since is somebody's last copy all the same.

use std::fs;
use std::path::{Path, PathBuf};

use xvault_core::snapshot::ARTIFACT_NAME;
use xvault_testkit::Postgres;

use crate::database;
use crate::fleet::{Fleet, Plan, SOON};
use crate::seed_flow::{opens_by_hand, tenant_identity};
use crate::wait::until;

/// Long enough for a hub that is started again, on a busy machine.
const LEASE: u64 = 30;

#[test]
fn on_postgres() {
    costs_no_snapshot(&Plan { lease_secs: LEASE, ..Plan::default() }, |url| {
        Postgres::shared().create_database_from(url)
    });
}

#[test]
fn on_sqlite() {
    costs_no_snapshot(&Plan { lease_secs: LEASE, sqlite: true, ..Plan::default() }, |url| {
        let file = Path::new(url.trim_start_matches("sqlite:"));
        let copy = file.with_file_name("copy.db");
        for ending in ["", "-wal"] {
            let from = PathBuf::from(format!("{}{ending}", file.display()));
            if from.exists() {
                fs::copy(from, format!("{}{ending}", copy.display())).unwrap();
            }
        }
        format!("sqlite:{}", copy.display())
    });
}

/// `copy` gives the address of a copy of a database that nobody uses.
fn costs_no_snapshot(plan: &Plan, copy: impl FnOnce(&str) -> String) {
    let mut fleet = Fleet::start(plan);
    let (source, job) = fleet.backup_in_the_middle();
    fleet.hubs[0].program.kill();
    let older = copy(&fleet.database);
    fleet.hubs[0].start_again();
    fleet.until_ready();
    fleet.site.open_tap();
    let first = fleet.completed(&job);
    let _ = fleet.only_snapshot(&source);

    fleet.database = older;
    let database = fleet.database.clone();
    fleet.hubs[0].start_on(&database);
    fleet.until_ready();
    assert_eq!(fleet.snapshots(&source).len(), 0);
    assert_ne!(fleet.job(&job)["status"], "completed");
    // For this database the attempt has lost its lease: the hub lets it be made again, and calls its snapshot superseded.
    let second = fleet.completed(&job);
    assert_eq!(second["attempt"], 2, "{second}");
    assert_ne!(second["snapshot_id"], first["snapshot_id"]);

    // A worker asks when it comes up, and then every hour.
    fleet.workers[0].start_again();
    let named = "snapshots that the hub does not have on record lie in the store; they stay";
    until(SOON, "the worker has asked", || {
        let log = fleet.workers[0].program.log();
        assert!(!log.contains("removed snapshots of attempts that did not count"), "{log}");
        let line = log.lines().find(|line| line.contains(named)).unwrap_or_default().to_owned();
        line.contains("unknown=1") && line.contains(first["snapshot_id"].as_str().unwrap())
    });
    let places = fleet.on_disk(&source);
    assert_eq!(places.len(), 2, "{places:?}");
    let identity = tenant_identity(&database, &fleet.secrets.kek);
    for place in places {
        opens_by_hand(&place.join(ARTIFACT_NAME), &identity, &fleet.site.sshd.home.join("busy"));
    }
    assert_eq!(database::number(&database, "SELECT CAST(COUNT(*) AS BIGINT) FROM snapshots"), 1);
}
