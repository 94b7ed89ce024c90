//! Connections that say nothing, and more of them than there is room for.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xvault_core::Identity;
use xvault_core::secret::ExposeSecret as _;
use xvault_testkit::tools;

use crate::world::{Database, Dialect, JWT_SECRET, World};

/// A whole request, after which the connection stays open.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n";

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// How the answer begins, within `patience`.
async fn answered(connection: &mut TcpStream, patience: Duration) -> Option<String> {
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(patience, connection.read(&mut bytes)).await.ok()?.unwrap();
    Some(String::from_utf8_lossy(&bytes[..read]).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_silent_is_hung_up_on() {
    let silence = Duration::from_secs(1);
    let world = World::builder(Dialect::Sqlite).settings(|s| s.max_silence = silence).start().await;
    let first_half = &REQUEST[..20];
    for (sent, kind) in [(&b""[..], "nothing"), (first_half, "half a head"), (REQUEST, "one request")] {
        let begun = Instant::now();
        let mut connection = connect(&world).await;
        connection.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{kind}: the connection is still open");
        assert!(begun.elapsed() >= Duration::from_millis(900), "{kind}: {:?}", begun.elapsed());
        let served = String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 200");
        assert_eq!(served, kind == "one request", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_is_heard_out() {
    let silence = Duration::from_secs(5);
    let world = World::builder(Dialect::Sqlite).settings(|s| s.max_silence = silence).start().await;
    let (first_half, second_half) = REQUEST.split_at(20);
    let mut connection = connect(&world).await;
    connection.write_all(first_half).await.unwrap();
    tokio::time::sleep(silence / 5).await;
    connection.write_all(second_half).await.unwrap();
    assert!(answered(&mut connection, Duration::from_secs(10)).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_above_the_limit_wait_for_a_place() {
    let world = World::builder(Dialect::Sqlite).settings(|s| s.max_connections = 3).start().await;
    // The operator's login holds one.
    let mut open = [connect(&world).await, connect(&world).await];
    for connection in &mut open {
        connection.write_all(REQUEST).await.unwrap();
        assert!(answered(connection, Duration::from_secs(10)).await.unwrap().starts_with("HTTP/1.1 200"));
    }
    let mut late = connect(&world).await;
    late.write_all(REQUEST).await.unwrap();
    assert_eq!(answered(&mut late, Duration::from_millis(500)).await, None);
    drop(open);
    assert!(answered(&mut late, Duration::from_secs(10)).await.unwrap().starts_with("HTTP/1.1 200"));
}

/// Ended on drop.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 64 until somebody asks, and 200 for who does.
#[test]
fn connections_are_half_of_the_files_that_the_machine_allows() {
    let database = Database::make(Dialect::Sqlite);
    let script = r#"ulimit -Sn 64 && ulimit -Hn 200 && exec "$0" serve"#;
    let mut bash = tools::command("bash", ["-c", script, env!("CARGO_BIN_EXE_xvault-hub")]);
    bash.env_clear()
        .env("DATABASE_URL", &database.url)
        .env("HUB_AUTO_MIGRATE", "true")
        .env("HUB_ENCRYPTION_KEK", Identity::generate().to_secret().expose_secret())
        .env("HUB_JWT_SECRET", std::str::from_utf8(JWT_SECRET).unwrap())
        .env("HUB_LISTEN_ADDR", "127.0.0.1:0")
        // Nobody is there: jobs wait, and the hub serves.
        .env("REDIS_URL", "redis://127.0.0.1:1");
    let mut program = Program(bash.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let log = BufReader::new(program.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = log.take(100).find(|line| line.contains("limit of open files")).unwrap();
    for part in ["WARN", "wanted=4096", "room=100", "files=200"] {
        assert!(told.contains(part), "{told}");
    }
}
