//! Messages through a real Redis that comes late, stalls, dies and forgets.

use std::sync::Arc;
use std::time::Duration;

use apalis_core::error::BoxDynError;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_redis::{Config, RedisStorage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xvault_core::protocol::{JobMessage, QueueName};
use xvault_hub::Hub;
use xvault_hub::queue::{JobQueue, RedisQueue};
use xvault_testkit::Redis;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Caller, Dialect, World, serve, text};

/// A second hub on the world's database whose messages go through Redis.
struct Fleet {
    world: World,
    redis: Redis,
    queue: Arc<RedisQueue>,
    hub: Hub,
    member: Caller,
    admin: Caller,
    stop: CancellationToken,
}

impl Fleet {
    async fn start(dialect: Dialect, redis: Redis) -> Self {
        let world = World::builder(dialect)
            .manual_clock()
            .settings(|settings| {
                settings.access_token = Duration::from_secs(1 << 30);
                // A job that is claimed stays so when the clock moves.
                settings.lease = Duration::from_secs(3600);
            })
            .start()
            .await;
        let acme = world.tenant("acme").await;
        let queue = Arc::new(RedisQueue::new(&redis.url()).unwrap());
        let hub = world.another_hub(queue.clone()).await;
        let stop = CancellationToken::new();
        let base = serve(&hub, stop.clone()).await;
        let (member, admin) = (acme.member.at(&base), acme.admin.at(&base));
        Self { world, redis, queue, hub, member, admin, stop }
    }

    async fn job(&self) -> String {
        let (_, source) = ssh_source(&self.admin).await;
        enqueue(&self.member, &source).await
    }

    /// The jobs that messages in the shared queue are about, each as often as there are such messages.
    fn messages(&self) -> Vec<String> {
        let values = self.redis.cli(&["HVALS", "xvault:jobs:data"]);
        let id = |line: &str| serde_json::from_str::<Value>(line).map(|message| text(&message["job_id"]));
        let mut ids: Vec<_> =
            values.lines().filter(|line| !line.is_empty()).map(|line| id(line).unwrap()).collect();
        ids.sort();
        ids
    }

    async fn until_messages(&self, expected: &[&str]) {
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        for _ in 0..400 {
            if self.messages() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?} never became {expected:?}", self.messages());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn a_hub_works_without_redis_and_makes_up_for_it(dialect: Dialect) {
    let mut redis = Redis::start();
    redis.kill();
    // Redis is down when the hub starts, and while jobs are made.
    let mut fleet = Fleet::start(dialect, redis).await;
    let before = std::time::Instant::now();
    let first = fleet.job().await;
    assert!(before.elapsed() < Duration::from_secs(3), "a request waited for Redis: {:?}", before.elapsed());
    let background = tokio::spawn({
        let (hub, stop) = (fleet.hub.clone(), fleet.stop.clone());
        async move { hub.run_background(stop).await }
    });
    // It comes up: what waits is sent.
    fleet.redis.restart_empty();
    fleet.until_messages(&[&first]).await;
    let second = fleet.job().await;
    fleet.until_messages(&[&first, &second]).await;
    // It dies and comes back with nothing: what is still queued is sent again when it is due, the claimed one is not.
    fleet.redis.restart_empty();
    assert_eq!(fleet.messages(), Vec::<String>::new());
    let worker = FakeWorker::join(&fleet.world, "w1", &["ssh"]).await;
    worker.claim(&first).await;
    fleet.world.clock.advance(Duration::from_secs(61));
    worker_lives(&worker, &fleet.world).await;
    fleet.until_messages(&[&second]).await;
    fleet.stop.cancel();
    background.await.unwrap();
}

/// The clock has moved: its worker would be thought dead.
async fn worker_lives(worker: &FakeWorker, world: &World) {
    let metrics = json!({ "cpu_percent": 0.0, "memory_bytes": 0, "memory_total_bytes": 0, "disk_free_bytes": 0,
        "disk_total_bytes": 0, "active_jobs": 1 });
    let body = json!({ "worker_id": worker.id, "draining": false, "metrics": metrics });
    worker.caller.post("/internal/workers/heartbeat", body).await.expect(200);
    assert_eq!(world.operator.get("/api/v1/workers/w1").await.expect(200)["status"], "online");
}

/// apalis-redis fetches nothing at all from a queue of 8,000 messages: it never gets there.
async fn a_full_queue_takes_no_more(dialect: Dialect) {
    let fleet = Fleet::start(dialect, Redis::start()).await;
    let fill = "for i = 1, 2000 do redis.call('ZADD', KEYS[1], 0, 'old-' .. i) end";
    let _ = fleet.redis.cli(&["EVAL", fill, "1", "xvault:jobs:scheduled"]);
    assert_eq!(fleet.queue.depth(&QueueName::Shared).await.unwrap(), 2000);
    let job = fleet.job().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fleet.messages(), Vec::<String>::new());
    let background = tokio::spawn({
        let (hub, stop) = (fleet.hub.clone(), fleet.stop.clone());
        async move { hub.run_background(stop).await }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(fleet.messages(), Vec::<String>::new(), "the reconciler fills a full queue");
    let _ = fleet.redis.cli(&["DEL", "xvault:jobs:scheduled"]);
    fleet.until_messages(&[&job]).await;
    fleet.stop.cancel();
    background.await.unwrap();
}

async fn nothing_in_redis_is_secret(dialect: Dialect) {
    let fleet = Fleet::start(dialect, Redis::start()).await;
    let job = fleet.job().await;
    fleet.until_messages(&[&job]).await;
    let worker = FakeWorker::join(&fleet.world, "w1", &["ssh"]).await;
    worker.back_up(&job).await;
    let dump = fleet.redis.dump();
    assert!(dump.contains(&job), "{dump}");
    for secret in ["test-pass", "dGVzdC1wYXNz", "AGE-SECRET-KEY", "xvw_", "h.example"] {
        assert!(!dump.contains(secret), "{secret} lies in Redis");
    }
}

on_both_engines!(
    std::future::ready =>
    a_hub_works_without_redis_and_makes_up_for_it,
    a_full_queue_takes_no_more,
    nothing_in_redis_is_secret
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_told_in_seconds_and_a_stall_is_waited_out() {
    let mut redis = Redis::start();
    let queue = RedisQueue::new(&redis.url()).unwrap();
    let message = || JobMessage { job_id: "j1".parse().unwrap() };
    queue.push(&QueueName::Shared, message()).await.unwrap();
    // A stall that is shorter than our patience goes unnoticed, though redis-rs alone would give up after half a second.
    let pushed = std::thread::scope(|scope| {
        let stall = scope.spawn(|| redis.stall(Duration::from_millis(1500)));
        std::thread::sleep(Duration::from_millis(100));
        let pushed = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current()
                .block_on(queue.push(&QueueName::Worker("w1".parse().unwrap()), message()))
        });
        stall.join().unwrap();
        pushed
    });
    pushed.unwrap();
    assert_eq!(queue.depth(&QueueName::Shared).await.unwrap(), 1);
    redis.kill();
    for _ in 0..2 {
        let start = std::time::Instant::now();
        let error = queue.push(&QueueName::Shared, message()).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert!(error.to_string().contains("xvault:jobs"), "{error}");
    }
    redis.restart_empty();
    let mut sent = false;
    for _ in 0..40 {
        sent = queue.push(&QueueName::Shared, message()).await.is_ok();
        if sent {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    // What was given up before has poisoned nothing: it did arrive.
    assert!(sent && queue.depth(&QueueName::Shared).await.unwrap() == 1);
    assert!(!format!("{queue:?}").contains("xvault-test"));
}

/// Seconds since 1970, as Redis has it.
fn now(redis: &Redis) -> i64 {
    redis.cli(&["TIME"]).lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn finished_messages_leave_nothing_behind() {
    let redis = Redis::start();
    let queue = RedisQueue::new(&redis.url()).unwrap();
    queue.push(&QueueName::Shared, JobMessage { job_id: "waits".parse().unwrap() }).await.unwrap();
    // As apalis leaves them: finished an hour ago, or just now.
    let now = now(&redis);
    for (set, status) in [("done", "Done"), ("dead", "Killed")] {
        for (age, done_at) in [("old", now - 3600), ("new", now)] {
            let id = format!("{age}-{set}");
            let _ = redis.cli(&["HSET", "xvault:jobs:data", &id, "{\"job_id\":\"done\"}"]);
            let meta = format!("xvault:jobs:meta:{id}");
            let _ = redis.cli(&["HSET", &meta, "status", status, "done_at", &done_at.to_string()]);
            let _ = redis.cli(&["SADD", &format!("xvault:jobs:{set}"), &id]);
        }
    }
    // More than are looked at in one go.
    let fill = "for i = 1, 2000 do redis.call('SADD', KEYS[1], i); redis.call('HSET', KEYS[2], i, '{}') end";
    let _ = redis.cli(&["EVAL", fill, "2", "xvault:jobs:done", "xvault:jobs:data"]);
    queue.clean(&QueueName::Shared).await.unwrap();
    let left = redis.cli(&["HKEYS", "xvault:jobs:data"]);
    assert!(!left.contains("old") && left.lines().count() == 3, "{left}");
    assert_eq!(redis.cli(&["SMEMBERS", "xvault:jobs:done"]), "new-done");
    assert_eq!(redis.cli(&["SMEMBERS", "xvault:jobs:dead"]), "new-dead");
    assert_eq!(redis.cli(&["EXISTS", "xvault:jobs:meta:old-done", "xvault:jobs:meta:old-dead"]), "0");
    assert_eq!(redis.cli(&["EXISTS", "xvault:jobs:meta:new-done", "xvault:jobs:meta:new-dead"]), "2");
    assert_eq!(queue.depth(&QueueName::Shared).await.unwrap(), 1, "what waits goes on waiting");
}

#[tokio::test]
async fn consumers_that_ended_leave_nothing_behind() {
    let redis = Redis::start();
    let queue = RedisQueue::new(&redis.url()).unwrap();
    let now = now(&redis);
    // `lives` and `holds` were heard of; `gone` and `holds` have not been for two days; `left` was taken off the list.
    for (name, heard) in
        [("lives", Some(now)), ("gone", Some(now - 172_800)), ("holds", Some(now - 172_800)), ("left", None)]
    {
        for queue in ["xvault:jobs", "xvault:worker:w1"] {
            let _ = redis.cli(&[
                "HSET",
                &format!("{queue}:workers:metadata:{name}"),
                "backend_name",
                "x",
                "service",
                "y",
            ]);
            if let Some(heard) = heard {
                let _ = redis.cli(&["ZADD", &format!("{queue}:workers"), &heard.to_string(), name]);
            }
        }
    }
    let _ = redis.cli(&["SADD", "xvault:jobs:inflight:holds", "a-message"]);
    queue.clean(&QueueName::Shared).await.unwrap();
    let keys = redis.cli(&["KEYS", "xvault:jobs:workers:metadata:*"]);
    assert!(keys.contains("lives") && keys.contains("holds") && keys.lines().count() == 2, "{keys}");
    assert_eq!(redis.cli(&["ZRANGE", "xvault:jobs:workers", "0", "-1"]), "holds\nlives");
    assert_eq!(redis.cli(&["SMEMBERS", "xvault:jobs:inflight:holds"]), "a-message");
    let others = redis.cli(&["KEYS", "xvault:worker:w1:workers:metadata:*"]);
    assert_eq!(others.lines().count(), 4, "another queue's are not touched: {others}");
}

/// A consumer that can't be served, as when the hub is away: its message is to be handled again.
async fn refuse(_: JobMessage, consumer: WorkerContext) -> Result<(), BoxDynError> {
    consumer.stop()?;
    Err("the hub can't be asked".into())
}

/// A consumer that takes one message.
async fn take(_: JobMessage, consumer: WorkerContext) -> Result<(), BoxDynError> {
    Ok(consumer.stop()?)
}

async fn storage(redis: &Redis) -> RedisStorage<JobMessage> {
    let client = redis::Client::open(redis.url()).unwrap();
    let connection = redis::aio::ConnectionManager::new(client).await.unwrap();
    let config = Config::default().queue(QueueName::Shared.to_string()).batch_size(1);
    RedisStorage::new(connection)
        .with_config(config.heartbeat_interval(Duration::from_secs(1)).emit_events(false))
}

/// What apalis counts as failed waits to be handled again, for as long as nobody could ask the hub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_to_be_handled_again_survives_the_janitor() {
    let redis = Redis::start();
    let queue = RedisQueue::new(&redis.url()).unwrap();
    queue.push(&QueueName::Shared, JobMessage { job_id: "j1".parse().unwrap() }).await.unwrap();
    let patience = Duration::from_secs(30);
    let refusing = WorkerBuilder::new("refuses").backend(storage(&redis).await).build(refuse);
    tokio::time::timeout(patience, refusing.run()).await.unwrap().unwrap();
    let id = redis.cli(&["ZRANGE", "xvault:jobs:scheduled", "0", "-1"]);
    let meta = format!("xvault:jobs:meta:{id}");
    assert_eq!(redis.cli(&["HGET", &meta, "status"]), "Failed");
    // An hour of it.
    let _ = redis.cli(&["HSET", &meta, "done_at", &(now(&redis) - 3600).to_string()]);
    queue.clean(&QueueName::Shared).await.unwrap();
    assert_eq!(redis.cli(&["HEXISTS", "xvault:jobs:data", &id]), "1", "its bytes are gone");
    let taking = WorkerBuilder::new("takes").backend(storage(&redis).await).build(take);
    tokio::time::timeout(patience, taking.run()).await.unwrap().unwrap();
    assert_eq!(redis.cli(&["SMEMBERS", "xvault:jobs:done"]), id);
}
