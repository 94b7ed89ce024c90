//! `/api/v1/jobs/{id}/events`: a job as it goes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xvault_hub::{StreamLimit, serve_http};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Caller, Dialect, World};

/// An event as a browser would see it.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

/// A stream that is being read.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(caller: &Caller, job: &str, last: Option<&str>) -> Self {
        let response = caller.stream(&format!("/api/v1/jobs/{job}/events"), last).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event, within 10 s; none at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk()).await;
            let chunk = chunk.unwrap().unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn rest(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
    };
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Event { id: field("id")?.to_owned(), kind: field("event")?.to_owned(), data })
}

async fn a_job_is_followed_to_its_end(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let mut stream = Stream::open(&acme.member, &id, None).await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.kind.as_str(), &first.data["status"]), ("job", &json!("queued")));
    assert_eq!(first.data, acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200));
    let job = worker.claim(&id).await;
    let running = stream.next().await.unwrap();
    assert_eq!((running.kind.as_str(), &running.data["status"]), ("job", &json!("running")));
    worker.log(&job, 0..3).await;
    for seq in 0..3 {
        let log = stream.next().await.unwrap();
        assert_eq!((log.kind.as_str(), &log.data["seq"], log.id), ("log", &json!(seq), format!("1.{seq}")));
    }
    worker.progress(&job, "backup", 50).await;
    let moved = stream.next().await.unwrap();
    assert_eq!((moved.kind.as_str(), &moved.data["progress"]["bytes"]), ("job", &json!(50)));
    worker.log(&job, 3..4).await;
    worker.fail(&job, "disk_full", "no room").await;
    let rest = stream.rest().await;
    let last = rest.last().unwrap();
    assert_eq!((last.kind.as_str(), &last.data), ("end", &json!({ "status": "failed" })));
    let logs: Vec<_> =
        rest.iter().filter(|event| event.kind == "log").map(|event| &event.data["seq"]).collect();
    assert_eq!(logs, [3]);
    let job = rest.iter().rfind(|event| event.kind == "job").unwrap();
    assert_eq!((&job.data["status"], &job.data["error_code"]), (&json!("failed"), &json!("disk_full")));
}

async fn a_reader_that_comes_back_misses_nothing(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let job = worker.claim(&id).await;
    // More than the stream reads at a time.
    for start in [0, 400, 800] {
        worker.log(&job, start..start + 400).await;
    }
    acme.member.post(&format!("/api/v1/jobs/{id}/cancel"), json!({})).await.expect(200);
    let all = Stream::open(&acme.member, &id, None).await.rest().await;
    let seqs = |events: &[Event]| -> Vec<u64> {
        events
            .iter()
            .filter(|event| event.kind == "log")
            .map(|event| event.data["seq"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(seqs(&all), (0..1200).collect::<Vec<_>>());
    assert_eq!(all.last().unwrap().data, json!({ "status": "canceled" }));
    let rest = Stream::open(&acme.member, &id, Some("1.1100")).await.rest().await;
    assert_eq!(seqs(&rest), (1101..1200).collect::<Vec<_>>());
    // What is no id of ours starts from the beginning.
    let rest = Stream::open(&acme.member, &id, Some("nonsense")).await.rest().await;
    assert_eq!(rest.len(), all.len());
}

/// A stream of `caller` that has begun, of a job that nobody works on.
async fn begun(caller: &Caller, job: &str) -> Stream {
    let mut stream = Stream::open(caller, job, None).await;
    assert_eq!(stream.next().await.unwrap().kind, "job");
    stream
}

/// What the stream ends with, which is a close.
async fn closed(mut stream: Stream) -> Value {
    let rest = stream.rest().await;
    let last = rest.last().unwrap();
    assert_eq!((last.kind.as_str(), last.id.as_str()), ("close", "-1.-1"), "{rest:?}");
    last.data["reason"].clone()
}

async fn a_stream_ends_with_its_callers_rights(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let key = acme.owner.post("/api/v1/api-keys", json!({ "name": "k", "role": "member" })).await.expect(201);
    let program = world.nobody().with_token(key["key"].as_str().unwrap());
    let mut untouched = begun(&acme.owner, &id).await;
    let streams = [begun(&program, &id).await, begun(&acme.member, &id).await, begun(&acme.admin, &id).await];
    acme.owner.delete(&format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap())).await.expect(204);
    let user = |caller: &Caller| format!("/api/v1/users/{}", caller.user_id);
    acme.owner.put(&user(&acme.member), json!({ "status": "disabled" })).await.expect(200);
    acme.owner.put(&user(&acme.admin), json!({ "role": "member" })).await.expect(200);
    for stream in streams {
        assert_eq!(closed(stream).await, "access_ended");
    }
    acme.owner.post(&format!("/api/v1/jobs/{id}/cancel"), json!({})).await.expect(200);
    assert_eq!(untouched.rest().await.last().unwrap().kind, "end");
}

async fn a_stream_ends_when_its_time_is_up_or_the_hub_stops(engine: Dialect) {
    let world = World::builder(engine).manual_clock().start().await;
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn({
        let (hub, stop) = (world.hub.clone(), stop.clone());
        async move { serve_http(&hub, listener, stop).await }
    });
    let (first, second) = (begun(&acme.member, &id).await, begun(&acme.member.at(&base), &id).await);
    stop.cancel();
    assert_eq!(closed(second).await, "stopping");
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(closed(first).await, "time_up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_streams_are_open() {
    let limit = StreamLimit { per_caller: 2, per_tenant: 3, total: 100 };
    let world =
        World::builder(Dialect::Sqlite).settings(|settings| settings.stream_limit = limit).start().await;
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let path = format!("/api/v1/jobs/{id}/events");
    let mut streams = vec![begun(&acme.member, &id).await, begun(&acme.member, &id).await];
    let answer = acme.member.begin(&path).await;
    assert_eq!(answer.headers["retry-after"], "10");
    let refusal = answer.refused(429, "rate_limited");
    assert!(refusal["error"].as_str().unwrap().starts_with("you have 2 streams open"), "{refusal}");
    streams.push(begun(&acme.admin, &id).await);
    acme.owner.begin(&path).await.refused(429, "rate_limited");
    begun(&world.operator, &id).await;
    drop(streams);
    // The hub learns that nobody reads any more with the next thing that it sends.
    acme.owner.post(&format!("/api/v1/jobs/{id}/cancel"), json!({})).await.expect(200);
    let mut rounds = 0..100;
    while acme.owner.begin(&path).await.status != 200 {
        rounds.next().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

on_both_engines!(
    a_job_is_followed_to_its_end,
    a_reader_that_comes_back_misses_nothing,
    a_stream_ends_with_its_callers_rights,
);
on_both_engines!(std::future::ready => a_stream_ends_when_its_time_is_up_or_the_hub_stops);
