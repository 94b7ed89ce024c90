//! A program of ours as a process of its own: started, watched, metered and stopped.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Linux counts CPU time in hundredths of a second towards programs, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);
/// How long a program may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(20);
/// As much of a log as is shown when something goes wrong.
const TAIL: usize = 4000;

/// A running program; told to stop on drop, and when this one ends.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `path`, with its output going to `log`, and with no variables but `env`.
    pub(crate) fn start(
        path: &Path,
        args: &[&str],
        env: &[(&str, &str)],
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(path).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("setpriv (Debian package util-linux)")?;
        Ok(Self { child, log })
    }

    /// Fails when the program has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.log.display(), self.log_tail()),
        }
    }

    /// The end of what it has said.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(TAIL);
        text.get(from..).unwrap_or(&text).to_owned()
    }

    /// What it has used until now.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        drop(Command::new("kill").arg(pid).status());
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Of all its threads, since it started.
    pub(crate) cpu: Duration,
    /// Resident now, in bytes.
    pub(crate) resident: u64,
    /// The most that ever was resident, in bytes.
    pub(crate) peak: u64,
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        // Fields 14 and 15 of proc(5), of which the third comes first here.
        let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        let ticks = ticks.sum::<Result<u32, _>>().context("/proc/PID/stat")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            cpu: TICK * ticks,
            resident: kibibytes(&status, "VmRSS:")?,
            peak: kibibytes(&status, "VmHWM:")?,
        })
    }
}

fn kibibytes(status: &str, key: &str) -> anyhow::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).context("/proc/PID/status")?;
    let count = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    Ok(count * 1024)
}

/// What share of all processors is busy, from now for a second, in percent. Blocks so long.
pub(crate) fn machine_busy() -> anyhow::Result<f64> {
    let before = processor_ticks()?;
    std::thread::sleep(Duration::from_secs(1));
    let after = processor_ticks()?;
    let (busy, all) = (after.0 - before.0, after.1 - before.1);
    Ok(100.0 * busy / all.max(1.0))
}

/// Busy and all, since the machine came up.
fn processor_ticks() -> anyhow::Result<(f64, f64)> {
    let mut text = String::new();
    File::open("/proc/stat")?.read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).map(str::parse::<f64>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>().context("/proc/stat")?;
    let all: f64 = ticks.iter().sum();
    // The fourth and fifth are idle, and idle while waiting for a disk.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}
