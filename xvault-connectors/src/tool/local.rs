//! A tool on this machine: with nothing it does not need, and without a way to more.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{MemfdFlags, Mode, fchmod, fchown, memfd_create};
use rustix::process::{Gid, Pid, Signal, Uid, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin};
use tokio::time::timeout;

use super::find::{helper, path_variable, stdbuf};
use super::output::Output;
use super::sandbox::inside;
use super::{CA_PATH, Call, SECRET_PATH, Secret, Told, ToolOptions};
use crate::Error;
use crate::ssh::{ExecEvent, Exit};

/// How long the goodbye of a tool to its server may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a tool that writes much gathers before it writes. By itself it would be 4 KiB, and a quarter of `pg_dump`'s time goes into
/// writing so little at a time.
const OUTPUT_BUFFER: &str = "--output=64K";

/// A child in a process group of its own; the group is killed on drop.
pub(super) struct LocalTool {
    child: Child,
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    stdout: Option<Output>,
    stderr: Option<ChildStderr>,
    exit: Option<ExitStatus>,
    /// How long it may say nothing, and how long it may take nothing.
    idle: (Duration, Duration),
    name: String,
}

impl LocalTool {
    pub(super) fn start(mut call: Call, options: &ToolOptions) -> Result<Self, Error> {
        let (name, idle) = (call.name(), (options.silence(&call), options.fullness()));
        let failed = |source| Error::Io { action: format!("start {name}"), source };
        let owner = rustix::process::geteuid().is_root().then_some(options.run_as);
        let files = files(&mut call, owner).map_err(failed)?;
        let mut command = command(&call, owner, options)?;
        command.fd_mappings(files).map_err(|error| failed(std::io::Error::other(error)))?;
        let spawn = || tokio::process::Command::from(command).kill_on_drop(true).spawn();
        let mut child = inside(&call.program, call.port, options, spawn).map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let stdout = child.stdout.take().map(Output::new).transpose().map_err(failed)?;
        Ok(Self { child, group, stdin, stdout, stderr, exit: None, idle, name })
    }

    pub(super) async fn next(&mut self) -> Result<Option<ExecEvent>, Error> {
        let (after, _) = self.idle;
        match timeout(after, self.next_event()).await {
            Ok(event) => event.map_err(Error::io(format!("read from {}", self.name))),
            Err(_) => {
                self.kill();
                Err(Error::Timeout { what: format!("{} (its next output)", self.name), after })
            }
        }
    }

    async fn next_event(&mut self) -> std::io::Result<Option<ExecEvent>> {
        loop {
            if self.stdout.is_none() && self.stderr.is_none() {
                self.exit = Some(self.child.wait().await?);
                return Ok(None);
            }
            let mut complaint = BytesMut::new();
            tokio::select! {
                piece = written(&mut self.stdout) => {
                    let piece = piece?;
                    if !piece.is_empty() {
                        return Ok(Some(ExecEvent::Stdout(piece)));
                    }
                    self.stdout = None;
                }
                count = read(&mut self.stderr, &mut complaint) => match count? {
                    0 => self.stderr = None,
                    _ => return Ok(Some(ExecEvent::Stderr(complaint.freeze()))),
                },
            }
        }
    }

    pub(super) fn take_input(&mut self) -> Option<LocalInput> {
        let (name, (_, idle)) = (self.name.clone(), self.idle);
        Some(LocalInput { stdin: Some(self.stdin.take()?), name, idle })
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        let status = self.exit?;
        let code = status.code().and_then(|code| u32::try_from(code).ok());
        Some(match (code, status.signal()) {
            (Some(code), _) => Exit::Status(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default().to_string()),
        })
    }

    /// Lets the tool say goodbye to its server, and ends it when that takes long.
    pub(super) async fn stop(&mut self) {
        if let (Some(group), None) = (self.group, self.exit) {
            let _ = kill_process_group(group, Signal::TERM);
            if let Ok(Ok(status)) = timeout(GOODBYE, self.child.wait()).await {
                self.exit = Some(status);
            }
        }
        self.kill();
    }

    /// Ends the tool and all that it started.
    pub(super) fn kill(&mut self) {
        if let (Some(group), None) = (self.group, self.exit) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for LocalTool {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The standard input of a tool.
pub(crate) struct LocalInput {
    stdin: Option<ChildStdin>,
    name: String,
    idle: Duration,
}

impl LocalInput {
    pub(super) async fn write(&mut self, data: &Bytes) -> Result<(), Error> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        match timeout(self.idle, stdin.write_all(data)).await {
            Ok(written) => written.map_err(Error::io(format!("write to {}", self.name))),
            Err(_) => {
                let what = format!("{} (taking its input)", self.name);
                Err(Error::Timeout { what, after: self.idle })
            }
        }
    }

    pub(super) async fn end(&mut self) -> Result<(), Error> {
        let Some(mut stdin) = self.stdin.take() else { return Ok(()) };
        stdin.shutdown().await.map_err(Error::io(format!("write to {}", self.name)))
    }
}

/// Never resolves for a stream that has ended, so that the other one is read.
async fn written(stream: &mut Option<Output>) -> std::io::Result<Bytes> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// As [`written`], for complaints.
async fn read(stream: &mut Option<ChildStderr>, buffer: &mut BytesMut) -> std::io::Result<usize> {
    buffer.reserve(4096);
    match stream {
        Some(stream) => stream.read_buf(buffer).await,
        None => std::future::pending().await,
    }
}

/// The tool behind what takes its rights away.
fn command(
    call: &Call,
    owner: Option<(u32, u32)>,
    options: &ToolOptions,
) -> Result<std::process::Command, Error> {
    let mut command = std::process::Command::new(helper("prlimit")?);
    // It writes no files and leaves no image of its memory; a hostile server can't make it take all there is.
    command.args(["--core=0", "--fsize=0", "--nofile=256", &format!("--as={}", options.memory)]);
    command.arg(helper("setpriv")?).arg("--no-new-privs");
    if let Some((user, group)) = owner {
        command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]);
    }
    if let Some(stdbuf) = call.writes_much.then(stdbuf).flatten() {
        command.arg(stdbuf).arg(OUTPUT_BUFFER);
    }
    command.arg(&call.program).args(first_option(call)).args(&call.args);
    command.env_clear().env("PATH", path_variable()).env("LC_ALL", "C").env("HOME", "/nonexistent");
    command.envs(call.env.iter().map(|(name, value)| (name, value)));
    if let Some(Secret { told: Told::Env(name), .. }) = &call.secret {
        command.env(name, SECRET_PATH);
    }
    command.current_dir("/").process_group(0);
    command.stdin(if call.takes_input { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn first_option(call: &Call) -> Option<OsString> {
    match &call.secret {
        Some(Secret { told: Told::FirstOption(option), .. }) => Some(format!("{option}{SECRET_PATH}").into()),
        _ => None,
    }
}

/// The files in memory that only this child gets, under the numbers it is told.
fn files(call: &mut Call, owner: Option<(u32, u32)>) -> std::io::Result<Vec<FdMapping>> {
    let mut files = Vec::new();
    if let Some(secret) = &call.secret {
        files
            .push(FdMapping { parent_fd: in_memory(&secret.content, owner)?, child_fd: number(SECRET_PATH) });
    }
    if let Some(ca) = call.ca.take() {
        files.push(FdMapping { parent_fd: in_memory(ca.as_bytes(), owner)?, child_fd: number(CA_PATH) });
    }
    Ok(files)
}

fn number(path: &str) -> i32 {
    path.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// A file without a name that its owner alone may read.
fn in_memory(content: &[u8], owner: Option<(u32, u32)>) -> std::io::Result<OwnedFd> {
    let file = memfd_create("xvault", MemfdFlags::CLOEXEC)?;
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(content)?;
    file.rewind()?;
    if let Some((user, group)) = owner {
        fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    Ok(file.into())
}
