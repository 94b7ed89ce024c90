//! A tool on an SSH server: its secret goes through standard input into a file that is gone at once.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytes::Bytes;

use super::{Call, Secret, Told, ToolOptions};
use crate::Error;
use crate::ssh::{Exec, ExecEvent, ExecInput, Exit, Session, shell};

/// What the server's `sh` runs. `$1`: what it says first, to tell that it does; `$2`: how many bytes of secret come first on
/// standard input; `$3`: how the tool is told (an option, or the name of a variable); `$4`: whether standard input then goes to
/// the tool; then the tool and its arguments.
///
/// The secret's file has a name for an instant, below which nobody else may read it; where there is `/proc`, the tool gets
/// the nameless file. A tool without input is ended when ours is: nobody would read its output.
const SCRIPT: &str = r#"
LC_ALL=C; export LC_ALL
echo "$1"; n=$2 told=$3 input=$4; shift 4
if [ "$n" -gt 0 ]; then
  umask 077
  f=$(mktemp /dev/shm/xv.XXXXXXXXXX 2>/dev/null) || f=$(mktemp "${TMPDIR:-/tmp}/xv.XXXXXXXXXX") || {
    echo 'the SSH server has no room for the password: it needs `mktemp`, and /dev/shm or /tmp that can be written' >&2
    exit 126
  }
  trap 'rm -f "$f"' EXIT
  trap 'exit 143' HUP INT TERM
  dd bs=1 count="$n" of="$f" 2>/dev/null
  exec 3<"$f"
  if [ -r /proc/self/fd/3 ]; then rm -f "$f"; s=/proc/self/fd/3; else s=$f; fi
  case $told in
    --*) t=$1; shift; set -- "$t" "$told$s" "$@" ;;
    *) eval "$told=\$s; export $told" ;;
  esac
fi
if [ "$input" = yes ]; then "$@"; exit $?; fi
exec 4<&0
"$@" </dev/null 4<&- &
p=$!
{ read -r _; kill "$p"; } <&4 >/dev/null 2>&1 3<&- &
w=$!
exec 4<&- 3<&-
wait "$p"; e=$?
kill "$w" 2>/dev/null
exit "$e"
"#;

/// How long the goodbye to a tool may take.
const GOODBYE: Duration = Duration::from_secs(2);

pub(super) struct RemoteTool {
    exec: Exec,
    /// How long it may take none of its input.
    fullness: Duration,
}

impl RemoteTool {
    pub(super) async fn start(call: Call, session: &Session, options: &ToolOptions) -> Result<Self, Error> {
        let mut argv: Vec<Vec<u8>> = Vec::new();
        let (length, told) = match &call.secret {
            None => (0, ""),
            Some(Secret { content, told: Told::Env(name) }) => (content.len(), *name),
            Some(Secret { content, told: Told::FirstOption(option) }) => (content.len(), *option),
        };
        argv.push(length.to_string().into_bytes());
        argv.push(told.as_bytes().to_vec());
        argv.push(if call.takes_input { b"yes".to_vec() } else { b"no".to_vec() });
        if !call.env.is_empty() {
            argv.push(b"env".to_vec());
            argv.extend(call.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes()));
        }
        argv.push(call.program.as_os_str().as_bytes().to_vec());
        argv.extend(call.args.iter().map(|arg| arg.as_bytes().to_vec()));
        let exec = shell::run(session, SCRIPT, &argv).await?.patient(options.silence(&call));
        if let Some(secret) = &call.secret {
            exec.input().patient(options.idle).write(Bytes::copy_from_slice(&secret.content)).await?;
        }
        Ok(Self { exec, fullness: options.fullness() })
    }

    pub(super) async fn next(&mut self) -> Result<Option<ExecEvent>, Error> {
        self.exec.next().await
    }

    pub(super) fn input(&self) -> ExecInput {
        self.exec.input().patient(self.fullness)
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        self.exec.exit().cloned()
    }

    /// Its input ends, by which the script ends it; servers that know signals pass one on, too.
    pub(super) async fn stop(&mut self) {
        let _ = tokio::time::timeout(GOODBYE, self.exec.terminate()).await;
    }
}
