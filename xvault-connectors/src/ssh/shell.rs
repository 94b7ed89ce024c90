//! Scripts for the server's `sh`, and accounts that run none.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::exec::{Exec, ExecEvent, push_tail};
use super::session::Session;
use crate::Error;

/// Nothing that a shell greets with.
const MARK: &[u8] = b"xvault-begins-here";

/// How long is waited for the mark before it is looked whether there is a shell at all.
const DOUBT: Duration = Duration::from_secs(2);

/// The longest beginning of output that is searched for the mark.
const MAX_GREETING: usize = 64 << 10;

/// What an account says instead of running commands is shown up to here, in characters.
const MAX_SAID: usize = 200;

/// Runs `script`, which must say `$1` on a line of its own before all else; `args` are `$2` and so on. Its standard input stays open, and
/// is not needed before. What the account's shell greets with in front of that line is dropped. It may take as long to begin as a login.
///
/// # Errors
/// [`Error::NoShell`] when the account runs something else, or nothing; [`Error::Timeout`] when nobody can tell yet; when the connection
/// fails.
pub(crate) async fn run<A: AsRef<[u8]>>(session: &Session, script: &str, args: &[A]) -> Result<Exec, Error> {
    let mut argv: Vec<&[u8]> = vec![b"sh", b"-c", script.as_bytes(), b"sh", MARK];
    argv.extend(args.iter().map(AsRef::as_ref));
    let mut exec = session.exec_with_input(&argv).await.map_err(|error| refused(session, error))?;
    let mut greeting = Greeting::default();
    let begun = match timeout(DOUBT, greeting.pass(&mut exec)).await {
        Ok(passed) => passed?,
        Err(_) => {
            look(session).await?;
            let began = timeout(session.patience(), greeting.pass(&mut exec)).await;
            began.map_err(|_| greeting.late(session))??
        }
    };
    if begun { Ok(exec) } else { Err(greeting.into_error(session)) }
}

/// Whether the account runs commands. Without input whatever it runs instead ends by itself.
async fn look(session: &Session) -> Result<(), Error> {
    let mut greeting = Greeting::default();
    let looked = async {
        let argv: [&[u8]; 5] = [b"sh", b"-c", b"echo \"$1\"", b"sh", MARK];
        let mut exec = session.exec(&argv).await.map_err(|error| refused(session, error))?;
        greeting.pass(&mut exec).await
    };
    match timeout(session.patience(), looked).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(greeting.into_error(session)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(greeting.late(session)),
    }
}

fn refused(session: &Session, error: Error) -> Error {
    match error {
        Error::Remote { reason: said, .. } => Error::NoShell { server: session.server().to_owned(), said },
        error => error,
    }
}

/// What comes in front of the mark.
#[derive(Default)]
struct Greeting {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Greeting {
    /// Reads up to the mark, and gives back what is behind it. `false`: there is none.
    async fn pass(&mut self, exec: &mut Exec) -> Result<bool, Error> {
        while let Some(event) = exec.next().await? {
            match event {
                ExecEvent::Stderr(data) => push_tail(&mut self.stderr, &data),
                ExecEvent::Stdout(data) => self.stdout.extend_from_slice(&data),
            }
            if let Some(behind) = behind_mark(&self.stdout) {
                exec.put_back(Bytes::copy_from_slice(behind));
                return Ok(true);
            }
            if self.stdout.len() > MAX_GREETING {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn into_error(self, session: &Session) -> Error {
        Error::NoShell { server: session.server().to_owned(), said: self.said() }
    }

    /// A slow server is none without a shell.
    fn late(&self, session: &Session) -> Error {
        let said = Some(self.said()).filter(|said| !said.is_empty());
        let said = said.map(|said| format!("; all that it said: {said}")).unwrap_or_default();
        let what =
            format!("the shell of the account on {}, which was to run a command{said},", session.server());
        Error::Timeout { what, after: session.patience() }
    }

    fn said(&self) -> String {
        shown(&[self.stdout.as_slice(), &self.stderr].concat())
    }
}

/// What follows the line of the mark; a greeting may end without a line break.
fn behind_mark(stdout: &[u8]) -> Option<&[u8]> {
    let line = [MARK, b"\n"].concat();
    let at = stdout.windows(line.len()).position(|part| part == line)?;
    stdout.get(at + line.len()..)
}

/// The lines as one, for people.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").escape_debug().take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_account_says_is_one_line() {
        assert_eq!(
            shown(b"\r\nThis service allows sftp connections only.\n\n"),
            "This service allows sftp connections only."
        );
        assert_eq!(shown(b"a\n\x1b[1mb\xff"), "a; \\u{1b}[1mb\u{fffd}");
        assert_eq!(shown(&[b'x'; 300]).len(), MAX_SAID);
        assert_eq!(shown(b""), "");
    }

    #[test]
    fn the_mark_is_the_end_of_a_line() {
        assert_eq!(behind_mark(b"hixvault-begins-here\nPGDMP"), Some(&b"PGDMP"[..]));
        assert_eq!(behind_mark(b"xvault-begins-here\n"), Some(&b""[..]));
        for none in [&b""[..], b"xvault-begins-here", b"sh -c x 'xvault-begins-here' 7\n"] {
            assert_eq!(behind_mark(none), None);
        }
    }
}
