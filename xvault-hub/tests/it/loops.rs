//! What hubs do by themselves, done by two of them at the same moment: nothing is done twice.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use xvault_core::protocol::{JobMessage, QueueName};
use xvault_hub::{Hub, Settings};

use crate::fake_worker::{FakeWorker, ssh_source};
use crate::world::{Dialect, Tenant, World, text};

/// Sources, and so jobs: enough that two hubs which do the same do it at the same time for some of them.
const COUNT: usize = 24;

/// Two hubs on one database and one queue, neither of which does anything by itself yet.
struct Pair {
    world: World,
    hubs: [Hub; 2],
    messages: Receiver<JobMessage>,
    acme: Tenant,
}

impl Pair {
    async fn start(engine: Dialect) -> Self {
        let patient = |settings: &mut Settings| settings.access_token = Duration::from_secs(1 << 30);
        let world = World::builder(engine).manual_clock().settings(patient).start().await;
        let hubs = [world.hub.clone(), world.another_hub(Arc::new(world.queue.clone())).await];
        let messages = world.queue.receiver(&QueueName::Shared).unwrap();
        let acme = world.tenant("acme").await;
        Self { world, hubs, messages, acme }
    }

    /// Runs the loops of both from the same moment on, until one message about each job was sent and a while longer.
    async fn run(&mut self) {
        self.run_for(0).await;
    }

    /// As [`Self::run`], with so many seconds going by once the loops run.
    async fn run_for(&mut self, seconds: u32) {
        let stop = CancellationToken::new();
        let loops = self.hubs.clone().map(|hub| {
            let stop = stop.clone();
            tokio::spawn(async move { hub.run_background(stop).await })
        });
        // In steps that no reaper takes for a sleep of the machine; it looks each second.
        for _ in 0..seconds.div_ceil(25) {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            self.world.clock.advance(Duration::from_secs(25));
        }
        let mut sent = Vec::new();
        let wait = |sent: &Vec<String>| if sent.len() < COUNT { 20_000 } else { 1500 };
        while let Ok(Some(message)) =
            tokio::time::timeout(Duration::from_millis(wait(&sent)), self.messages.recv()).await
        {
            sent.push(message.job_id.to_string());
        }
        stop.cancel();
        for ended in loops {
            ended.await.unwrap();
        }
        sent.sort();
        let mut jobs: Vec<_> = self.jobs().await.iter().map(|job| text(&job["id"])).collect();
        jobs.sort();
        assert_eq!(sent, jobs, "one message about each job");
        assert_eq!(jobs.len(), COUNT);
    }

    async fn jobs(&self) -> Vec<Value> {
        let list = self.acme.member.get("/api/v1/jobs?limit=200").await.expect(200);
        list["jobs"].as_array().unwrap().clone()
    }

    /// How often the audit log tells of an action.
    async fn told(&self, action: &str) -> usize {
        let page = self.acme.admin.get("/api/v1/audit-events?limit=200").await.expect(200);
        page["audit_events"].as_array().unwrap().iter().filter(|event| event["action"] == action).count()
    }
}

async fn two_hubs_do_each_thing_once(mut pair: Pair) {
    let worker = FakeWorker::join(&pair.world, "w1", &["ssh"]).await;
    for _ in 0..COUNT {
        let (_, source) = ssh_source(&pair.acme.admin).await;
        let schedule = json!({ "source_id": source, "interval_minutes": 5 });
        pair.acme.admin.post("/api/v1/schedules", schedule).await.expect(201);
    }
    let enqueued = pair.told("job.enqueue").await;

    // Schedules that are due: one job each, and one message about it.
    pair.world.clock.advance(Duration::from_secs(300));
    pair.run().await;
    assert_eq!((pair.told("job.enqueue").await - enqueued, pair.told("schedule.skip").await), (COUNT, 0));

    // Messages that were lost: one more each.
    pair.world.clock.advance(Duration::from_secs(61));
    pair.run().await;

    // Leases that run out, and hubs that have been there as long: each job is queued again, with one message.
    for job in pair.jobs().await {
        worker.claim(&text(&job["id"])).await;
    }
    pair.run_for(75).await;
    for job in pair.jobs().await {
        assert_eq!(
            (&job["status"], &job["attempt"], &job["error_code"]),
            (&json!("queued"), &json!(1), &json!("lease_expired")),
            "{job}"
        );
    }
}

/// A machine's clock is set, forth and back: the hub goes on by the database's.
async fn a_clock_that_jumps_is_set_right(world: World) {
    let off = || world.clock.millis().abs_diff(xvault_core::clock::now().as_millisecond());
    for jump in [60_000, -60_000] {
        let wrong = world.clock.millis() + jump;
        world.clock.correct(async { Ok::<_, std::convert::Infallible>(wrong) }).await.unwrap();
        assert!(off() > 50_000);
        let stop = CancellationToken::new();
        let (hub, token) = (world.hub.clone(), stop.clone());
        let loops = tokio::spawn(async move { hub.run_background(token).await });
        for _ in 0..400 {
            if off() < 10_000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(off() < 10_000, "{} ms", off());
        stop.cancel();
        loops.await.unwrap();
    }
}

on_both_engines!(a_clock_that_jumps_is_set_right);
on_both_engines!(super::Pair::start => two_hubs_do_each_thing_once);
