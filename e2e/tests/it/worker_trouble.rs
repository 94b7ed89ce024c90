//! Workers die, stall and come back: a job is done by somebody, and counts once.

use rustix::process::Signal;

use crate::database;
use crate::fleet::{Fleet, Plan, SOON};
use crate::tls::Authority;
use crate::wait::{eventually, until};

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
    assert_eq!(fleet.workers[dead].stagings().len(), 1);
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - dead, &2.into()), "{done}");
    fleet.workers[dead].start_again();
    let _ = fleet.only_snapshot(&source);
    assert_eq!(snapshot_rows(&fleet), 1);
    until(SOON, "the dead run is swept up", || fleet.workers[dead].stagings().is_empty());
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
fn stalled_past_its_lease_it_reports_while_another_works() {
    let fleet = Fleet::start(&plan());
    let (source, job, stalled) = stored_and_not_told(&fleet);
    let program = &fleet.workers[stalled].program;
    program.freeze();
    fleet.site.close_tap();
    until_second_attempt(&fleet, &job);
    fleet.workers[stalled].reconnect();
    program.thaw();
    until(SOON, "its report is refused and its bytes swept", || fleet.on_disk(&source).is_empty());
    let running = fleet.job(&job);
    assert_eq!((&running["status"], &running["attempt"]), (&"running".into(), &2.into()), "{running}");
    assert_eq!(snapshot_rows(&fleet), 0);
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - stalled, &2.into()), "{done}");
    let _ = fleet.only_snapshot(&source);
}

fn until_second_attempt(fleet: &Fleet, job: &str) {
    until(SOON, "another worker has it", || {
        let job = fleet.job(job);
        job["attempt"] == 2 && job["status"] == "running"
    });
}

#[test]
fn stalled_in_mid_backup_past_its_lease() {
    let fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
    let (source, job) = fleet.backup_in_the_middle();
    let stalled = fleet.worker_of(&fleet.job(&job));
    fleet.workers[stalled].program.freeze();
    until_second_attempt(&fleet, &job);
    // Both pull now. The first one's lease is somebody else's.
    fleet.workers[stalled].program.thaw();
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - stalled, &2.into()), "{done}");
    until(SOON, "the first one stops", || fleet.workers[stalled].program.log().contains("job stopped"));
    let _ = fleet.only_snapshot(&source);
}

/// The hub has taken the completion, and the worker can't know: it tells it again.
fn the_answer_to_its_completion_is_lost(sqlite: bool) {
    let plan = Plan { sqlite, hub_lines: true, lease_secs: LONG_LEASE, ..Plan::default() };
    let fleet = Fleet::start(&plan);
    let (source, job) = fleet.backup_in_the_middle();
    let worker = &fleet.workers[0];
    let line = worker.line.as_ref().unwrap();
    line.lose_answer_to("/complete HTTP/1.1");
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    let ended = eventually(SOON, "the worker is done with it", || {
        let log = worker.program.log();
        log.lines().find(|line| line.contains("job ended") && line.contains(&job)).map(str::to_owned)
    });
    assert!(line.answers_lost() == 1 && ended.contains("completed"), "{ended}");
    assert_eq!((&done["attempt"], fleet.runs(&job)), (&1.into(), 1), "{done}");
    let snapshot = fleet.only_snapshot(&source);
    assert_eq!((&snapshot["id"], snapshot_rows(&fleet)), (&done["snapshot_id"], 1));
    assert_eq!(fleet.job(&job), done);
}

/// The hub has given it the job, and it can't know: it asks again, long before its lease is over.
#[test]
fn the_answer_to_its_claim_is_lost() {
    let fleet = Fleet::start(&Plan { hub_lines: true, lease_secs: 5 * SOON, ..Plan::default() });
    let line = fleet.workers[0].line.as_ref().unwrap();
    line.lose_answer_to("/claim HTTP/1.1");
    let source = fleet.small_source("claimed");
    let job = fleet.backup(&source);
    let done = fleet.completed(&job);
    assert_eq!((line.answers_lost(), &done["attempt"], fleet.runs(&job)), (1, &1.into(), 1), "{done}");
    let _ = fleet.only_snapshot(&source);
}

#[test]
fn the_answer_to_its_completion_is_lost_on_postgres() {
    the_answer_to_its_completion_is_lost(false);
}

#[test]
fn the_answer_to_its_completion_is_lost_on_sqlite() {
    the_answer_to_its_completion_is_lost(true);
}

/// It takes the hub that its own authority vouches for, and no other.
#[test]
fn its_hub_is_behind_tls_of_a_private_authority() {
    let mut fleet = Fleet::start(&Plan { tls: true, ..Plan::default() });
    let source = fleet.small_source("sealed");
    let _ = fleet.completed(&fleet.backup(&source));
    fleet.workers[0].program.kill();
    let other = Authority::new();
    let stranger = fleet.workers[0].with(&[("WORKER_HUB_CA_FILE", other.file().to_str().unwrap())]);
    until(60, "it says why", || stranger.log().contains("invalid peer certificate"));
    assert!(!stranger.log().contains("registered with the hub"), "{}", stranger.log());
    drop(stranger);
    fleet.workers[0].start_again();
    let _ = fleet.completed(&fleet.backup(&source));
    assert_eq!(fleet.snapshots(&source).len(), 2);
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
