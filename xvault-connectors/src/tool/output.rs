//! What a tool writes, in pieces that are worth passing on.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use rustix::pipe::fcntl_setpipe_size;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;

/// What is passed on at most at once.
const CHUNK: usize = 256 << 10;
/// What is passed on without waiting for more.
const ENOUGH: usize = 64 << 10;
/// How long more is waited for. The dumping tools write 4 KiB at a time: passed on one by one, each wakes three threads.
const REST: Duration = Duration::from_millis(1);
/// What fits between the tool and us: the most that Linux gives to everyone. It must hold what comes during a rest.
const PIPE: usize = 1 << 20;

/// The standard output of a child.
pub(super) struct Output {
    stdout: ChildStdout,
    /// Kept here, so that a read that is given up loses nothing.
    gathered: BytesMut,
    may_rest: bool,
}

impl Output {
    /// Widens the pipe where the system lets us; where it does not, all is passed on as it comes.
    pub(super) fn new(stdout: ChildStdout) -> Self {
        let may_rest = fcntl_setpipe_size(&stdout, PIPE).is_ok();
        Self { stdout, gathered: BytesMut::new(), may_rest }
    }

    /// The next piece; an empty one at the end. It may be given up at any time.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        if self.gathered.is_empty() {
            self.gathered.reserve(CHUNK);
            self.stdout.read_buf(&mut self.gathered).await?;
        }
        if self.may_rest && (1..ENOUGH).contains(&self.gathered.len()) {
            tokio::time::sleep(REST).await;
            self.stdout.read_buf(&mut self.gathered).now_or_never().transpose()?;
        }
        Ok(std::mem::take(&mut self.gathered).freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::process::Command;

    use super::*;

    /// A shell that runs `script`, and what it writes. It has to be kept.
    fn shell(script: &str) -> (tokio::process::Child, Output) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = shell.spawn().unwrap();
        let output = Output::new(child.stdout.take().unwrap());
        (child, output)
    }

    /// All pieces up to the end.
    async fn pieces(output: &mut Output) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        loop {
            match output.next().await.unwrap() {
                piece if piece.is_empty() => return pieces,
                piece => pieces.push(piece),
            }
        }
    }

    #[tokio::test]
    async fn what_comes_in_crumbs_is_passed_on_in_pieces() {
        let (_child, mut output) = shell("i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i + 1)); done");
        let pieces = pieces(&mut output).await;
        let expected: String = (0..5000).map(|line| format!("{line}\n")).collect();
        assert_eq!(pieces.concat(), expected.as_bytes());
        assert!(pieces.len() < 2500, "{} pieces of 5000 lines", pieces.len());
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_while_it_waits_for_more_loses_nothing() {
        let (_child, mut output) = shell("printf first; exec sleep 60");
        while output.gathered.is_empty() {
            // It is polled at most twice: when the bytes come it begins to wait for more.
            let piece = output.next().now_or_never();
            assert!(piece.is_none(), "{piece:?}");
            tokio::time::sleep(REST).await;
        }
        assert_eq!(output.next().await.unwrap(), "first");
    }

    #[tokio::test]
    async fn what_was_written_last_comes_before_the_end() {
        let (mut child, mut output) = shell("printf first; sleep 0.2; printf last");
        child.wait().await.unwrap();
        assert_eq!(pieces(&mut output).await.concat(), b"firstlast");
    }
}
