//! One command on the server: its output, its end, and its time.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use xvault_core::source::Hook;

use crate::source::dump::Lines;
use crate::ssh::{Exec, ExecEvent, Exit, Session, shell};
use crate::{Control, Error};

/// What the server's `sh` runs: `$1` says that it does, `$2` is the command, which begins when a line of ours says so. It is ended with
/// all that it started when our end of standard input is gone, by time-out or with the connection; until all that has ended, it goes on.
const SCRIPT: &str = r#"
echo "$1"
read -r _ || exit 1
exec 4<&0
sh -c "$2" </dev/null 4<&- &
p=$!
{ trap '' TERM HUP; read -r _; kill -USR1 $$; kill -TERM 0; sleep 1; kill -KILL 0; } <&4 >/dev/null 2>&1 &
w=$!
exec 4<&-
trap '' TERM; trap 'wait "$w"' USR1
wait "$p"; e=$?
kill -KILL "$w" 2>/dev/null
exit "$e"
"#;

/// How long the end of a command may take.
const END: Duration = Duration::from_secs(5);

/// How often it is looked whether a command has ended whose output others hold open.
const LOOK: Duration = Duration::from_millis(500);

/// How long `hook` may take.
pub(super) fn limit(hook: &Hook) -> Duration {
    Duration::from_secs(hook.timeout_seconds.into())
}

/// The word on which a command begins.
const GO: &[u8] = b"go\n";

/// Has all ready on the server, so that [`run`] need but say the word. Who is given up here has run nothing.
///
/// # Errors
/// What keeps the command from being run.
pub(super) async fn prepare(session: &Session, hook: &Hook) -> Result<Exec, Error> {
    let exec = shell::run(session, SCRIPT, &[&hook.command]).await?;
    Ok(exec.patient(limit(hook) + END))
}

/// Runs the command to its end, which it is brought to when its time is over, or the job is cancelled.
///
/// # Errors
/// [`Error::Hook`] when it failed, [`Error::Cancelled`]; what the connection broke by otherwise.
pub(super) async fn run(
    exec: &mut Exec,
    name: &'static str,
    hook: &Hook,
    control: &Control,
) -> Result<(), Error> {
    let failed = |reason: String| Error::Hook { hook: name, reason, cause: None };
    let started = Instant::now();
    let mut output = Output::new(name, control);
    let followed = async {
        exec.input().write(Bytes::from_static(GO)).await?;
        follow(exec, &mut output, started + limit(hook)).await
    };
    let ended = control.run(followed).await;
    output.finish();
    match ended {
        Ok(Some(Exit::Status(0))) => {
            let seconds = started.elapsed().as_secs_f32();
            control.progress().note(&format!("hook {name}: done in {seconds:.1} s"));
            Ok(())
        }
        Ok(Some(exit)) => Err(failed(format!("failed: {exit}{}", output.last_words()))),
        Ok(None) => {
            end(exec).await;
            let seconds = hook.timeout_seconds;
            Err(failed(format!("was ended: it took longer than {seconds} s{}", output.last_words())))
        }
        Err(error) => {
            if matches!(error, Error::Cancelled) {
                end(exec).await;
            }
            Err(error)
        }
    }
}

/// To the end of the command. `None`: its time was over first.
async fn follow(exec: &mut Exec, output: &mut Output<'_>, deadline: Instant) -> Result<Option<Exit>, Error> {
    loop {
        let look = deadline.min(Instant::now() + LOOK);
        match timeout_at(look, exec.next()).await {
            Ok(Ok(Some(event))) => output.take(event),
            Ok(Ok(None)) => return Ok(exec.exit().cloned()),
            Ok(Err(error)) => return Err(error),
            // What it left running in the background holds its output open.
            Err(_) if exec.exit().is_some() => return Ok(exec.exit().cloned()),
            Err(_) if Instant::now() >= deadline => return Ok(None),
            Err(_) => {}
        }
        if Instant::now() >= deadline && exec.exit().is_none() {
            return Ok(None);
        }
    }
}

/// The script sees its input end, and ends the command, or does not begin it.
async fn end(exec: &mut Exec) {
    let ending = async {
        exec.input().end().await?;
        while exec.next().await?.is_some() {}
        Ok::<_, Error>(())
    };
    // A server that takes long is left alone: the channel is closed.
    let _ = timeout(END, ending).await;
    let _ = timeout(END, exec.terminate()).await;
}

/// What a command says: told in the job's log, up to a limit.
struct Output<'a> {
    name: &'static str,
    control: &'a Control,
    lines: [Lines; 2],
    last: String,
}

impl<'a> Output<'a> {
    fn new(name: &'static str, control: &'a Control) -> Self {
        let lines = [Lines::default(), Lines::default()];
        Self { name, control, lines, last: String::new() }
    }

    fn take(&mut self, event: ExecEvent) {
        match event {
            ExecEvent::Stdout(data) => self.push(0, &data),
            ExecEvent::Stderr(data) => self.push(1, &data),
        }
    }

    fn push(&mut self, stream: usize, data: &[u8]) {
        let Self { name, control, lines, last, .. } = self;
        let Some(lines) = lines.get_mut(stream) else { return };
        lines.push(data, |line| {
            line.clone_into(last);
            control.progress().note(&format!("hook {name}: {line}"));
        });
    }

    /// What was not ended by a line break is told, too.
    fn finish(&mut self) {
        self.push(0, b"\n");
        self.push(1, b"\n");
        if self.lines.iter().any(Lines::is_cut) {
            let name = self.name;
            self.control.progress().note(&format!("hook {name}: more lines than these are not told"));
        }
    }

    fn last_words(&self) -> String {
        if self.last.is_empty() { String::new() } else { format!(": {}", self.last) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{GO, SCRIPT};

    /// Whether a command runs whose input is `input` to its end; a slow ending gives it time to.
    fn runs(dir: &Path, input: &[u8]) -> bool {
        let script = format!("kill() {{ sleep 0.3; command kill \"$@\"; }}\n{SCRIPT}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", "ready", "touch ran"]).current_dir(dir).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let _ = child.wait().unwrap();
        dir.join("ran").exists()
    }

    #[test]
    fn a_command_begins_on_our_word_alone() {
        let dir = tempfile::tempdir().unwrap();
        for cut in [&b""[..], b"g", b"go"] {
            assert!(!runs(dir.path(), cut), "{cut:?}");
        }
        assert!(runs(dir.path(), GO));
    }
}
