//! Which sources are told to be overdue, on both engines.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use xvault_core::{JobId, SourceId};

use super::{Standing, standings, watch};
use crate::app::bench::{Bench, on_both_engines};
use crate::app::jobs::{NewJob, enqueue};
use crate::app::schedules::{self as kept, Change, NewSchedule};
use crate::app::{scheduler, sources as kept_sources};
use crate::db::{Page, Scope, audit, schedules, sources};
use crate::schedule::Rule;

impl Bench {
    /// A source that is to be backed up every so many minutes.
    async fn watched(&self, minutes: u32) -> SourceId {
        let source_id = self.source().await;
        let new = NewSchedule {
            tenant_id: self.tenant.clone(),
            source_id: source_id.clone(),
            rule: Rule::Minutes(minutes),
            timezone: "UTC".to_owned(),
            enabled: true,
            retention_policy: None,
        };
        kept::create(&self.hub, &self.who, new).await.unwrap();
        source_id
    }

    async fn standing(&self, id: &SourceId) -> Standing {
        let source = sources::get(&mut self.hub.db().conn().await.unwrap(), &Scope::All, id).await.unwrap();
        standings(&self.hub, &[source]).await.unwrap()[0]
    }

    /// What was told of sources, oldest first.
    async fn news(&self) -> Vec<(String, Value)> {
        watch(&self.hub, 100).await.unwrap();
        let mut conn = self.hub.db().conn().await.unwrap();
        let page = Page { limit: 1000, before: None };
        let mut events = audit::list(&mut conn, &Scope::All, &audit::Filter::default(), &page).await.unwrap();
        events.retain(|event| ["source.overdue", "source.recovered"].contains(&event.action.as_str()));
        events.reverse();
        events.into_iter().map(|event| (event.action, event.details)).collect()
    }

    async fn counted(&self) -> i64 {
        schedules::watch::overdue(&mut self.hub.db().conn().await.unwrap()).await.unwrap()
    }

    async fn backed_up(&self, source: &SourceId, warnings: u64) -> JobId {
        let worker = self.worker("worker").await;
        let new = NewJob::Backup(source.clone());
        let job = enqueue(&self.hub, &self.who, &Scope::All, new).await.unwrap().id;
        self.back_up(&worker, &job, warnings).await;
        job
    }

    fn later(&self, seconds: u64) {
        self.hub.clock().advance(Duration::from_secs(seconds));
    }
}

fn actions(news: &[(String, Value)]) -> Vec<&str> {
    news.iter().map(|(action, _)| action.as_str()).collect()
}

fn at(text: &str) -> Option<Timestamp> {
    Some(text.parse().unwrap())
}

/// Every five minutes: expected after five, overdue after an hour more.
async fn a_source_without_a_snapshot_is_overdue_and_recovers(bench: Bench) {
    let source = bench.watched(5).await;
    let expected =
        Standing { last_success_at: None, next_expected_at: at("2030-01-01T00:05:00Z"), overdue: false };
    assert_eq!(bench.standing(&source).await, expected);
    bench.later(65 * 60 - 1);
    assert_eq!((bench.standing(&source).await, bench.news().await.len()), (expected, 0));
    bench.later(1);
    assert_eq!(bench.standing(&source).await, Standing { overdue: true, ..expected });
    let news = bench.news().await;
    assert_eq!(actions(&news), ["source.overdue"]);
    assert_eq!(news[0].1["next_expected_at"], json!("2030-01-01T00:05:00Z"));
    assert_eq!(bench.counted().await, 1);
    // It is told once.
    bench.later(24 * 3600);
    assert_eq!((bench.news().await.len(), bench.counted().await), (1, 1));

    // A partial snapshot is none that was waited for.
    bench.backed_up(&source, 3).await;
    assert_eq!((bench.standing(&source).await.overdue, bench.news().await.len()), (true, 1));
    bench.backed_up(&source, 0).await;
    let well = Standing {
        last_success_at: at("2030-01-02T01:05:00Z"),
        next_expected_at: at("2030-01-02T01:10:00Z"),
        overdue: false,
    };
    assert_eq!(bench.standing(&source).await, well);
    assert_eq!(actions(&bench.news().await), ["source.overdue", "source.recovered"]);
    assert_eq!((bench.news().await.len(), bench.counted().await), (2, 0));
    // And all over again.
    bench.later(65 * 60);
    assert_eq!(actions(&bench.news().await)[2..], ["source.overdue"]);
}

async fn a_source_that_is_backed_up_in_time_is_no_news(bench: Bench) {
    let source = bench.watched(60).await;
    let first = bench.standing(&source).await.next_expected_at.unwrap();
    for _ in 0..10 {
        bench.later(3600);
        bench.backed_up(&source, 0).await;
        assert_eq!((bench.news().await.len(), bench.standing(&source).await.overdue), (0, false));
    }
    assert!(bench.standing(&source).await.next_expected_at.unwrap() > first);
    // Two hours at most lie between two runs and an hour of grace.
    bench.later(2 * 3600 + 1);
    assert_eq!(actions(&bench.news().await), ["source.overdue"]);
}

async fn of_what_is_disabled_nothing_is_expected(bench: Bench) {
    let source = bench.watched(5).await;
    let switch = async |on| {
        kept_sources::switch(&bench.hub, &bench.who, &Scope::All, &source, on).await.unwrap();
    };
    switch(false).await;
    bench.later(2 * 3600);
    assert_eq!((bench.standing(&source).await, bench.news().await.len()), (Standing::default(), 0));
    scheduler::run_due(&bench.hub, 10).await.unwrap();
    switch(true).await;
    // From when it was last seen disabled.
    let expected = Standing { next_expected_at: at("2030-01-01T02:05:00Z"), ..Standing::default() };
    assert_eq!((bench.standing(&source).await, bench.news().await.len()), (expected, 0));
    bench.later(65 * 60);
    assert_eq!((actions(&bench.news().await), bench.counted().await), (vec!["source.overdue"], 1));

    let id = {
        let mut conn = bench.hub.db().conn().await.unwrap();
        schedules::get_for_source(&mut conn, &Scope::All, &source).await.unwrap().id
    };
    let change = Change { enabled: Some(false), ..Change::default() };
    kept::update(&bench.hub, &bench.who, &Scope::All, &id, change).await.unwrap();
    bench.later(24 * 3600);
    assert_eq!((bench.standing(&source).await, bench.counted().await), (Standing::default(), 0));
    assert_eq!(bench.news().await.len(), 1);
    let change = Change { enabled: Some(true), ..Change::default() };
    kept::update(&bench.hub, &bench.who, &Scope::All, &id, change).await.unwrap();
    assert_eq!((bench.standing(&source).await.overdue, bench.news().await.len()), (false, 1));
}

async fn one_without_a_schedule_has_its_last_success(bench: Bench) {
    let source = bench.source().await;
    assert_eq!(bench.standing(&source).await, Standing::default());
    bench.later(60);
    bench.backed_up(&source, 0).await;
    bench.later(60);
    bench.backed_up(&source, 1).await;
    bench.later(365 * 24 * 3600);
    let expected = Standing { last_success_at: at("2030-01-01T00:01:00Z"), ..Standing::default() };
    assert_eq!(bench.standing(&source).await, expected);
    assert!(bench.news().await.is_empty());
}

async fn many_hubs_tell_it_once(bench: Bench) {
    let mut all = Vec::new();
    for _ in 0..50 {
        all.push(bench.watched(5).await);
    }
    let race = async |bench: &Bench| {
        let hubs = [bench.hub.clone(), bench.another_hub().await, bench.another_hub().await];
        let racing = hubs.map(|hub| tokio::spawn(async move { while watch(&hub, 20).await.unwrap() > 0 {} }));
        for hub in racing {
            hub.await.unwrap();
        }
    };
    bench.later(2 * 3600);
    race(&bench).await;
    assert_eq!((bench.news().await.len(), bench.counted().await), (50, 50));
    for source in &all {
        bench.backed_up(source, 0).await;
    }
    race(&bench).await;
    let news = bench.news().await;
    assert_eq!(news.iter().filter(|(action, _)| action == "source.recovered").count(), 50);
    assert_eq!((news.len(), bench.counted().await), (100, 0));
}

on_both_engines!(
    a_source_without_a_snapshot_is_overdue_and_recovers,
    a_source_that_is_backed_up_in_time_is_no_news,
    of_what_is_disabled_nothing_is_expected,
    one_without_a_schedule_has_its_last_success,
    many_hubs_tell_it_once,
);
