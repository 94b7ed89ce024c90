//! `xvault up`, by the lines of the README, as they are printed.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xvault_testkit::tools::tool;
use xvault_testkit::{Sshd, trees};

/// `xvault up`, stopped on drop.
struct Up {
    child: Child,
    port: u16,
}

impl Up {
    /// Starts it in `dir`, as a user would, and waits for what it announces.
    fn start(dir: &Path) -> (Self, String) {
        Self::start_with(dir, &[])
    }

    fn start_with(dir: &Path, more: &[&str]) -> (Self, String) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_xvault"))
            .args(["up", "--listen", &format!("127.0.0.1:{port}"), "--allow-local"])
            .arg(dir)
            .args(more)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::from(std::fs::File::create(dir.join("up.log")).unwrap()))
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut first).unwrap();
        (Self { child, port }, first)
    }

    /// SIGTERM, and what it ends with.
    fn stop(mut self) -> std::process::ExitStatus {
        let _ = Command::new(tool("kill")).arg(self.child.id().to_string()).status().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "it does not stop"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The block of the README that is marked as `name`.
fn block(name: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let marked = readme.split(&format!("<!-- tested: {name} -->\n```sh\n")).nth(1).unwrap().to_owned();
    marked.split("```").next().unwrap().to_owned()
}

/// Runs the lines in `dir`, in a shell that stops at the first failure, and gives what they print.
fn shell(dir: &Path, lines: &str) -> String {
    let mut shell = Command::new(tool("bash"));
    shell.args(["-euo", "pipefail", "-c", lines]).current_dir(dir).env("HOME", dir);
    let output = shell.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(dir.join("up.log")).unwrap_or_default();
    assert!(output.status.success(), "{stdout}\n{stderr}\nof the service:\n{log}");
    stdout.into_owned()
}

fn with_docs() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    trees::small_files(&docs, 5, 100);
    std::fs::write(docs.join("letter.txt"), "Dear reader").unwrap();
    (dir, docs)
}

#[test]
fn the_readmes_lines_back_up_a_directory_and_a_server() {
    for program in ["curl", "jq", "age", "zstd"] {
        let _ = tool(program);
    }
    let (dir, docs) = with_docs();
    let sshd = Sshd::builder().start();
    std::fs::write(sshd.home.join("index.html"), "<p>shop</p>").unwrap();
    std::fs::create_dir(dir.path().join(".ssh")).unwrap();
    std::fs::copy(&sshd.key_path, dir.path().join(".ssh/backup")).unwrap();
    let (up, announced) = Up::start(dir.path());
    assert_eq!(
        announced,
        format!(
            "xvault is up: http://127.0.0.1:{0} (the API is described at http://127.0.0.1:{0}/docs)\n",
            up.port
        )
    );

    // What differs from the printed lines: the port, and the server that a reader would fill in.
    let address = |lines: String| lines.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", up.port));
    let (service, by_hand) = (address(block("service")), block("by hand"));
    let get_back = block("get it back");
    let server = block("server")
        .replace("shop.example", "127.0.0.1")
        .replace("\"port\": 22", &format!("\"port\": {}", sshd.port))
        .replace("\"web\"", &format!("{:?}", sshd.user))
        .replace("/srv/www", sshd.home.to_str().unwrap());

    let local = shell(dir.path(), &format!("{service}\n{by_hand}"));
    assert!(local.contains("\"status\": \"completed\""), "{local}");
    assert!(local.contains("docs/letter.txt\n"), "{local}");
    let back = shell(dir.path(), &format!("{service}\n{get_back}"));
    assert!(back.contains("docs/letter.txt\n"), "{back}");
    let letter = dir.path().join("restored").join(docs.strip_prefix("/").unwrap()).join("letter.txt");
    assert_eq!(std::fs::read(letter).unwrap(), b"Dear reader");
    let remote = shell(dir.path(), &format!("{service}\n{server}\n{by_hand}"));
    assert!(remote.contains("index.html\n"), "{remote}");

    assert!(up.stop().success());
    let log = std::fs::read_to_string(dir.path().join("up.log")).unwrap();
    let first_login = std::fs::read_to_string(dir.path().join("xvault-data/first-login.json")).unwrap();
    let password = first_login.split('"').nth(7).unwrap();
    assert!(!log.contains(password), "{log}");
}

#[test]
fn a_second_start_keeps_everything_and_makes_no_new_login() {
    let (dir, _docs) = with_docs();
    let (first, _) = Up::start(dir.path());
    assert!(first.stop().success());
    let kept = |name: &str| std::fs::read(dir.path().join("xvault-data").join(name)).unwrap();
    let (kek, login) = (kept("kek.txt"), kept("first-login.json"));
    let (mut second, _) = Up::start(dir.path());
    assert_eq!((kept("kek.txt"), kept("first-login.json")), (kek, login));
    // A third beside the second is refused.
    let third =
        Command::new(env!("CARGO_BIN_EXE_xvault")).arg("up").current_dir(dir.path()).output().unwrap();
    assert_eq!(third.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&third.stderr).into_owned();
    assert!(complaint.contains("in use by another `xvault up`"), "{complaint}");
    let mut rest = String::new();
    if let Some(mut output) = second.child.stdout.take() {
        output.read_to_string(&mut rest).unwrap();
    }
    assert!(!rest.contains("password"), "{rest}");
    assert!(second.stop().success());
}

#[test]
fn a_foreign_kek_and_a_misspelt_setting_stop_it_by_name() {
    let (dir, _docs) = with_docs();
    assert!(Up::start(dir.path()).0.stop().success());
    let refused = |name: &str, value: &str| {
        let mut up = Command::new(env!("CARGO_BIN_EXE_xvault"));
        let output = up.arg("up").current_dir(dir.path()).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let foreign = xvault::core::Identity::generate();
    let key = xvault::core::secret::ExposeSecret::expose_secret(&foreign.to_secret()).to_owned();
    let complaint = refused("HUB_ENCRYPTION_KEK", &key);
    assert!(complaint.contains("HUB_ENCRYPTION_KEK") && !complaint.contains(&key), "{complaint}");
    assert!(refused("HUB_JWT_SECRET", "short").contains("HUB_JWT_SECRET"));
    assert!(refused("HUB_LEASE_SECOND", "3").contains("HUB_LEASE_SECONDS"));
    assert!(refused("WORKER_CONCURENCY", "3").contains("WORKER_CONCURRENCY"));
}

/// Runs `xvault up`, which must fail; what it says.
fn fails(dir: &Path, args: &[&str]) -> String {
    let mut up = Command::new(env!("CARGO_BIN_EXE_xvault"));
    let output = up.args(["up", "--listen", "127.0.0.1:0"]).args(args).current_dir(dir).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Logs in as the README does, and gives the HTTP status.
fn log_in(up: &Up, dir: &Path, login: &str) -> String {
    std::fs::write(dir.join("login.json"), login).unwrap();
    let lines = format!(
        "curl -sS -o /dev/null -w '%{{http_code}}' -H 'Content-Type: application/json' -d @login.json \
         http://127.0.0.1:{}/api/v1/auth/login",
        up.port
    );
    shell(dir, &lines)
}

fn kept_login(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("xvault-data/first-login.json")).unwrap()
}

#[test]
fn a_first_start_that_fails_loses_no_login() {
    let (dir, _docs) = with_docs();
    let complaint = fails(dir.path(), &["--allow-local", "./typo"]);
    assert!(complaint.contains("typo"), "{complaint}");
    // A login that can't be kept is none.
    let file = dir.path().join("xvault-data/first-login.json");
    std::fs::create_dir(&file).unwrap();
    let complaint = fails(dir.path(), &[]);
    assert!(complaint.contains("first-login.json"), "{complaint}");
    std::fs::remove_dir(&file).unwrap();
    // One of another database is replaced.
    std::fs::write(&file, r#"{"email":"operator@localhost","password":"of another day"}"#).unwrap();
    let (up, _) = Up::start(dir.path());
    assert_eq!(log_in(&up, dir.path(), &kept_login(dir.path())), "200");
    assert!(up.stop().success());
}

#[test]
fn a_lost_login_is_made_anew() {
    let (dir, _docs) = with_docs();
    assert!(Up::start(dir.path()).0.stop().success());
    let old = kept_login(dir.path());
    std::fs::remove_file(dir.path().join("xvault-data/first-login.json")).unwrap();
    let (up, _) = Up::start_with(dir.path(), &["--reset-login"]);
    let new = kept_login(dir.path());
    assert_ne!(new, old);
    assert_eq!((log_in(&up, dir.path(), &old), log_in(&up, dir.path(), &new)), ("401".into(), "200".into()));
    assert!(up.stop().success());
}
