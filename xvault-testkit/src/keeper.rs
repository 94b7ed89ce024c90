//! A server's directory, which is gone, and its server ended, when this process ends in whatever way.
//!
//! A static is never dropped, and nothing is when a test run is killed. So a shell waits on a pipe that only this process
//! holds. The kernel's own signal for a parent's death will not do: it comes when the *thread* ends that started the server.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::tools::tool;

/// Prints when process `$1` started, in clock ticks since boot (field 22 of its `stat`); nothing when it has ended.
/// A pid alone may have been given to somebody else.
const STARTED: &str = r#"
started() {
    read -r stat <"/proc/$1/stat" || return
    set -- ${stat##*) }
    [ "$1" = Z ] || echo "${20}"
}
"#;

/// Becomes the server, and tells the keeper first. Without the directory there is nothing to tell, and no server.
const BECOME: &str = r#"
file=$1 && shift
echo "$$ $(started $$)" >"$file" && exec "$@"
"#;

/// Waits for the end of its input; ends what runs then, with signal `$2`; removes directory `$1`.
const KEEP: &str = r#"
dir=$1 signal=$2 pid= since= tries=0
echo kept
while read -r line; do :; done
[ -e "$dir/pid" ] && read -r pid since <"$dir/pid"
runs() { [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]; }
runs && kill "-$signal" "$pid"
while runs && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
runs && kill -KILL "$pid"
[ -e "$dir/litter" ] && while read -r file; do rm -f "$file"; done <"$dir/litter"
# Processes of a server that had to be killed may be writing still.
until rm -rf "$dir" || [ "$tries" -gt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
"#;

/// The directory of one server; removed on drop, and when this process ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    shell: Child,
}

impl Keeper {
    /// A new directory, readable for its owner only. `end` is the signal for a server that is left behind.
    pub(crate) fn new(prefix: &str, end: Signal) -> Self {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        let script = [STARTED, KEEP].concat();
        let end = end.as_raw().to_string();
        let args = [OsStr::new("-c"), OsStr::new(&script), OsStr::new("keeper"), dir.path().as_os_str()];
        let mut command = Command::new(tool("sh"));
        // In a group of its own: what interrupts or kills the test's group must not end its keeper.
        command.args(args).arg(end).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().expect("start a keeper");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "kept\n", "the keeper of a server's directory did not start");
        Self { dir: dir.keep(), shell }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// A command that starts `program` in the directory, under the keeper's eyes. Its pid is the program's.
    /// One at a time: the next one started is the one that is kept.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(tool("sh"));
        command.arg("-c").arg([STARTED, BECOME].concat()).arg("sh");
        command.arg(self.dir.join("pid")).arg(program);
        command.current_dir(&self.dir).stdin(Stdio::null()).process_group(0);
        command
    }

    /// As [`Keeper::command`], printing to the log. One that printed where the tests do would, left behind, keep whoever
    /// reads that waiting.
    pub(crate) fn server(&self, program: &Path) -> Command {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = self.command(program);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// Files that the server makes elsewhere, whatever it is told: they are removed with the directory.
    pub(crate) fn litter(&self, files: impl IntoIterator<Item = String>) {
        let lines: String = files.into_iter().map(|file| file + "\n").collect();
        std::fs::write(self.dir.join("litter"), lines).unwrap();
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the server logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Runs tests of this crate in a process of their own, to see what is left of them.
#[cfg(test)]
pub(crate) mod held {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::server::has_ended;

    const HOLD: &str = "XVAULT_TESTKIT_HOLD";
    const MARK: &str = "held: ";

    /// To be called by the test in the other process: tells its directory and server, and waits to be killed if it shall.
    pub(crate) fn show(dir: &Path, pid: u32) {
        match std::env::var(HOLD).as_deref() {
            Ok("show") => println!("\n{MARK}{pid} {}", dir.display()),
            Ok("wait") => {
                println!("\n{MARK}{pid} {}", dir.display());
                std::thread::sleep(Duration::from_secs(600));
            }
            _ => {}
        }
    }

    /// Asserts that nothing is left when the process of `test` exits, and when it is killed.
    pub(crate) fn assert_nothing_is_left_of(test: &str) {
        for hold in ["show", "wait"] {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "--nocapture", test]).env(HOLD, hold).stdin(Stdio::null());
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            let shown = lines.find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
            let (pid, dir) = shown.as_deref().and_then(|shown| shown.split_once(' ')).expect("a held server");
            let (pid, dir) = (pid.parse().unwrap(), Path::new(dir));
            if hold == "wait" {
                assert!(!has_ended(pid) && dir.join("pid").exists());
                child.kill().unwrap();
            }
            // Else the harness could not print its verdict.
            lines.for_each(drop);
            assert_eq!(child.wait().unwrap().success(), hold == "show");
            wait_until(|| !dir.exists(), "the directory is gone");
            assert!(has_ended(pid), "{hold}: the server lives");
        }
    }

    fn wait_until(mut holds: impl FnMut() -> bool, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "not in 20 seconds: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_left_behind_is_ended_and_its_directory_removed() {
        let keeper = Keeper::new("xvt-keeper", Signal::TERM);
        let dir = keeper.path().to_owned();
        let mut server = keeper.command(&tool("sleep")).arg("30").spawn().unwrap();
        let recorded = || std::fs::read_to_string(dir.join("pid")).is_ok_and(|line| line.ends_with('\n'));
        while !recorded() {
            std::thread::yield_now();
        }
        // Both halves of the record matter: another process may have the pid, but not since then.
        let record = std::fs::read_to_string(dir.join("pid")).unwrap();
        assert_eq!(record.split_whitespace().next(), Some(server.id().to_string().as_str()));
        drop(keeper);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait().unwrap()), Some(15));
        assert!(!dir.exists());
    }

    #[test]
    fn whoever_got_the_pid_since_is_left_alone() {
        let keeper = Keeper::new("xvt-keeper", Signal::KILL);
        let mut stranger = Command::new(tool("sleep")).arg("600").spawn().unwrap();
        std::fs::write(keeper.path().join("pid"), format!("{} 1\n", stranger.id())).unwrap();
        drop(keeper);
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
