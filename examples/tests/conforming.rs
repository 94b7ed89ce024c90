//! The connector of this crate passes the suite that is published for sources, on a web server that is Python's.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use xvault::connectors::Source;
use xvault::connectors::conformance::{self, SourceBench};
use xvault_examples::http_directory::HttpDirectory;
use xvault_testkit::{FaultProxy, tools, trees};

/// Serves a directory until it is dropped.
struct WebServer {
    child: Child,
    port: u16,
}

impl WebServer {
    fn start(root: &Path) -> Self {
        let args = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"];
        let mut command = tools::command("python3", args);
        let mut child =
            command.current_dir(root).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // "Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ..."
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1).unwrap();
        Self { port: port.parse().unwrap(), child }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tree with a file that the server lists and does not give.
fn site(root: &Path) {
    trees::small_files(&root.join("small files"), 20, 700);
    trees::random_file(&root.join("l\u{e4}rge & odd?#.bin"), 12 << 20, 3);
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("nothing"), "").unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
}

#[tokio::test]
async fn a_connector_of_ones_own_conforms() {
    let root = tempfile::tempdir().unwrap();
    site(root.path());
    let server = WebServer::start(root.path());
    let proxy = FaultProxy::start(server.port);
    drop(rustls::crypto::ring::default_provider().install_default());
    let at = |port: u16, path: &str| -> Box<dyn Source> {
        let url = format!("http://127.0.0.1:{port}/{path}");
        Box::new(HttpDirectory(url.parse().unwrap(), reqwest::Client::new()))
    };
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let bench = SourceBench::new(|| at(proxy.port, ""))
        .unreadable(&["127.0.0.1/broken"])
        .fetched(|| proxy.bytes_to_client(), 8 << 20)
        .refused(|| at(proxy.port, "no/such/directory/"))
        .away(|| at(nobody, ""));
    conformance::source(&bench).await.unwrap();
}

#[test]
fn backup_website_backs_up_what_the_server_lists() {
    let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    site(root.path());
    let server = WebServer::start(root.path());
    let url = format!("http://127.0.0.1:{}/", server.port);
    let mut program = Command::new(env!("CARGO_BIN_EXE_backup_website"));
    let printed = tools::run(program.arg(&url).arg(store.path().join("store")));
    let bytes = 20 * 700 + (12 << 20);
    assert_eq!(String::from_utf8(printed).unwrap(), format!("22 files, {bytes} bytes, 1 warnings\n"));
}
