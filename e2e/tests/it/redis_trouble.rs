//! Redis is a wake-up channel: whatever happens to it, running jobs go on and queued ones run, and nobody needs to help.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use xvault_testkit::Redis;

use crate::database;
use crate::fleet::{Fleet, Plan, SOON};
use crate::wait::until;

const SHARED: &str = "xvault:jobs";
/// No answer of the API waits for Redis, with which the hub is patient for 3 s.
const ANSWER: Duration = Duration::from_millis(2500);
/// What the worker says when it can't consume.
const IN_TROUBLE: &str = "the queue is in trouble";

/// The fleet's jobs that are there when the trouble begins.
struct Scene {
    fleet: Fleet,
    /// In mid-backup.
    busy: (String, String),
    idle_source: String,
}

fn scene(plan: &Plan) -> Scene {
    let fleet = Fleet::start(plan);
    let idle_source = fleet.small_source("idle");
    let busy = fleet.backup_in_the_middle();
    Scene { fleet, busy, idle_source }
}

impl Scene {
    /// A backup asked for in the trouble is taken at once.
    fn backup_in_trouble(&self) -> String {
        let asked = Instant::now();
        let job = self.fleet.backup(&self.idle_source);
        assert!(asked.elapsed() < ANSWER, "{:?}", asked.elapsed());
        job
    }

    /// The running job was never disturbed; the queued ones ran once; nothing was restarted.
    fn all_is_well(&mut self, queued: &[String]) {
        self.fleet.site.open_tap();
        for job in queued {
            let job = self.fleet.completed(job);
            assert_eq!(job["attempt"], 1, "{job}");
        }
        let job = self.fleet.completed(&self.busy.1);
        assert_eq!((&job["attempt"], self.fleet.runs(&self.busy.1)), (&1.into(), 1), "{job}");
        let _ = self.fleet.only_snapshot(&self.busy.0);
        assert!(self.fleet.hubs[0].program.is_alive() && self.fleet.workers[0].program.is_alive());
    }
}

/// Whether Redis says anything at all.
fn answers(redis: &Redis) -> bool {
    let asked = TcpStream::connect(("127.0.0.1", redis.port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_millis(150)))?;
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut [0])
    });
    asked.is_ok()
}

fn stalled(span: Duration) -> Scene {
    let mut scene = scene(&Plan::default());
    let redis = &scene.fleet.redis;
    let queued = std::thread::scope(|scope| {
        let stall = scope.spawn(|| redis.stall(span));
        until(10, "a stalled Redis", || !answers(redis));
        let queued = scene.backup_in_trouble();
        stall.join().unwrap();
        queued
    });
    scene.all_is_well(&[queued]);
    scene
}

#[test]
fn stalled_for_two_seconds() {
    let scene = stalled(Duration::from_secs(2));
    // So short a time is not even noticed.
    let log = scene.fleet.workers[0].program.log();
    assert!(!log.contains(IN_TROUBLE), "{log}");
}

#[test]
fn stalled_for_twenty_seconds() {
    let _ = stalled(Duration::from_secs(20));
}

#[test]
fn killed_and_started_again_in_mid_job() {
    let mut scene = scene(&Plan::default());
    scene.fleet.redis.kill();
    let queued = scene.backup_in_trouble();
    until(30, "the worker notices", || scene.fleet.workers[0].program.log().contains(IN_TROUBLE));
    assert_eq!(scene.fleet.job(&queued)["status"], "queued");
    scene.fleet.redis.restart_empty();
    scene.all_is_well(&[queued]);
}

/// Messages of queued jobs get lost while the only slot is taken.
fn lost(lose: impl FnOnce(&mut Redis), pass_time: impl FnOnce(&Fleet)) {
    let mut scene = scene(&Plan { concurrency: 1, ..Plan::default() });
    let more = ["second", "third"].map(|name| scene.fleet.small_source(name));
    let sources = [scene.idle_source.clone()].into_iter().chain(more);
    let queued: Vec<_> = sources.map(|source| scene.fleet.backup(&source)).collect();
    until(20, "messages in Redis", || {
        let dump = scene.fleet.redis.dump();
        queued.iter().all(|job| dump.contains(job))
    });
    lose(&mut scene.fleet.redis);
    let dump = scene.fleet.redis.dump();
    assert!(queued.iter().all(|job| !dump.contains(job)), "{dump}");
    pass_time(&scene.fleet);
    scene.all_is_well(&queued);
}

#[test]
fn restarted_empty_with_jobs_queued() {
    // The whole minute that a message is given to arrive is waited for here.
    lost(Redis::restart_empty, |_| {});
}

#[test]
fn flushed_in_mid_job() {
    lost(|redis| redis.flush_all(), |fleet| database::a_minute_passes(&fleet.database));
}

/// Puts `data` into the shared queue the way apalis does; `number` tells messages apart.
fn put(redis: &Redis, number: usize, data: &str) {
    let id = format!("01JXV{number:021}");
    let meta = ["attempts", "0", "max_attempts", "5", "status", "Pending", "idempotency_key", ""];
    let _ = redis.cli(&["HSET", &format!("{SHARED}:data"), &id, data]);
    let key = format!("{SHARED}:meta:{id}");
    let _ = redis.cli(&[["HSET", &key].as_slice(), &meta].concat());
    let _ = redis.cli(&["RPUSH", &format!("{SHARED}:active"), &id]);
}

/// How many messages nobody has dealt with to the end.
fn undone(redis: &Redis) -> String {
    let inflight = redis.cli(&["--scan", "--pattern", &format!("{SHARED}:inflight*")]);
    let waiting = ["active", "dead"].map(|list| redis.cli(&["EXISTS", &format!("{SHARED}:{list}")]));
    let scheduled = redis.cli(&["ZCARD", &format!("{SHARED}:scheduled")]);
    format!("{inflight} {waiting:?} {scheduled}")
}

#[test]
fn messages_that_cannot_be_read_are_dropped() {
    let bad =
        ["", "\u{7f}\u{1b}\u{fffd}", "{", "[]", "null", "{}", r#"{"job_id":7}"#, r#"{"job_id":"../../etc"}"#];
    let fleet = Fleet::start(&Plan::default());
    for (number, data) in bad.iter().enumerate() {
        put(&fleet.redis, number, data);
    }
    put(&fleet.redis, bad.len(), r#"{"job_id":"0199f000-0000-7000-8000-000000000000","news":1}"#);
    let source = fleet.small_source("after");
    let job = fleet.completed(&fleet.backup(&source));
    assert_eq!(job["attempt"], 1);
    until(30, "nothing left to deal with", || undone(&fleet.redis) == r#" ["0", "0"] 0"#);
    let log = fleet.workers[0].program.log();
    let dropped =
        log.lines().filter(|line| line.contains("a message that can't be read was dropped")).count();
    assert_eq!(dropped, bad.len(), "each once: {log}");
    assert!(!log.contains(IN_TROUBLE), "{log}");
}

#[test]
fn ids_without_a_message_hold_nothing_up() {
    let fleet = Fleet::start(&Plan::default());
    let (due, later) = (format!("{SHARED}:active"), format!("{SHARED}:scheduled"));
    for number in 0..5 {
        let _ = fleet.redis.cli(&["RPUSH", &due, &format!("ghost-{number}")]);
        let _ = fleet.redis.cli(&["ZADD", &later, "0", &format!("late-ghost-{number}")]);
    }
    let source = fleet.small_source("after");
    let job = fleet.completed(&fleet.backup(&source));
    assert_eq!(job["attempt"], 1);
    until(30, "nothing left to deal with", || undone(&fleet.redis) == r#" ["0", "0"] 0"#);
}

#[test]
fn duplicate_messages_are_one_run() {
    let fleet = Fleet::start(&Plan { workers: 2, concurrency: 4, ..Plan::default() });
    let (source, job) = fleet.backup_in_the_middle();
    for number in 0..12 {
        put(&fleet.redis, number, &format!(r#"{{"job_id":"{job}"}}"#));
    }
    until(SOON, "all duplicates are dealt with", || undone(&fleet.redis) == r#" ["0", "0"] 0"#);
    fleet.site.open_tap();
    assert_eq!(fleet.completed(&job)["attempt"], 1);
    for number in 100..104 {
        put(&fleet.redis, number, &format!(r#"{{"job_id":"{job}"}}"#));
    }
    until(SOON, "late ones, too", || undone(&fleet.redis) == r#" ["0", "0"] 0"#);
    assert_eq!((&fleet.job(&job)["attempt"], fleet.runs(&job)), (&1.into(), 1));
    let _ = fleet.only_snapshot(&source);
}
