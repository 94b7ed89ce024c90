//! Tools of others (`pg_dump`, `mysqldump`, their clients) at work: on this machine, or on an SSH server.
//!
//! - [`ToolOptions`]: which tools of this machine, and how they are held;
//! - `Call`: what is to be run, with its secret apart;
//! - `Running`: its output, its input, its end.

mod find;
mod local;
mod output;
mod remote;
mod sandbox;
mod version;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::Error;
use crate::ssh::{ExecEvent, ExecInput, Exit, Session};

pub(crate) use find::{authorities, found};
use local::{LocalInput, LocalTool};
use remote::RemoteTool;
pub(crate) use sandbox::weakness;
pub use version::Version;
pub(crate) use words::{Words, before};

/// A server works on one statement of what a tool loads for so long, such as the index of a large table: meanwhile the tool takes no more,
/// and says nothing. Whether the server is there is the connection's to find out.
pub(crate) const LONGEST_STATEMENT: Duration = Duration::from_secs(24 * 60 * 60);

/// More of what a tool says on standard error than this is not kept: the end of it is.
const MAX_COMPLAINT: usize = 16 << 10;

/// Which tools of this machine are used, and how they are held.
#[derive(Debug, Clone)]
pub struct ToolOptions {
    /// Where to look first.
    pub folders: Vec<PathBuf>,
    /// Whether to look in the system's usual places, too.
    pub usual_places: bool,
    /// Uses tools with known holes, which a hostile server can use against this machine.
    pub allow_outdated: bool,
    /// Without a byte for so long, a tool that reads from a database is given up. One that loads has nothing to say: a statement may take it
    /// a day.
    pub idle: Duration,
    /// Whom tools run as when this program is root: numeric user and group. Whoever that is should own nothing.
    pub run_as: (u32, u32),
    /// The most memory that a tool may take, in bytes: one row of a gigabyte takes some.
    pub memory: u64,
    /// Takes away with Landlock, where the kernel has it, what a tool does not need: files, writing, other ports than its server's.
    pub landlock: bool,
}

impl Default for ToolOptions {
    fn default() -> Self {
        const NOBODY: u32 = 65_534;
        Self {
            folders: Vec::new(),
            usual_places: true,
            allow_outdated: false,
            idle: Duration::from_secs(30 * 60),
            run_as: (NOBODY, NOBODY),
            memory: 6 << 30,
            landlock: true,
        }
    }
}

impl ToolOptions {
    /// The types of databases whose tools are on this machine: `postgres`, `mysql`.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        let has = |name: &str| !found(name, self).is_empty();
        let postgres = has("pg_dump") && has("psql");
        let mysql = (has("mariadb-dump") || has("mysqldump")) && (has("mariadb") || has("mysql"));
        [("postgres", postgres), ("mysql", mysql)]
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(kind, _)| kind)
            .collect()
    }

    /// How long a tool may say nothing.
    fn silence(&self, call: &Call) -> Duration {
        if call.takes_input { Duration::MAX } else { self.idle }
    }

    /// How long a tool may take none of its input.
    fn fullness(&self) -> Duration {
        self.idle.max(LONGEST_STATEMENT)
    }

    /// The user that tools run as.
    pub(crate) fn owner(&self) -> u32 {
        let own = rustix::process::geteuid();
        if own.is_root() { self.run_as.0 } else { own.as_raw() }
    }
}

/// What is to be run.
pub(crate) struct Call {
    /// A path on this machine, or a word that the SSH server's `PATH` knows.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// What of the environment matters; there is nothing else on this machine.
    pub(crate) env: Vec<(&'static str, String)>,
    /// A file that only the tool may read.
    pub(crate) secret: Option<Secret>,
    /// Certificates for the tool's file descriptor [`CA_PATH`]. Only on this machine.
    pub(crate) ca: Option<String>,
    /// Whether standard input will be written to.
    pub(crate) takes_input: bool,
    /// Whether it is to write in large pieces, where this machine has `stdbuf`. Only on this machine.
    pub(crate) writes_much: bool,
    /// The one port that it may connect to, on whatever host. Only on this machine.
    pub(crate) port: Option<u16>,
    /// What of its words may be told; all of them without.
    pub(crate) words: Option<Words>,
}

/// A file that only the tool may read, and how the tool is told where it is.
pub(crate) struct Secret {
    pub(crate) content: Zeroizing<Vec<u8>>,
    pub(crate) told: Told,
}

/// How a tool is told the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// By this variable of its environment.
    Env(&'static str),
    /// By this option in front of all others, which ends in `=`.
    FirstOption(&'static str),
}

/// Where a tool of this machine finds its secret, and where the certificates.
pub(crate) const SECRET_PATH: &str = "/proc/self/fd/3";
pub(crate) const CA_PATH: &str = "/proc/self/fd/4";

impl Call {
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            secret: None,
            ca: None,
            takes_input: false,
            writes_much: false,
            port: None,
            words: None,
        }
    }

    pub(crate) fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// The program's name, for messages.
    pub(crate) fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Where tools run.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Here, held by these options.
    Here(&'a ToolOptions),
    /// On an SSH server.
    There(&'a Session, &'a ToolOptions),
}

/// The standard input of a tool. A dropped one ends like one that was ended.
pub(crate) enum Input {
    Local(LocalInput),
    Remote(ExecInput),
}

impl Input {
    /// Waits while the tool takes nothing.
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        match self {
            Self::Local(input) => input.write(&data).await,
            Self::Remote(input) => input.write(data).await,
        }
    }

    /// There is no more.
    pub(crate) async fn end(&mut self) -> Result<(), Error> {
        match self {
            Self::Local(input) => input.end().await,
            Self::Remote(input) => input.end().await,
        }
    }
}

/// A tool at work. Dropping it ends it.
pub(crate) struct Running {
    name: String,
    side: Side,
    words: Option<Words>,
    complaint: Vec<u8>,
}

enum Side {
    Local(Box<LocalTool>),
    Remote(RemoteTool),
}

impl Running {
    /// Starts `call`.
    pub(crate) async fn start(mut call: Call, place: Place<'_>) -> Result<Self, Error> {
        let (name, words) = (call.name(), call.words.take());
        let side = match place {
            Place::Here(options) => Side::Local(Box::new(LocalTool::start(call, options)?)),
            Place::There(session, options) => Side::Remote(RemoteTool::start(call, session, options).await?),
        };
        Ok(Self { name, side, words, complaint: Vec::new() })
    }

    /// The next piece of standard output or error; `None` once the tool has ended and all was read. One that takes input is waited for
    /// without end.
    pub(crate) async fn next(&mut self) -> Result<Option<ExecEvent>, Error> {
        let event = match &mut self.side {
            Side::Local(tool) => tool.next().await?,
            Side::Remote(tool) => tool.next().await?,
        };
        let event = match (event, &mut self.words) {
            (Some(ExecEvent::Stderr(data)), Some(words)) => Some(ExecEvent::Stderr(words.push(&data).into())),
            (None, Some(words)) => {
                let rest = words.rest();
                self.remember(&rest);
                None
            }
            (event, _) => event,
        };
        if let Some(ExecEvent::Stderr(data)) = &event {
            self.remember(data);
        }
        Ok(event)
    }

    fn remember(&mut self, complaint: &[u8]) {
        self.complaint.extend_from_slice(complaint);
        let surplus = self.complaint.len().saturating_sub(MAX_COMPLAINT);
        self.complaint.drain(..surplus);
    }

    /// What writes to standard input, while this reads what the tool says. Once.
    pub(crate) fn take_input(&mut self) -> Option<Input> {
        match &mut self.side {
            Side::Local(tool) => tool.take_input().map(Input::Local),
            Side::Remote(tool) => Some(Input::Remote(tool.input())),
        }
    }

    /// Ends the tool before its time, here or there.
    pub(crate) async fn stop(&mut self) {
        match &mut self.side {
            Side::Local(tool) => tool.stop().await,
            Side::Remote(tool) => tool.stop().await,
        }
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match &self.side {
            Side::Local(tool) => tool.exit(),
            Side::Remote(tool) => tool.exit(),
        }
    }

    /// The end of what it said on standard error.
    pub(crate) fn complaint(&self) -> String {
        last_lines(&String::from_utf8_lossy(&self.complaint))
    }

    /// The program's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An error unless the tool exited with status 0.
    pub(crate) fn check_exit(&self) -> Result<(), Error> {
        match self.exit() {
            Some(Exit::Status(0)) => Ok(()),
            Some(Exit::Status(127)) if matches!(self.side, Side::Remote(_)) => Err(Error::Tool {
                tool: self.name.clone(),
                reason: format!("it is not there: install it on the SSH server ({})", self.complaint()),
            }),
            exit => {
                let exit = exit.map_or("it did not end".to_owned(), |exit| exit.to_string());
                Err(Error::Tool { tool: self.name.clone(), reason: format!("{exit}: {}", self.complaint()) })
            }
        }
    }

    /// Runs to the end, and gives at most `limit` bytes of standard output.
    pub(crate) async fn output(mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut stdout = Vec::new();
        while let Some(event) = self.next().await? {
            if let ExecEvent::Stdout(data) = event {
                stdout.extend_from_slice(&data);
            }
            if stdout.len() > limit {
                self.stop().await;
                let reason = format!("it printed more than {limit} bytes");
                return Err(Error::Tool { tool: self.name, reason });
            }
        }
        self.check_exit()?;
        Ok(stdout)
    }
}

/// What comes before a query that failed, which may have more lines than are told; and who speaks on behind it.
const QUERY: &str = "uery was: ";
const SPEAKERS: [&str; 4] = ["pg_dump: ", "pg_dumpall: ", "pg_restore: ", "psql: "];

/// The last lines, as one; of a query the first alone. `psql: error: …` that failed with TLS and without says the same twice, the second time without its name.
fn last_lines(text: &str) -> String {
    let mut is_query = false;
    let lines = text.lines().map(str::trim_end).filter(|line| {
        let goes_on = is_query && !SPEAKERS.iter().any(|name| line.starts_with(name));
        is_query = goes_on || line.contains(QUERY);
        !line.is_empty() && !goes_on
    });
    let mut lines: Vec<&str> = lines.collect();
    let is_named = |name: &str| name.is_empty() || name.ends_with(": ");
    lines.dedup_by(|line, before| before.strip_suffix(*line).is_some_and(is_named));
    let from = lines.len().saturating_sub(6);
    lines.get(from..).unwrap_or_default().join("; ").chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Call, Place, Running, ToolOptions, last_lines};

    /// What `env` prints when it is run as a tool.
    async fn environment(writes_much: bool) -> String {
        let mut call = Call::new("/usr/bin/env");
        call.writes_much = writes_much;
        let tool = Running::start(call, Place::Here(&ToolOptions::default())).await.unwrap();
        String::from_utf8(tool.output(10_000).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_tool_that_writes_much_is_told_to_write_it_in_large_pieces() {
        assert!(environment(true).await.contains("_STDBUF_O=65536\n"));
        assert!(!environment(false).await.contains("STDBUF"));
    }

    #[test]
    fn what_a_tool_says_twice_is_told_once() {
        let failed = "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  password authentication failed for user \"u\"";
        assert_eq!(
            last_lines(&format!("psql: error: {failed}\n{failed}\n")),
            format!("psql: error: {failed}")
        );
        assert_eq!(last_lines("one: two\nowt\ntwo\n\u{1b}two\r\n\nt"), "one: two; owt; two; two; t");
        assert_eq!(
            last_lines(
                "pg_dump: error: no equivalent\npg_dump: detail: Query was: SELECT 1,\n2;\npg_dump: gone\n"
            ),
            "pg_dump: error: no equivalent; pg_dump: detail: Query was: SELECT 1,; pg_dump: gone"
        );
        assert_eq!(last_lines("1\n2\n3\n4\n5\n6\n7"), "2; 3; 4; 5; 6; 7");
    }
}
