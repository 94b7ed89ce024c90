//! What the private servers share: a free port, a start that waits for an answer, an end by the pid.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Below the ports that Linux gives to clients (32768 and up): a client that keeps connecting to a stopped server would
/// some day be given that very port, be connected to itself, and keep the server from coming back.
const PORTS: Range<u32> = 20_000..30_000;

/// How long a server may take to answer, on a machine that does other things too.
const START: Duration = Duration::from_secs(30);

/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(10);

/// Calls `launch` with ports found free until it gives something: another test may take a port before the server does.
pub(crate) fn on_free_port<T>(mut launch: impl FnMut(u16) -> Option<T>) -> Option<T> {
    (0..10).find_map(|_| launch(free_port()))
}

/// As [`on_free_port`], for a server that takes several.
pub(crate) fn on_free_ports<const N: usize, T>(mut launch: impl FnMut([u16; N]) -> Option<T>) -> Option<T> {
    (0..10).find_map(|_| launch(std::array::from_fn(|_| free_port())))
}

/// A port on 127.0.0.1 that nothing answers at, so far.
#[must_use]
pub fn unused_port() -> u16 {
    free_port()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let mut candidates = (PORTS.start..PORTS.end).map(|_| candidate());
    candidates.find(|port| is_free(*port)).expect("a free port on 127.0.0.1")
}

/// A port not named before, as far as that goes.
fn candidate() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // Test processes that run at the same time have pids close together.
    let offset = std::process::id().wrapping_mul(131).wrapping_add(number);
    u16::try_from(PORTS.start + offset % (PORTS.end - PORTS.start)).unwrap()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// 32 hexadecimal digits that nobody can guess, for a password in a URL.
pub(crate) fn random_password() -> String {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

/// A running server process; ended on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    end: Signal,
}

impl Process {
    /// Starts `command` and calls `answers` until it says so. `None` when the process ends first, as one does that finds
    /// its port taken. `end` is the signal that ends it.
    pub(crate) fn start(
        command: &mut Command,
        end: Signal,
        mut answers: impl FnMut() -> bool,
    ) -> Option<Self> {
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let mut process = Self { child, end };
        let deadline = Instant::now() + START;
        while process.runs() && Instant::now() < deadline {
            // An answer alone may be somebody else's.
            if answers() && process.runs() {
                return Some(process);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Does nothing when the process has ended: its pid may be somebody else's by now.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.runs() {
            let _ = rustix::process::kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Ends it by another signal than its usual one.
    pub(crate) fn end_by(mut self, signal: Signal) {
        self.end = signal;
    }

    fn ends_in_time(&mut self) -> bool {
        let deadline = Instant::now() + END;
        while self.runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        !self.runs()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.end);
        if !self.ends_in_time() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The processes that `pid` started, and theirs: they may outlive it.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = children.split_whitespace().map(|child| child.parse().unwrap()).collect();
    for child in all.clone() {
        all.extend(descendants(child));
    }
    all
}

/// Ends a process that this one did not start itself.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Whether a process has ended. Its entry may stay until whoever is responsible for it collects it.
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::command;

    #[test]
    fn one_that_ends_early_is_none_and_gets_another_port() {
        let mut ports = Vec::new();
        let started = on_free_port(|port| {
            ports.push(port);
            let program = if ports.len() < 3 { "false" } else { "sleep" };
            let ready = ports.len() == 3;
            Process::start(&mut command(program, ["600"]), Signal::KILL, || ready)
        });
        assert!(started.unwrap().runs());
        assert!(ports.len() == 3 && ports.iter().all(|port| PORTS.contains(&u32::from(*port))), "{ports:?}");
        assert_ne!(ports[0], ports[2]);
    }

    #[test]
    fn an_answer_of_somebody_else_is_not_taken_for_one_that_has_ended() {
        let mut asked = 0;
        let started = Process::start(&mut command("sleep", ["0.3"]), Signal::KILL, || {
            asked += 1;
            std::thread::sleep(Duration::from_millis(600));
            true
        });
        assert!(started.is_none() && asked <= 1, "{started:?}");
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(taken.local_addr().unwrap().port()));
        assert_ne!(free_port(), free_port());
    }
}
