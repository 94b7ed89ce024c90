//! A server process that ends with whoever started it, even when that is killed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tools::tool;

/// Starts the server, and waits for its own input to end, which it does when the test's process does. Then the
/// server is stopped, and its directory removed unless the last line said `keep`.
const GUARD: &str = r#"
dir=$1 signal=$2; shift 2
"$@" </dev/null >>"$dir/server.log" 2>&1 &
pid=$!
echo $pid
last=
while read -r line; do last=$line; done
kill -s "$signal" "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
[ "$last" = keep ] || rm -rf "$dir"
"#;

/// A running server with its guard.
#[derive(Debug)]
pub(crate) struct Guarded {
    guard: Child,
    /// The server itself.
    pub(crate) pid: u32,
}

impl Guarded {
    /// Starts `argv` with its output going to `server.log` in `dir`; `signal` is what stops it in order.
    pub(crate) fn start(dir: &Path, signal: &str, argv: &[String]) -> Self {
        let mut command = Command::new(tool("bash"));
        command.args(["-c", GUARD, "guard"]).arg(dir).arg(signal).args(argv);
        // A group of its own: Ctrl-C in the terminal must not end the guard before the server.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut guard = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start bash");
        let mut line = String::new();
        let _ = BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { guard, pid: line.trim().parse().expect("the guard prints the server's pid") }
    }

    /// Whether the server has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// Stops the server in order; its directory stays.
    pub(crate) fn stop(mut self) {
        self.end("keep\n");
    }

    fn end(&mut self, last: &str) {
        if let Some(mut stdin) = self.guard.stdin.take() {
            let _ = stdin.write_all(last.as_bytes());
        }
        let _ = self.guard.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end("");
    }
}

/// Sends signal `name` to a process that the tests started.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new(tool("kill")).args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Asks `ready` until it says yes, the server ends, or 30 s are over.
pub(crate) fn wait_ready(server: &Guarded, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline && server.is_alive() {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// What the server printed so far.
pub(crate) fn log(dir: &Path) -> String {
    String::from_utf8_lossy(&fs::read(dir.join("server.log")).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_goes_with_its_guard_and_its_directory() {
        let dir = tempfile::tempdir().unwrap().keep();
        let server = Guarded::start(&dir, "TERM", &["sleep".into(), "600".into()]);
        let pid = server.pid;
        assert!(server.is_alive());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.exists());
    }

    #[test]
    fn a_stopped_server_leaves_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        Guarded::start(dir.path(), "TERM", &["sleep".into(), "600".into()]).stop();
        assert!(dir.path().exists());
    }
}
