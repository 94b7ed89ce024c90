//! What a stranger can do to the port that downloads are served at: say nothing, come many times, read nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::header::RETRY_AFTER;
use xvault::core::ExportFormat;
use xvault::core::protocol::StoredFile;
use xvault_testkit::trees;
use xvault_worker::WorkerConfig;

use crate::downloads::Stage;
use crate::support::eventually;

const PATIENCE: Duration = Duration::from_secs(20);
/// Far more than what lies in the buffers of a connection.
const LARGE: u64 = 64 << 20;

async fn stage(tune: impl FnOnce(&mut WorkerConfig)) -> Stage {
    Stage::tuned(tune, |data| trees::random_file(&data.join("z.bin"), LARGE, 5)).await
}

/// A connection that has sent this.
fn connected(stage: &Stage, sent: &str) -> TcpStream {
    let mut line = TcpStream::connect(stage.base.strip_prefix("http://").unwrap()).unwrap();
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    line.write_all(sent.as_bytes()).unwrap();
    line
}

/// All that comes until the other side hangs up.
async fn rest(mut line: TcpStream) -> String {
    let read = move || {
        let mut all = Vec::new();
        line.read_to_end(&mut all).map(|_| String::from_utf8_lossy(&all).into_owned())
    };
    tokio::task::spawn_blocking(read).await.unwrap().unwrap()
}

const ASKED: &str = "GET /downloads/xvd_invented HTTP/1.1\r\nHost: w\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_say_what_he_wants_is_hung_up_on() {
    let stage = Stage::tuned(|config| config.download_stall = Duration::from_secs(1), |_| {}).await;
    for (sent, kind) in [("", "nothing"), (&ASKED[..30], "half a head"), (ASKED, "one request")] {
        let begun = Instant::now();
        let said = rest(connected(&stage, sent)).await;
        assert_eq!(said.starts_with("HTTP/1.1 404"), kind == "one request", "{kind}: {said}");
        assert!((900..15_000).contains(&begun.elapsed().as_millis()), "{kind}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many_connections_and_hears_why_it_gets_no_more() {
    let two = |config: &mut WorkerConfig| config.download_connections_per_address = 2.try_into().unwrap();
    let stage = Stage::tuned(two, |_| {}).await;
    let held = [connected(&stage, ""), connected(&stage, "")];
    let answer = rest(connected(&stage, "")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("Retry-After: 10"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["code"], "crowded", "{body}");
    drop(held);
    let link = stage.link(stage.stored(StoredFile::Index));
    assert!(eventually(|| rest_now(&stage, &link).starts_with("HTTP/1.1 200")).await);
}

/// The beginning of what a link gives on a connection of its own.
fn rest_now(stage: &Stage, link: &str) -> String {
    let path = link.strip_prefix(&stage.base).unwrap();
    let mut line = connected(stage, &format!("GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"));
    let mut first = [0; 12];
    line.read_exact(&mut first).map(|()| String::from_utf8_lossy(&first).into_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_there_is_room_for_wait() {
    let two = |config: &mut WorkerConfig| config.download_connections = 2.try_into().unwrap();
    let stage = Stage::tuned(two, |_| {}).await;
    let held = [connected(&stage, ""), connected(&stage, "")];
    let mut late = connected(&stage, ASKED);
    late.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    late.read(&mut [0; 1]).expect_err("there is no room");
    drop(held);
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut first = [0; 12];
    late.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 404");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_given_up_and_nothing_piles_up_for_it() {
    let tune = |config: &mut WorkerConfig| {
        config.downloads = 1.try_into().unwrap();
        config.download_stall = Duration::from_secs(3);
    };
    let stage = stage(tune).await;
    let link = stage.link(stage.archive(ExportFormat::Tar));
    let line = stage.begin(&link);
    let busy = stage.get(&link).await;
    assert_eq!((busy.status().as_u16(), busy.headers()[RETRY_AFTER].to_str().unwrap()), (503, "10"));
    assert_eq!(busy.json::<serde_json::Value>().await.unwrap()["code"], "busy");
    assert_eq!(stage.failure().await, "client_stalled");
    let job = stage.bench.hub.state().opened[0].clone();
    let most = stage.bench.hub.job(&job, |job| job.progress.iter().map(|seen| seen.bytes).max());
    assert!(most.is_some_and(|bytes| bytes > 0 && bytes < LARGE / 2), "{most:?} bytes were read for nobody");
    // Its place is free again.
    drop(line);
    assert!(eventually(|| rest_now(&stage, &link).starts_with("HTTP/1.1 200")).await);
}

/// One that reads all the time, and far too little, as who wants to keep the place does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_trickles_is_given_up_and_its_place_is_free() {
    let tune = |config: &mut WorkerConfig| {
        config.downloads = 1.try_into().unwrap();
        config.download_stall = Duration::from_secs(1);
        config.download_min_rate = 100 << 20;
    };
    let stage = stage(tune).await;
    let link = stage.link(stage.stored(StoredFile::Artifact));
    let mut line = stage.begin(&link);
    let trickle = move || {
        let (begun, mut buffer, mut all) = (Instant::now(), vec![0; 128 << 10], 0);
        while let Ok(read @ 1..) = line.read(&mut buffer) {
            all += read as u64;
            std::thread::sleep(Duration::from_millis(50));
        }
        (all, begun.elapsed())
    };
    let (all, took) = tokio::task::spawn_blocking(trickle).await.unwrap();
    assert!(all < LARGE && took < Duration::from_secs(20), "{all} bytes in {took:?}");
    assert!(took > Duration::from_secs(4), "a slow moment is no reason: {took:?}");
    assert!(eventually(|| rest_now(&stage, &link).starts_with("HTTP/1.1 200")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_a_stored_file_gives_its_place_back() {
    let tune = |config: &mut WorkerConfig| {
        config.downloads = 1.try_into().unwrap();
        config.download_stall = Duration::from_secs(1);
    };
    let stage = stage(tune).await;
    let link = stage.link(stage.stored(StoredFile::Artifact));
    let line = stage.begin(&link);
    assert_eq!(stage.get(&link).await.status(), 503);
    // It stays connected, as far as it is concerned.
    assert!(eventually(|| rest_now(&stage, &link).starts_with("HTTP/1.1 200")).await);
    drop(line);
}
