//! What the scheduler does, on both engines.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use xvault_core::{JobId, ScheduleId, SourceId};

use super::{Run, fate, run_due, settle};
use crate::app::bench::{Bench, on_both_engines};
use crate::app::jobs::cancel;
use crate::app::schedules::{self as kept, Change, NewSchedule};
use crate::app::{sources as kept_sources, tenants as kept_tenants};
use crate::db::jobs::JobRow;
use crate::db::schedules::{RunOutcome, Schedule};
use crate::db::status::Status;
use crate::db::{Page, Scope, audit, jobs, schedules};
use crate::schedule::Rule;

const PAGE: Page = Page { limit: 10_000, before: None };

impl Bench {
    async fn schedule(&self, source_id: &SourceId, rule: Rule, timezone: &str) -> ScheduleId {
        let new = NewSchedule {
            tenant_id: self.tenant.clone(),
            source_id: source_id.clone(),
            rule,
            timezone: timezone.to_owned(),
            enabled: true,
            retention_policy: None,
        };
        kept::create(&self.hub, &self.who, new).await.unwrap().schedule.id
    }

    async fn minutely(&self, minutes: u32) -> (SourceId, ScheduleId) {
        let source = self.source().await;
        let schedule = self.schedule(&source, Rule::Minutes(minutes), "UTC").await;
        (source, schedule)
    }

    async fn read(&self, id: &ScheduleId) -> Schedule {
        schedules::get(&mut self.hub.db().conn().await.unwrap(), &Scope::All, id).await.unwrap()
    }

    /// The jobs of a source, oldest first.
    async fn jobs(&self, source: &SourceId) -> Vec<JobRow> {
        let filter = jobs::Filter { source_id: Some(source.clone()), ..jobs::Filter::default() };
        let mut conn = self.hub.db().conn().await.unwrap();
        let mut rows = jobs::list(&mut conn, &Scope::All, &filter, &PAGE).await.unwrap();
        rows.reverse();
        rows
    }

    /// What was told under this name, oldest first.
    async fn told(&self, action: &str) -> Vec<audit::Event> {
        let mut conn = self.hub.db().conn().await.unwrap();
        let mut events = audit::list(&mut conn, &Scope::All, &audit::Filter::default(), &PAGE).await.unwrap();
        events.retain(|event| event.action == action);
        events.reverse();
        events
    }

    fn now(&self) -> Timestamp {
        self.hub.clock().now()
    }

    fn minutes(&self, minutes: u64) {
        self.hub.clock().advance(Duration::from_secs(60 * minutes));
    }

    fn move_to(&self, at: &str) {
        let at: Timestamp = at.parse().unwrap();
        let span = at.duration_since(self.now());
        self.hub.clock().advance(span.try_into().expect("time goes on"));
    }

    async fn tick(&self) -> u32 {
        run_due(&self.hub, 100).await.unwrap()
    }

    /// How many jobs come of it.
    async fn settle(&self, runs: Vec<Run>) -> usize {
        let mut tx = self.hub.db().begin().await.unwrap();
        let made = settle(&mut tx, self.hub.db().dialect(), runs, self.now()).await.unwrap();
        tx.commit().await.unwrap();
        made.len()
    }

    async fn cancel(&self, job: &JobId) {
        cancel(&self.hub, &self.who, &Scope::All, job).await.unwrap();
    }

    async fn sql(&self, text: &'static str) {
        sqlx::query(text).execute(&mut *self.hub.db().conn().await.unwrap()).await.unwrap();
    }
}

fn skipped(schedule: &Schedule) -> (Timestamp, String) {
    let run = schedule.last_run.clone().expect("it has had its time");
    match run.outcome {
        RunOutcome::Skipped { code, .. } => (run.at, code),
        RunOutcome::Job(job) => panic!("it made job {job}"),
    }
}

async fn what_is_due_becomes_a_job(bench: Bench) {
    let (source, id) = bench.minutely(5).await;
    let made = bench.read(&id).await;
    assert_eq!(made.next_run_at.unwrap().to_string(), "2030-01-01T00:05:00Z");
    bench.hub.clock().advance(Duration::from_millis(299_999));
    assert_eq!((bench.tick().await, bench.jobs(&source).await.len()), (0, 0));
    bench.hub.clock().advance(Duration::from_millis(1));
    assert_eq!(bench.tick().await, 1);
    let all = bench.jobs(&source).await;
    let [job] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&job.schedule_id, job.created_by.as_deref()), (&Some(id.clone()), Some("scheduler")));
    assert_eq!((job.enqueue_count, job.created_at), (1, bench.now()));
    let ran = bench.read(&id).await;
    assert_eq!(ran.next_run_at.unwrap().to_string(), "2030-01-01T00:10:00Z");
    let run = ran.last_run.unwrap();
    assert_eq!((run.at, run.outcome), (bench.now(), RunOutcome::Job(job.id.clone())));
    assert_eq!(ran.updated_at, made.updated_at, "nobody changed it");
    let told = bench.told("job.enqueue").await;
    let [event] = &told[..] else { panic!("{told:?}") };
    assert_eq!((event.actor_type.as_str(), event.actor_id.as_deref()), ("system", Some("scheduler")));
    assert_eq!(
        (event.details["schedule_id"].as_str(), &event.tenant_id),
        (Some(id.as_str()), &Some(bench.tenant.clone()))
    );
    // Late by half a minute, the next time is the regular one.
    bench.cancel(&job.id).await;
    bench.hub.clock().advance(Duration::from_secs(330));
    assert_eq!(bench.tick().await, 1);
    assert_eq!(bench.read(&id).await.next_run_at.unwrap().to_string(), "2030-01-01T00:15:00Z");
}

/// The times at which a source was backed up while its clock went on in steps of five minutes.
async fn times(bench: &Bench, source: &SourceId, until: &str) -> Vec<String> {
    let until: Timestamp = until.parse().unwrap();
    while bench.now() < until {
        bench.minutes(5);
        bench.tick().await;
        for job in bench.jobs(source).await.iter().filter(|job| !job.status().is_finished()) {
            bench.cancel(&job.id).await;
        }
    }
    let jobs = bench.jobs(source).await;
    jobs.iter().map(|job| job.created_at.strftime("%d %H:%M").to_string()).collect()
}

async fn times_that_a_clock_skips_or_repeats_run_once(bench: Bench) {
    let source = bench.source().await;
    bench.move_to("2030-03-29T12:00:00Z");
    let id = bench.schedule(&source, Rule::Cron("30 2 * * *".into()), "Europe/Berlin").await;
    let shift = kept::timing(&bench.read(&id).await).unwrap().jitter();
    // The steps of the clock are as long as the longest shift.
    let late = if shift.is_zero() { 0 } else { 5 };
    // 02:30 in winter is 01:30 in UTC, 03:00 when the clock goes on is 01:00, and 02:30 in summer is 00:30.
    let expected = [("30 01", 30), ("31 01", 0), ("01 00", 30)]
        .map(|(hour, minute)| format!("{hour}:{:02}", minute + late));
    assert_eq!(times(&bench, &source, "2030-04-01T12:00:00Z").await, expected);
    bench.move_to("2030-10-26T12:00:00Z");
    bench.tick().await;
    let missed = times(&bench, &source, "2030-10-28T12:00:00Z").await.split_off(3);
    // The one that was missed all summer, then the first 02:30 of the night, then that of winter.
    let minute = 30 + late;
    assert_eq!(missed, ["26 12:00".to_owned(), format!("27 00:{minute}"), format!("28 01:{minute}")]);
}

async fn what_was_missed_runs_once(bench: Bench) {
    let (source, id) = bench.minutely(60).await;
    bench.minutes(3 * 24 * 60 + 90);
    assert_eq!(bench.tick().await, 1);
    assert_eq!(bench.jobs(&source).await.len(), 1);
    let shift = kept::timing(&bench.read(&id).await).unwrap().jitter();
    let next = bench.read(&id).await.next_run_at.unwrap();
    assert_eq!((next - shift).to_string(), "2030-01-04T02:00:00Z");
    assert_eq!(bench.tick().await, 0);
}

async fn a_busy_source_is_skipped(bench: Bench) {
    let (source, id) = bench.minutely(5).await;
    bench.minutes(5);
    bench.tick().await;
    let first = bench.jobs(&source).await.remove(0);
    bench.minutes(5);
    assert_eq!(bench.tick().await, 1);
    assert_eq!(bench.jobs(&source).await.len(), 1);
    let after = bench.read(&id).await;
    assert_eq!(skipped(&after), (bench.now(), "source_busy".to_owned()));
    assert_eq!(after.next_run_at.unwrap().to_string(), "2030-01-01T00:15:00Z");
    let told = bench.told("schedule.skip").await;
    let [event] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (event.target_id.as_deref(), &event.details["code"]),
        (Some(id.as_str()), &json!("source_busy"))
    );
    assert!(event.details["message"].as_str().unwrap().contains(first.id.as_str()), "{event:?}");
    // When it is done, the next time runs.
    bench.cancel(&first.id).await;
    bench.minutes(5);
    bench.tick().await;
    assert_eq!(bench.jobs(&source).await.len(), 2);
    assert!(matches!(bench.read(&id).await.last_run.unwrap().outcome, RunOutcome::Job(_)));
}

async fn what_is_disabled_rests(bench: Bench) {
    let (source, id) = bench.minutely(5).await;
    let switch = async |on| {
        kept_sources::switch(&bench.hub, &bench.who, &Scope::All, &source, on).await.unwrap();
    };
    switch(false).await;
    bench.minutes(20);
    bench.tick().await;
    let resting = bench.read(&id).await;
    assert_eq!(skipped(&resting), (bench.now(), "source_disabled".to_owned()));
    assert_eq!(resting.next_run_at.unwrap().to_string(), "2030-01-01T00:25:00Z");
    assert_eq!(resting.watched_since, bench.now());
    // Enabled again, the next regular time counts, and none before.
    switch(true).await;
    bench.minutes(4);
    assert_eq!((bench.tick().await, bench.jobs(&source).await.len()), (0, 0));
    bench.minutes(1);
    assert_eq!((bench.tick().await, bench.jobs(&source).await.len()), (1, 1));
    bench.cancel(&bench.jobs(&source).await[0].id).await;

    let tenant = async |status| {
        let change = kept_tenants::Change { name: None, status: Some(status) };
        kept_tenants::update(&bench.hub, &bench.who, &bench.tenant, change).await.unwrap();
    };
    tenant(Status::Disabled).await;
    bench.minutes(5);
    bench.tick().await;
    assert_eq!(skipped(&bench.read(&id).await).1, "tenant_disabled");
    tenant(Status::Active).await;
    assert_eq!((bench.tick().await, bench.jobs(&source).await.len()), (0, 1));

    let enable = async |enabled| {
        let change = Change { enabled: Some(enabled), ..Change::default() };
        kept::update(&bench.hub, &bench.who, &Scope::All, &id, change).await.unwrap();
    };
    enable(false).await;
    bench.minutes(60);
    assert_eq!(bench.tick().await, 0);
    enable(true).await;
    assert_eq!((bench.tick().await, bench.jobs(&source).await.len()), (0, 1));
    assert!(bench.told("schedule.skip").await.is_empty(), "to rest is no news");
}

async fn a_source_without_a_worker_is_tried_again(bench: Bench) {
    let (source, id) = bench.minutely(60).await;
    bench.sql("UPDATE sources SET type = 'local', config = '{\"paths\":[\"/srv\"]}'").await;
    bench.minutes(65);
    bench.tick().await;
    let waiting = bench.read(&id).await;
    assert_eq!(skipped(&waiting), (bench.now(), "no_worker".to_owned()));
    assert_eq!(waiting.next_run_at.unwrap().to_string(), "2030-01-01T01:06:00Z");
    for _ in 0..3 {
        bench.minutes(1);
        assert_eq!(bench.tick().await, 1);
    }
    assert_eq!(bench.told("schedule.skip").await.len(), 1, "the same again is no news");
    bench.worker("worker").await;
    bench.sql("UPDATE workers SET capabilities = '[\"local\"]', status = 'online'").await;
    bench.minutes(1);
    bench.tick().await;
    assert_eq!(bench.jobs(&source).await.len(), 1);
    let shift = kept::timing(&bench.read(&id).await).unwrap().jitter();
    assert_eq!((bench.read(&id).await.next_run_at.unwrap() - shift).to_string(), "2030-01-01T02:00:00Z");
}

async fn one_that_cannot_be_read_stops_no_other(bench: Bench) {
    let (broken, broken_id) = bench.minutely(5).await;
    bench.sql("UPDATE schedules SET timezone = 'Mars/Olympus'").await;
    let (unreadable, unreadable_id) = bench.minutely(5).await;
    bench.sql("UPDATE sources SET config = '7' WHERE id IN (SELECT source_id FROM schedules WHERE timezone = 'UTC')")
        .await;
    let (source, _) = bench.minutely(5).await;
    bench.minutes(5);
    bench.tick().await;
    assert_eq!((bench.jobs(&source).await.len(), bench.jobs(&broken).await.len()), (1, 0));
    assert_eq!(bench.jobs(&unreadable).await.len(), 0);
    let after = bench.read(&broken_id).await;
    assert_eq!(skipped(&after).1, "schedule_unreadable");
    assert_eq!(after.next_run_at.unwrap().to_string(), "2030-01-01T01:05:00Z");
    let after = bench.read(&unreadable_id).await;
    assert_eq!(skipped(&after).1, "source_unreadable");
    assert_eq!(after.next_run_at.unwrap().to_string(), "2030-01-01T00:10:00Z");
}

/// What was read before somebody else wrote makes no job, even when nothing else stands in its way.
async fn a_stale_row_makes_no_job(bench: Bench) {
    let (source, id) = bench.minutely(5).await;
    bench.minutes(5);
    let stale = bench.read(&id).await;
    bench.tick().await;
    bench.cancel(&bench.jobs(&source).await[0].id).await;
    let runs = fate::of_all(&bench.hub, vec![stale]).await.unwrap();
    assert_eq!(bench.settle(runs).await, 0);
    assert_eq!(bench.jobs(&source).await.len(), 1);
    // The same of one that a person changed.
    bench.minutes(5);
    let stale = bench.read(&id).await;
    let runs = fate::of_all(&bench.hub, vec![stale]).await.unwrap();
    let change = Change { rule: Some(Rule::Minutes(7)), ..Change::default() };
    kept::update(&bench.hub, &bench.who, &Scope::All, &id, change).await.unwrap();
    assert_eq!(bench.settle(runs).await, 0);
    assert_eq!(bench.read(&id).await.next_run_at.unwrap().to_string(), "2030-01-01T00:17:00Z");
}

/// A hub that dies in the middle of it has done nothing.
async fn a_crash_loses_no_run(bench: Bench) {
    let (source, id) = bench.minutely(5).await;
    bench.minutes(5);
    let due = bench.read(&id).await;
    let runs = fate::of_all(&bench.hub, vec![due.clone()]).await.unwrap();
    let mut tx = bench.hub.db().begin().await.unwrap();
    assert_eq!(settle(&mut tx, bench.hub.db().dialect(), runs, bench.now()).await.unwrap().len(), 1);
    tx.rollback().await.unwrap();
    assert_eq!((bench.jobs(&source).await.len(), bench.read(&id).await), (0, due));
    assert_eq!((bench.tick().await, bench.jobs(&source).await.len()), (1, 1));
}

async fn a_source_that_is_being_deleted_or_disabled_makes_no_job(bench: Bench) {
    for delete in [true, false] {
        let (source, id) = bench.minutely(5).await;
        bench.minutes(5);
        let due = bench.read(&id).await;
        let runs = fate::of_all(&bench.hub, vec![due]).await.unwrap();
        if delete {
            kept_sources::delete(&bench.hub, &bench.who, &Scope::All, &source).await.unwrap();
        } else {
            kept_sources::switch(&bench.hub, &bench.who, &Scope::All, &source, false).await.unwrap();
        }
        assert_eq!(bench.settle(runs).await, 0);
        assert_eq!(bench.jobs(&source).await.len(), 0);
        if !delete {
            assert_eq!(skipped(&bench.read(&id).await).1, "source_disabled");
        }
    }
}

/// Hubs that race over 200 due schedules, while people change some of these and cancel jobs: each time becomes one job.
async fn hubs_never_run_a_time_twice(bench: Bench) {
    let mut made = Vec::new();
    for _ in 0..200 {
        made.push(bench.minutely(5).await);
    }
    for round in 1..=3_usize {
        bench.minutes(5);
        let hubs = [bench.another_hub().await, bench.another_hub().await, bench.hub.clone()];
        let racing =
            hubs.map(|hub| tokio::spawn(async move { while run_due(&hub, 30).await.unwrap() > 0 {} }));
        for hub in racing {
            hub.await.unwrap();
        }
        for (source, id) in &made {
            let jobs = bench.jobs(source).await;
            assert_eq!(jobs.len(), round, "{jobs:?}");
            assert_eq!(
                bench.read(id).await.last_run.unwrap().outcome,
                RunOutcome::Job(jobs[round - 1].id.clone())
            );
            bench.cancel(&jobs[round - 1].id).await;
        }
    }
    assert!(bench.told("schedule.skip").await.is_empty());
    assert_eq!(bench.told("job.enqueue").await.len(), 600);
}

on_both_engines!(
    what_is_due_becomes_a_job,
    times_that_a_clock_skips_or_repeats_run_once,
    what_was_missed_runs_once,
    a_busy_source_is_skipped,
    what_is_disabled_rests,
    a_source_without_a_worker_is_tried_again,
    one_that_cannot_be_read_stops_no_other,
    a_stale_row_makes_no_job,
    a_crash_loses_no_run,
    a_source_that_is_being_deleted_or_disabled_makes_no_job,
    hubs_never_run_a_time_twice,
);
