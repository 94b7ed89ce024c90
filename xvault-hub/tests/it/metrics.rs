//! `/metrics`: there when it is needed most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use xvault_hub::queue::RedisQueue;
use xvault_testkit::Redis;

use crate::fake_worker::FakeWorker;
use crate::world::{Caller, World, serve};

async fn page(caller: &Caller) -> String {
    let answer = caller.get("/metrics").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.as_str().unwrap().to_owned()
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|found| found == line)
}

async fn metrics_answer_while_redis_does_not(world: World) {
    for number in 0..20 {
        world.operator.post("/api/v1/workers", json!({ "id": format!("w{number}") })).await.expect(201);
    }
    let redis = Redis::start();
    let queue = Arc::new(RedisQueue::new(&redis.url()).unwrap());
    let (hub, stop) = (world.another_hub(queue).await, CancellationToken::new());
    let caller = world.nobody().at(&serve(&hub, stop.clone()).await);
    let well = page(&caller).await;
    assert!(has(&well, "xvault_queue_reachable 1") && has(&well, "xvault_database_reachable 1"), "{well}");
    assert!(has(&well, r#"xvault_queue_depth{queue="xvault:worker:w19"} 0"#), "{well}");
    let stalled = tokio::task::spawn_blocking(move || {
        redis.stall(Duration::from_secs(8));
        redis
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let ill = page(&caller).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(has(&ill, "xvault_queue_reachable 0") && has(&ill, "xvault_database_reachable 1"), "{ill}");
    assert!(!ill.contains("xvault_queue_depth{") && ill.contains("xvault_http_requests_total{"), "{ill}");
    let mut redis = stalled.await.unwrap();
    redis.kill();
    assert!(has(&page(&caller).await, "xvault_queue_reachable 0"));
    redis.restart_empty();
    let mut back = false;
    for _ in 0..40 {
        back = has(&page(&caller).await, "xvault_queue_reachable 1");
        if back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(back);
    stop.cancel();
}

async fn metrics_answer_while_the_database_does_not(world: World) {
    world.db.close().await;
    let page = page(&world.nobody()).await;
    assert!(has(&page, "xvault_database_reachable 0") && has(&page, "xvault_queue_reachable 1"), "{page}");
}

async fn a_deleted_worker_is_not_watched(world: World) {
    for id in ["stays", "goes"] {
        FakeWorker::join(&world, id, &["ssh"]).await;
    }
    let of = |page: &str, id: &str| page.lines().filter(|line| line.contains(&format!("{id}\""))).count();
    let both = page(&world.nobody()).await;
    assert_eq!((of(&both, "stays"), of(&both, "goes")), (3, 3), "{both}");
    world.operator.delete("/api/v1/workers/goes").await.expect(204);
    let one = page(&world.nobody()).await;
    assert_eq!((of(&one, "stays"), of(&one, "goes")), (3, 0), "{one}");
}

on_both_engines!(
    metrics_answer_while_redis_does_not,
    metrics_answer_while_the_database_does_not,
    a_deleted_worker_is_not_watched,
);
