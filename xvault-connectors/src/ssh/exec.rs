//! A command on the other side.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::time::timeout;
use xvault_core::entry::display_name;

use super::quote::command_line;
use super::session::Watch;
use crate::Error;

/// SSH's number of the standard error stream.
const STDERR: u32 = 1;

/// How much of standard error is kept: its end.
const STDERR_TAIL_LEN: usize = 64 << 10;

/// A running command.
pub struct Exec {
    reader: ChannelReadHalf,
    // Keeps the sending half open until we are done reading.
    writer: Arc<ChannelWriteHalf<Msg>>,
    watch: Watch,
    idle: Duration,
    exit: Option<Exit>,
    ahead: Option<Bytes>,
}

/// The standard input of a running command.
pub struct ExecInput {
    writer: Arc<ChannelWriteHalf<Msg>>,
    watch: Watch,
    idle: Duration,
}

impl ExecInput {
    /// Waits so long for the command to take more.
    #[must_use]
    pub fn patient(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Waits while the command takes nothing.
    ///
    /// # Errors
    /// [`Error::Connection`] when the connection or the command has ended, [`Error::Timeout`] when nothing is taken.
    pub async fn write(&self, data: Bytes) -> Result<(), Error> {
        match timeout(self.idle, self.writer.data_bytes(data)).await {
            Ok(written) => written.map_err(|error| self.watch.lost_by(error)),
            Err(_) => Err(self.watch.timeout("take a command's input", self.idle)),
        }
    }

    /// Ends it: there is no more.
    ///
    /// # Errors
    /// [`Error::Connection`] when the connection has ended.
    pub async fn end(&self) -> Result<(), Error> {
        self.writer.eof().await.map_err(|error| self.watch.lost_by(error))
    }
}

/// What a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// A piece of its standard output.
    Stdout(Bytes),
    /// A piece of its standard error.
    Stderr(Bytes),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(u32),
    /// By this signal: `KILL`, `PIPE`…
    Signal(String),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// The name of what is run, for messages.
pub(super) fn program<A: AsRef<[u8]>>(argv: &[A]) -> String {
    argv.first().map(|program| display_name(program.as_ref())).unwrap_or_default()
}

impl Exec {
    pub(super) async fn start<A: AsRef<[u8]>>(
        channel: Channel<Msg>,
        argv: &[A],
        watch: Watch,
        idle: Duration,
    ) -> Result<Self, Error> {
        let exec = Self::start_with_input(channel, argv, watch, idle).await?;
        exec.input().end().await?;
        Ok(exec)
    }

    pub(super) async fn start_with_input<A: AsRef<[u8]>>(
        channel: Channel<Msg>,
        argv: &[A],
        watch: Watch,
        idle: Duration,
    ) -> Result<Self, Error> {
        let (reader, writer) = channel.split();
        writer.exec(true, command_line(argv)).await.map_err(|error| watch.lost_by(error))?;
        let program = program(argv);
        let mut exec = Self { reader, writer: Arc::new(writer), watch, idle, exit: None, ahead: None };
        exec.await_start(program).await?;
        Ok(exec)
    }

    /// Waits so long for the next output, for commands that think.
    #[must_use]
    pub fn patient(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Gives this piece of standard output as the next one.
    pub(super) fn put_back(&mut self, stdout: Bytes) {
        self.ahead = Some(stdout).filter(|stdout| !stdout.is_empty());
    }

    /// What writes to standard input, while this reads what the command says.
    #[must_use]
    pub fn input(&self) -> ExecInput {
        ExecInput { writer: Arc::clone(&self.writer), watch: self.watch.clone(), idle: self.idle }
    }

    /// Asks the server to end the command, and closes the channel.
    ///
    /// # Errors
    /// [`Error::Connection`] when the connection has ended.
    pub async fn terminate(&mut self) -> Result<(), Error> {
        let lost = |error| self.watch.lost_by(error);
        self.writer.signal(russh::Sig::TERM).await.map_err(lost)?;
        self.writer.close().await.map_err(lost)
    }

    async fn await_start(&mut self, command: String) -> Result<(), Error> {
        loop {
            match self.message().await? {
                Some(ChannelMsg::Success) => return Ok(()),
                Some(ChannelMsg::Failure) => {
                    let reason = "the server runs no commands for this account".to_owned();
                    return Err(Error::Remote { command, reason });
                }
                Some(_) => {}
                None => return Err(self.watch.lost()),
            }
        }
    }

    async fn message(&mut self) -> Result<Option<ChannelMsg>, Error> {
        match timeout(self.idle, self.reader.wait()).await {
            Ok(message) => Ok(message),
            Err(_) => Err(self.watch.timeout("run a command", self.idle)),
        }
    }

    /// The next piece of output; `None` once the command has ended and all was read.
    ///
    /// # Errors
    /// [`Error::Connection`] when the connection ends before the command, [`Error::Timeout`] when nothing comes.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, Error> {
        if let Some(stdout) = self.ahead.take() {
            return Ok(Some(ExecEvent::Stdout(stdout)));
        }
        loop {
            match self.message().await? {
                Some(ChannelMsg::Data { data }) => return Ok(Some(ExecEvent::Stdout(data))),
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                    return Ok(Some(ExecEvent::Stderr(data)));
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => self.exit = Some(Exit::Status(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.exit = Some(Exit::Signal(format!("{signal_name:?}")));
                }
                Some(ChannelMsg::Close) | None if self.exit.is_some() => return Ok(None),
                Some(ChannelMsg::Close) | None => return Err(self.watch.lost()),
                Some(_) => {}
            }
        }
    }

    /// How the command ended; `None` while it runs.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// Runs to the end and keeps at most `limit` bytes of standard output, and the end of standard error.
    ///
    /// # Errors
    /// As [`Exec::next`], and [`Error::Protocol`] when there is more output than `limit`.
    pub async fn output(mut self, limit: usize) -> Result<(Exit, Vec<u8>, Vec<u8>), Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(event) = self.next().await? {
            match event {
                ExecEvent::Stdout(data) => stdout.extend_from_slice(&data),
                ExecEvent::Stderr(data) => push_tail(&mut stderr, &data),
            }
            if stdout.len() > limit {
                return Err(self.watch.protocol(format!("a command printed more than {limit} bytes")));
            }
        }
        let exit = self.exit.clone().ok_or_else(|| self.watch.lost())?;
        Ok((exit, stdout, stderr))
    }
}

pub(super) fn push_tail(tail: &mut Vec<u8>, data: &[u8]) {
    tail.extend_from_slice(data);
    if let Some(surplus) = tail.len().checked_sub(STDERR_TAIL_LEN) {
        tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_standard_error_is_kept() {
        let mut tail = Vec::new();
        push_tail(&mut tail, &[b'a'; STDERR_TAIL_LEN]);
        push_tail(&mut tail, b"the end");
        assert_eq!(tail.len(), STDERR_TAIL_LEN);
        assert!(tail.ends_with(b"athe end"));
    }
}
