//! PostgreSQL goes away under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use xvault_testkit::Postgres;

use crate::database;
use crate::fleet::{Fleet, Plan, text};

/// Asks for backups of `source` until `stop`, and until two were taken; gives the jobs.
fn load(fleet: &Fleet, source: &str, stop: &AtomicBool) -> Vec<String> {
    let (mut taken, begun) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) || taken.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(240), "the backups of {source} do not end");
        let answer =
            fleet.try_backup(&fleet.api, source).expect("the hub answers whatever its database does");
        match (answer.status, answer.body["code"].as_str()) {
            (201, _) => taken.push(text(&answer.body["id"])),
            (409, Some("source_busy")) | (503, Some("unavailable")) => {}
            (status, _) => panic!("{status} {}", answer.body),
        }
        thread::sleep(Duration::from_millis(100));
    }
    taken
}

/// PostgreSQL is in trouble while backups are asked for, run and end: none is lost, none counts twice.
fn under_load(trouble: impl FnOnce(&mut Postgres)) {
    let plan = Plan { workers: 2, concurrency: 3, lease_secs: 20, own_postgres: true, ..Plan::default() };
    let mut fleet = Fleet::start(&plan);
    let sources: Vec<_> = (0..4).map(|number| fleet.small_source(&format!("s{number}"))).collect();
    let (busy_source, busy) = fleet.backup_in_the_middle();
    let mut postgres = fleet.postgres.take().unwrap();
    let stop = AtomicBool::new(false);
    let taken: Vec<_> = thread::scope(|scope| {
        let fleet = &fleet;
        let loads: Vec<_> = sources.iter().map(|source| scope.spawn(|| load(fleet, source, &stop))).collect();
        let first = fleet.small_source("first");
        let _ = fleet.completed(&fleet.backup(&first));
        trouble(&mut postgres);
        let last = crate::wait::eventually(60, "jobs are taken again", || {
            let answer = fleet.try_backup(&fleet.api, &first).unwrap();
            (answer.status == 201).then(|| text(&answer.body["id"]))
        });
        let _ = fleet.completed(&last);
        stop.store(true, Ordering::Relaxed);
        loads.into_iter().flat_map(|load| load.join().unwrap()).collect()
    });
    assert!(taken.len() >= 8, "{}", taken.len());
    for job in &taken {
        let _ = fleet.completed(job);
    }
    fleet.site.open_tap();
    let done = fleet.completed(&busy);
    assert_eq!((&done["attempt"], fleet.runs(&busy)), (&1.into(), 1), "{done}");
    let _ = fleet.only_snapshot(&busy_source);
    each_job_has_one_snapshot(&fleet);
    assert!(fleet.hubs[0].program.is_alive());
    fleet.postgres = Some(postgres);
}

#[test]
fn restarted_under_load() {
    under_load(|postgres| {
        postgres.restart();
        postgres.restart();
    });
}

#[test]
fn killed_under_load() {
    under_load(|postgres| {
        for _ in 0..2 {
            postgres.kill();
            postgres.restart();
        }
        assert!(postgres.log().contains("automatic recovery in progress"), "{}", postgres.log());
    });
}

/// In the table and on the disks.
fn each_job_has_one_snapshot(fleet: &Fleet) {
    crate::wait::until(60, "all jobs are over", || {
        let open = "SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE status <> 'completed'";
        database::number(&fleet.database, open) == 0
    });
    let jobs = database::texts(&fleet.database, "SELECT id FROM jobs ORDER BY id");
    let with_snapshot = database::texts(&fleet.database, "SELECT job_id FROM snapshots ORDER BY job_id");
    assert_eq!(jobs, with_snapshot);
    let mut rows = database::texts(&fleet.database, "SELECT local_path FROM snapshots");
    let mut disks: Vec<_> = fleet.on_disk("").iter().map(|path| path.display().to_string()).collect();
    rows.sort();
    disks.sort();
    assert_eq!(rows, disks);
}
