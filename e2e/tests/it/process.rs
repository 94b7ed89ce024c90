//! A program of the fleet as a process of its own, with its output in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xvault_testkit::tools;

use crate::wait::{eventually, until};

/// Environment variables of a program.
pub(crate) type Env = Vec<(String, String)>;

/// A started program. Killed on drop.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `exe` with exactly `env`, and with what it prints going to the end of `log`.
    pub(crate) fn start(exe: &str, args: &[&str], env: &Env, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        // setpriv: the kernel ends it with the thread that started it, so nothing outlives tests that are killed.
        let mut command = tools::command("setpriv", ["--pdeathsig", "KILL", exe]);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has started that has not ended.
    pub(crate) fn children(&self) -> Vec<u32> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
            .collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends at once, as when the machine loses its power.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it where it stands, and waits until it does.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        until(10, "a stopped process", || self.state() == "T");
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn state(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How it ended, which must be within `span`.
    pub(crate) fn ended(&mut self, span: Duration) -> ExitStatus {
        eventually(span.as_secs(), "the program's end", || self.child.try_wait().unwrap())
    }

    /// All that it, and what was started before with the same log, printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
