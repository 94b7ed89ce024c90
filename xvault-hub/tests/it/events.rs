//! `/api/v1/jobs/{id}/events`: a job as it goes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Caller, World};

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

on_both_engines!(a_job_is_followed_to_its_end, a_reader_that_comes_back_misses_nothing);
