//! The hub's database is lost and put back from an older copy. What was on record since is somebody's last copy all the same.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use xvault_core::snapshot::ARTIFACT_NAME;
use xvault_testkit::{MtimeMatch, Postgres, TreeOptions, assert_same_tree};

use crate::database;
use crate::documented::Shell;
use crate::fleet::{Fleet, Plan, SOON, text};
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
    // Its worker may still come with it, or the hub have it made anew: until then it is nobody's.
    let dir = tempfile::tempdir().unwrap();
    let shell = shell(&fleet, dir.path());
    let too_soon = shell.output(REBUILD);
    let told = String::from_utf8_lossy(&too_soon.stderr).into_owned();
    assert_eq!(too_soon.status.code(), Some(1), "{told}");
    assert!(told.contains(&job) && told.contains(first["snapshot_id"].as_str().unwrap()), "{told}");
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

    // And with that it is on record, as what was made since the copy.
    let told = shell.run(REBUILD);
    assert!(
        told.contains("1 snapshots, 0 sources and 0 tenants were added, 1 snapshots were on record"),
        "{told}"
    );
    for made in [&first, &second] {
        let id = text(&made["snapshot_id"]);
        let restored = fleet.site.sshd.home.join(format!("from-{id}"));
        let body = json!({ "target": { "type": "server", "path": restored } });
        let restore = fleet.api.post(&format!("/api/v1/snapshots/{id}/restore"), &body);
        fleet.completed(&text(&restore["id"]));
        let options = TreeOptions { mtime: MtimeMatch::WholeSeconds, ..TreeOptions::default() };
        let tree = fleet.site.sshd.home.join("busy");
        assert_same_tree(&tree, &restored.join(tree.strip_prefix("/").unwrap()), &options);
    }
}

/// As `docs/disaster.md` says for what was made since the copy.
const REBUILD: &str = "xvault-hub rebuild --store \"$STORE\"";

/// A shell where the variables of the hub are set, and the worker's directory.
fn shell(fleet: &Fleet, dir: &Path) -> Shell {
    Shell::new(dir)
        .with("DATABASE_URL", &fleet.database)
        .with("HUB_ENCRYPTION_KEK", fleet.secrets.kek_text())
        .with("STORE", fleet.workers[0].storage.to_str().unwrap())
}
