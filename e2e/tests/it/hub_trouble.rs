//! Hubs die, differ in their clocks, get in each other's way, and are given the wrong key.

use std::thread::sleep;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use xvault_core::Identity;
use xvault_core::secret::ExposeSecret;

use crate::database;
use crate::fleet::{Fleet, HubProgram, Plan, text};
use crate::wait::until;

/// Than that of [`Plan::default`], three times.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(12);

#[test]
fn killed_between_commit_and_enqueue() {
    let mut fleet = Fleet::start(&Plan { redis_line: true, ..Plan::default() });
    let source = fleet.small_source("orphan");
    // Redis hears the hub and does not answer: no message goes out, and none is given up yet.
    let line = fleet.redis_line.as_ref().unwrap();
    line.stall_after(0);
    let job = fleet.backup(&source);
    fleet.hubs[0].program.kill();
    let dump = fleet.redis.dump();
    assert!(!dump.contains(&job), "{dump}");
    line.heal();
    line.cut_now();
    fleet.hubs[0].start_again();
    fleet.until_ready();
    assert_eq!(fleet.job(&job)["status"], "queued");
    database::a_minute_passes(&fleet.database);
    let done = fleet.completed(&job);
    assert_eq!(done["attempt"], 1, "{done}");
    let _ = fleet.only_snapshot(&source);
}

#[test]
fn killed_in_mid_job_and_started_again() {
    let mut fleet = Fleet::start(&Plan::default());
    let (source, job) = fleet.backup_in_the_middle();
    fleet.hubs[0].program.kill();
    sleep(LONGER_THAN_A_LEASE);
    fleet.hubs[0].start_again();
    fleet.until_ready();
    // Held over several leases since: the worker that could not renew was heard before its lease was ended.
    sleep(LONGER_THAN_A_LEASE);
    let running = fleet.job(&job);
    assert_eq!((&running["status"], &running["attempt"]), (&"running".into(), &1.into()), "{running}");
    fleet.site.open_tap();
    done_at_the_first_attempt(&fleet, &source, &job);
}

#[test]
fn away_while_a_backup_ends() {
    let mut fleet = Fleet::start(&Plan { workers: 2, ..Plan::default() });
    let (source, job) = fleet.backup_in_the_middle();
    let worker = fleet.worker_of(&fleet.job(&job));
    fleet.hubs[0].program.kill();
    fleet.site.open_tap();
    until(60, "the worker has stored it", || fleet.workers[worker].has_stored());
    sleep(LONGER_THAN_A_LEASE);
    fleet.hubs[0].start_again();
    fleet.until_ready();
    done_at_the_first_attempt(&fleet, &source, &job);
}

fn done_at_the_first_attempt(fleet: &Fleet, source: &str, job: &str) {
    let done = fleet.completed(job);
    assert_eq!((&done["attempt"], fleet.runs(job)), (&1.into(), 1), "{done}");
    let _ = fleet.only_snapshot(source);
}

#[test]
fn two_hubs_at_once() {
    let mut fleet = Fleet::start(&Plan { hubs: 2, workers: 2, ..Plan::default() });
    let apis = [fleet.api_at(0), fleet.api_at(1)];
    // Each source is asked for at both hubs at the same moment: one of them gets the job.
    let sources: Vec<_> = (0..6).map(|number| fleet.small_source(&format!("s{number}"))).collect();
    fleet.workers.iter().for_each(|worker| worker.program.freeze());
    let jobs: Vec<_> = sources.iter().map(|source| race(&fleet, &apis, source)).collect();
    fleet.workers.iter().for_each(|worker| worker.program.thaw());
    for (number, (source, job)) in sources.iter().zip(&jobs).enumerate() {
        let done = fleet.completed(job);
        assert_eq!((&done["attempt"], fleet.runs(job)), (&1.into(), 1), "{done}");
        assert_eq!(apis[number % 2].get(&format!("/api/v1/jobs/{job}")), done);
        let _ = fleet.only_snapshot(source);
    }
    // Both see a lease expire, and one of them acts.
    let (source, job) = fleet.backup_in_the_middle();
    let dead = fleet.worker_of(&fleet.job(&job));
    fleet.workers[dead].program.kill();
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - dead, &2.into()), "{done}");
    let _ = fleet.only_snapshot(&source);
    // One alone goes on with everything.
    fleet.hubs[0].program.kill();
    fleet.api = apis[1].clone();
    fleet.workers[1].start_again();
    let after = fleet.small_source("after");
    let _ = fleet.completed(&fleet.backup(&after));
}

/// How often a hub has gone through all sources.
fn retention_passes(hub: &HubProgram) -> usize {
    let log = hub.program.log();
    ["retention was applied", "retention found nothing to do"]
        .iter()
        .map(|line| log.matches(line).count())
        .sum()
}

/// The only number that `statement` gives.
fn count(fleet: &Fleet, statement: &'static str) -> i64 {
    database::number(&fleet.database, statement)
}

const SCHEDULED: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE schedule_id IS NOT NULL";
const DELETIONS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE type = 'delete_snapshot'";
const UNFINISHED: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE status <> 'completed'";

#[test]
fn what_two_hubs_do_by_themselves_is_done_once() {
    let mut fleet = Fleet::start(&Plan { hubs: 2, workers: 2, concurrency: 4, ..Plan::default() });
    let sources: Vec<_> = (0..6).map(|number| fleet.small_source(&format!("s{number}"))).collect();
    for job in sources.iter().map(|source| fleet.backup(source)).collect::<Vec<_>>() {
        let _ = fleet.completed(&job);
    }
    // Both look for due schedules each second.
    for source in &sources {
        let body = json!({"tenant_id": fleet.tenant, "source_id": source, "interval_minutes": 1440});
        let _ = fleet.api.post("/api/v1/schedules", &body);
    }
    database::schedules_are_due(&fleet.database);
    until(60, "the scheduled backups", || count(&fleet, SCHEDULED) >= 6 && count(&fleet, UNFINISHED) == 0);
    // Both apply policies half a minute after they start: of two snapshots each, the older one must go.
    for source in &sources {
        let keep = json!({"retention_policy": {"keep_last_n": 1}});
        let _ = fleet.put(&format!("/api/v1/sources/{source}/retention"), &keep);
    }
    let before: Vec<_> = fleet.hubs.iter().map(retention_passes).collect();
    fleet.hubs.iter_mut().for_each(|hub| hub.program.kill());
    fleet.hubs.iter_mut().for_each(HubProgram::start_again);
    fleet.until_ready();
    until(90, "both have applied the policies", || {
        let both = fleet.hubs.iter().zip(&before).all(|(hub, before)| retention_passes(hub) > *before);
        both && count(&fleet, UNFINISHED) == 0
    });
    assert_eq!((count(&fleet, SCHEDULED), count(&fleet, DELETIONS)), (6, 6));
    sources.iter().for_each(|source| drop(fleet.only_snapshot(source)));
    let events = "SELECT CAST(COUNT(*) AS BIGINT) FROM audit_events
        WHERE actor_type = 'system' AND action IN ('job.enqueue', 'snapshot.delete', 'schedule.skip')";
    assert_eq!(count(&fleet, events), 12);
}

/// Asks both hubs for a backup at once; gives the job, which is one.
fn race(fleet: &Fleet, apis: &[crate::api::Api; 2], source: &str) -> String {
    let answers = std::thread::scope(|scope| {
        let asked = apis.each_ref().map(|api| scope.spawn(|| fleet.try_backup(api, source).unwrap()));
        asked.map(|thread| thread.join().unwrap())
    });
    let mut taken = Vec::new();
    for answer in answers {
        if answer.status == 201 {
            taken.push(text(&answer.body["id"]));
        } else {
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (409, &"source_busy".into()),
                "{}",
                answer.body
            );
        }
    }
    assert_eq!(taken.len(), 1, "two unfinished backups of one source");
    taken.remove(0)
}

/// The seconds of an HTTP date since an arbitrary midnight.
fn seconds(date: &str) -> i64 {
    let clock = date.split(' ').nth(4).unwrap_or_else(|| panic!("{date}"));
    clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap())
}

#[test]
fn clocks_a_minute_apart() {
    let mut fleet = Fleet::start(&Plan {
        hubs: 2,
        workers: 2,
        hub_skews: vec![0, 60],
        worker_skews: vec![-60, 60],
        ..Plan::default()
    });
    let dates = [0, 1].map(|hub| fleet.api_at(hub).send(Method::GET, "/healthz", None).unwrap().date);
    let apart = (seconds(&dates[1]) - seconds(&dates[0])).rem_euclid(24 * 3600);
    assert!((55..=120).contains(&apart), "the clocks do differ: {dates:?}");

    // A session of one hub is good at the other, in both directions.
    let early = fleet.api_at(1);
    assert_eq!(early.get("/api/v1/auth/me")["role"], "operator");
    let login = json!({"email": crate::fleet::OPERATOR, "password": fleet.secrets.operator_password});
    let late = early.post("/api/v1/auth/login", &login);
    let late = fleet.api.with_token(late["access_token"].as_str().unwrap());
    assert_eq!(late.get("/api/v1/auth/me")["role"], "operator");

    // Held over several leases, whichever hub looks after it.
    let (source, job) = fleet.backup_in_the_middle();
    let first = fleet.worker_of(&fleet.job(&job));
    let begun = std::time::Instant::now();
    until(60, "three leases", || begun.elapsed() > Duration::from_secs(12));
    let running = fleet.job(&job);
    assert_eq!((&running["status"], &running["attempt"]), (&"running".into(), &1.into()), "{running}");

    // Nobody takes anybody for dead.
    for worker in &fleet.workers {
        let log = worker.program.log();
        assert!(!log.contains("the queue is in trouble"), "{log}");
    }

    // And given to the other within seconds of its end, not a minute later.
    fleet.workers[first].program.kill();
    until(30, "the other worker has it", || fleet.job(&job)["attempt"] == 2);
    fleet.site.open_tap();
    let done = fleet.completed(&job);
    assert_eq!((fleet.worker_of(&done), &done["attempt"]), (1 - first, &2.into()), "{done}");
    fleet.workers[first].start_again();
    let _ = fleet.only_snapshot(&source);
}

#[test]
fn a_wrong_kek_stops_the_hub_and_is_named() {
    let mut fleet = Fleet::start(&Plan { workers: 0, ..Plan::default() });
    let wrong = Identity::generate().to_secret();
    let mut other = fleet.hub_with(&[("HUB_ENCRYPTION_KEK", wrong.expose_secret())]);
    let ended = other.ended(Duration::from_secs(30));
    let said = other.log();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("HUB_ENCRYPTION_KEK"), "{said}");
    assert!(!said.contains(wrong.expose_secret()) && !said.contains(&fleet.secrets.kek_text()), "{said}");
    // The right one, be it the second, is fine; and nothing was broken by the wrong one.
    let both = format!("{},{}", fleet.secrets.kek_text(), wrong.expose_secret());
    let mut rotated = fleet.hub_with(&[("HUB_ENCRYPTION_KEK", &both)]);
    until(30, "a hub with both keys", || {
        assert!(rotated.is_alive(), "{}", rotated.log());
        rotated.log().contains("listening")
    });
    fleet.hubs[0].start_again();
    fleet.until_ready();
    let _ = fleet.new_credential("still sealed");
}
