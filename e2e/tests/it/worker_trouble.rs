//! Workers die, stall and come back: a job is done by somebody, and counts once.

use rustix::process::Signal;

use crate::database;
use crate::fleet::{Fleet, Plan, SOON, files_below};
use crate::wait::until;

/// Long enough for a worker to end a backup without its hub, on a busy machine.
const LONG_LEASE: u64 = 15;

fn snapshot_rows(fleet: &Fleet) -> i64 {
    database::number(&fleet.database, "SELECT CAST(COUNT(*) AS BIGINT) FROM snapshots")
}

#[test]
fn killed_in_mid_job() {
    let mut fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
    let (source, job) = fleet.backup_in_the_middle();
    let dead = fleet.worker_of(&fleet.job(&job));
    fleet.workers[dead].program.kill();
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - dead, &2.into()), "{done}");
    fleet.workers[dead].start_again();
    let _ = fleet.only_snapshot(&source);
    assert_eq!(snapshot_rows(&fleet), 1);
    let storage = fleet.workers[dead].storage.clone();
    until(SOON, "the dead run is swept up", || {
        files_below(&storage).iter().all(|file| !file.ends_with("backup.tar.zst.enc"))
    });
}

/// A worker that has stored its snapshot and could not tell; gives source, job and worker.
fn stored_and_not_told(fleet: &Fleet) -> (String, String, usize) {
    let (source, job) = fleet.backup_in_the_middle();
    let worker = fleet.worker_of(&fleet.job(&job));
    fleet.workers[worker].cut_off();
    fleet.site.open_tap();
    until(LONG_LEASE, "the worker has stored it", || fleet.workers[worker].has_stored());
    assert_eq!(fleet.workers[worker].snapshots().len(), 1);
    (source, job, worker)
}

fn plan() -> Plan {
    Plan { workers: 2, hub_lines: true, lease_secs: LONG_LEASE, ..Plan::default() }
}

#[test]
fn killed_with_its_snapshot_stored_and_not_reported() {
    let mut fleet = Fleet::start(&plan());
    let (source, job, dead) = stored_and_not_told(&fleet);
    fleet.workers[dead].program.kill();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - dead, &2.into()), "{done}");
    assert_eq!((fleet.on_disk(&source).len(), snapshot_rows(&fleet)), (2, 1));
    fleet.workers[dead].reconnect();
    fleet.workers[dead].start_again();
    let snapshot = fleet.only_snapshot(&source);
    assert_eq!(snapshot["worker_id"], done["worker_id"]);
}

#[test]
fn stalled_past_its_lease_and_then_reports() {
    let fleet = Fleet::start(&plan());
    let (source, job, stalled) = stored_and_not_told(&fleet);
    let program = &fleet.workers[stalled].program;
    program.freeze();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - stalled, &2.into()), "{done}");
    assert_eq!(fleet.on_disk(&source).len(), 2);
    fleet.workers[stalled].reconnect();
    program.thaw();
    until(SOON, "its report is refused", || {
        program.log().contains("the hub does not take the snapshot: it is removed")
    });
    let snapshot = fleet.only_snapshot(&source);
    assert_eq!((&snapshot["worker_id"], &snapshot["id"]), (&done["worker_id"], &done["snapshot_id"]));
    assert_eq!((fleet.job(&job), snapshot_rows(&fleet)), (done, 1));
}

#[test]
fn stalled_in_mid_backup_past_its_lease() {
    let fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
    let (source, job) = fleet.backup_in_the_middle();
    let stalled = fleet.worker_of(&fleet.job(&job));
    fleet.workers[stalled].program.freeze();
    until(SOON, "another worker has it", || {
        let job = fleet.job(&job);
        job["attempt"] == 2 && job["status"] == "running"
    });
    // Both pull now. The first one's lease is somebody else's.
    fleet.workers[stalled].program.thaw();
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - stalled, &2.into()), "{done}");
    until(SOON, "the first one stops", || fleet.workers[stalled].program.log().contains("job stopped"));
    let _ = fleet.only_snapshot(&source);
}

#[test]
fn stopped_in_order_it_hands_its_job_over() {
    let mut fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
    let (source, job) = fleet.backup_in_the_middle();
    let first = fleet.worker_of(&fleet.job(&job));
    fleet.workers[first].program.signal(Signal::TERM);
    until(20, "the hub knows that it drains", || {
        fleet.api.get(&format!("/api/v1/workers/worker-{first}"))["status"] == "draining"
    });
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (first, &1.into()), "it ends what it has: {done}");
    let ended = fleet.workers[first].program.ended(std::time::Duration::from_secs(30));
    assert!(ended.success(), "{ended}");
    let _ = fleet.only_snapshot(&source);
}
