//! Messages of jobs that wait for long: sent again at once when their queue has lost them, and left alone when not.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xvault_core::protocol::QueueName;
use xvault_hub::Hub;
use xvault_hub::queue::{JobQueue, LocalQueue, RedisQueue};
use xvault_testkit::Redis;

use crate::fake_worker::{FakeWorker, enqueue, local_source, ssh_source};
use crate::world::{World, WorldBuilder};

/// Jobs that were queued half an hour ago, and whose next message is due in half an hour.
struct Backlog {
    world: World,
    shared: [String; 3],
    own: String,
}

impl Backlog {
    async fn gather(builder: WorldBuilder) -> Self {
        let world = builder.manual_clock().start().await;
        let acme = world.tenant("acme").await;
        FakeWorker::join(&world, "w1", &["local"]).await;
        let mut shared = Vec::new();
        for _ in 0..3 {
            let (_, source) = ssh_source(&acme.admin).await;
            shared.push(enqueue(&acme.member, &source).await);
        }
        let own = enqueue(&acme.member, &local_source(&world, &acme).await).await;
        let backlog = Self { world, shared: shared.try_into().unwrap(), own };
        backlog.until_depth(&backlog.world.queue, 3, 1).await;
        backlog.world.clock.advance(Duration::from_secs(32 * 60));
        let later = backlog.world.clock.millis() + 32 * 60_000;
        let wait = format!("UPDATE jobs SET enqueue_count = 5, push_at = {later}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(wait)).execute(&backlog.world.database.sql().await).await.unwrap();
        backlog
    }

    async fn until_depth(&self, queue: &dyn JobQueue, shared: u64, own: u64) {
        for _ in 0..400 {
            if depths(queue).await == (shared, own) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{:?} never became {:?}", depths(queue).await, (shared, own));
    }
}

fn own() -> QueueName {
    QueueName::Worker("w1".parse().unwrap())
}

async fn depths(queue: &dyn JobQueue) -> (u64, u64) {
    (queue.depth(&QueueName::Shared).await.unwrap(), queue.depth(&own()).await.unwrap())
}

/// Runs the loops of a hub until the end of the test.
fn run(hub: &Hub) -> (CancellationToken, JoinHandle<()>) {
    let (hub, stop) = (hub.clone(), CancellationToken::new());
    let token = stop.clone();
    (stop, tokio::spawn(async move { hub.run_background(token).await }))
}

async fn a_hub_that_starts_with_an_empty_queue_fills_it(world: WorldBuilder) {
    let backlog = Backlog::gather(world).await;
    let queue = LocalQueue::default();
    let hub = backlog.world.another_hub(Arc::new(queue.clone())).await;
    let (stop, loops) = run(&hub);
    backlog.until_depth(&queue, 3, 1).await;
    let mut sent = Vec::new();
    let mut shared = queue.receiver(&QueueName::Shared).unwrap();
    while let Ok(message) = shared.try_recv() {
        sent.push(message.job_id.to_string());
    }
    sent.sort();
    let mut expected = backlog.shared.to_vec();
    expected.sort();
    assert_eq!(sent, expected);
    assert_eq!(queue.receiver(&own()).unwrap().recv().await.unwrap().job_id.as_str(), backlog.own);
    stop.cancel();
    loops.await.unwrap();
}

async fn what_a_queue_still_holds_is_not_sent_again(world: WorldBuilder) {
    let backlog = Backlog::gather(world).await;
    let (stop, loops) = run(&backlog.world.hub);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(depths(&backlog.world.queue).await, (3, 1));
    stop.cancel();
    loops.await.unwrap();
    // One of three is gone: one is sent, for the job that waits longest.
    let mut shared = backlog.world.queue.receiver(&QueueName::Shared).unwrap();
    shared.recv().await.unwrap();
    let (stop, loops) = run(&backlog.world.hub);
    backlog.until_depth(&backlog.world.queue, 3, 1).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(depths(&backlog.world.queue).await, (3, 1));
    stop.cancel();
    loops.await.unwrap();
}

async fn redis_that_forgot_everything_is_filled(world: WorldBuilder) {
    let redis = Redis::start();
    let queue = Arc::new(RedisQueue::new(&redis.url()).unwrap());
    let backlog = Backlog::gather(world).await;
    let hub = backlog.world.another_hub(queue.clone()).await;
    let (stop, loops) = run(&hub);
    backlog.until_depth(&*queue, 3, 1).await;
    redis.flush_all();
    assert_eq!(depths(&*queue).await, (0, 0));
    // What was sent less than a minute ago is given that minute; jobs that waited for hours get no more.
    backlog.world.clock.advance(Duration::from_secs(61));
    stop.cancel();
    loops.await.unwrap();
    let (stop, loops) = run(&hub);
    backlog.until_depth(&*queue, 3, 1).await;
    stop.cancel();
    loops.await.unwrap();
}

on_both_engines!(
    crate::world::World::unstarted =>
    a_hub_that_starts_with_an_empty_queue_fills_it,
    what_a_queue_still_holds_is_not_sent_again,
    redis_that_forgot_everything_is_filled,
);
