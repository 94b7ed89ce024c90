//! What a tool writes, in pieces that are worth passing on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionbio, read, retry_on_intr};
use rustix::pipe::fcntl_setpipe_size;
use tokio::net::unix::pipe::Receiver;
use tokio::process::ChildStdout;

/// What is passed on at most at once.
const CHUNK: usize = 512 << 10;
/// What is passed on without waiting for more.
const ENOUGH: usize = CHUNK / 2;
/// How long more is waited for at once. The dumping tools write 4 KiB at a time: passed on one by one, each wakes three threads.
const REST: Duration = Duration::from_millis(1);
/// How many rests a piece is worth, while each brings something.
const RESTS: u32 = 4;
/// What fits between the tool and us: the most that Linux gives to everyone. It must hold what comes during a rest.
const PIPE: usize = 1 << 20;

/// The standard output of a child.
///
/// It is watched only when it has been empty for a rest: the kernel tells a watcher of each 4 KiB, and to be told costs both sides more than
/// to copy them.
pub(super) struct Output {
    stdout: OwnedFd,
    /// Kept here, so that a read that is given up loses nothing.
    gathered: Vec<u8>,
    has_ended: bool,
    may_rest: bool,
    /// Buffers that came back: memory that is new each time costs the kernel a page fault for each 4 KiB.
    spare: mpsc::Receiver<Vec<u8>>,
    home: mpsc::Sender<Vec<u8>>,
}

impl Output {
    /// Widens the pipe where the system lets us; where it does not, all is passed on as it comes.
    ///
    /// # Errors
    /// When the runtime does not give the pipe over.
    pub(super) fn new(stdout: ChildStdout) -> io::Result<Self> {
        let stdout = stdout.into_owned_fd()?;
        ioctl_fionbio(&stdout, true)?;
        let may_rest = fcntl_setpipe_size(&stdout, PIPE).is_ok();
        let (home, spare) = mpsc::channel();
        Ok(Self { stdout, gathered: Vec::new(), has_ended: false, may_rest, spare, home })
    }

    /// The next piece; an empty one at the end. It may be given up at any time.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        let mut rests = 0;
        loop {
            let before = self.gathered.len();
            self.take_waiting()?;
            let gathered = self.gathered.len();
            if self.has_ended || gathered >= ENOUGH {
                return Ok(self.piece());
            }
            if self.may_rest && (rests == 0 || rests < RESTS && gathered > before) {
                rests += 1;
                tokio::time::sleep(REST).await;
            } else if gathered == 0 {
                something(&self.stdout).await?;
            } else {
                return Ok(self.piece());
            }
        }
    }

    /// Reads what is there, as far as it fits.
    fn take_waiting(&mut self) -> io::Result<()> {
        if self.gathered.capacity() == 0 {
            self.gathered = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        }
        while self.gathered.len() < self.gathered.capacity() {
            match retry_on_intr(|| read(&self.stdout, spare_capacity(&mut self.gathered))) {
                Ok(0) => {
                    self.has_ended = true;
                    return Ok(());
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What was gathered. A buffer that is hardly filled stays here: who keeps pieces counts the bytes in them alone.
    fn piece(&mut self) -> Bytes {
        if self.gathered.len() < ENOUGH {
            let piece = Bytes::copy_from_slice(&self.gathered);
            self.gathered.clear();
            return piece;
        }
        let content = std::mem::take(&mut self.gathered);
        Bytes::from_owner(Piece { content, home: self.home.clone() })
    }
}

/// Waits until there is something to read, or the end.
async fn something(stdout: &OwnedFd) -> io::Result<()> {
    Receiver::from_owned_fd(stdout.try_clone()?)?.readable().await
}

/// A filled buffer, which goes home when nobody needs it any more.
struct Piece {
    content: Vec<u8>,
    home: mpsc::Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut content = std::mem::take(&mut self.content);
        content.clear();
        // When the tool is gone, nothing is to be filled any more.
        drop(self.home.send(content));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use futures::FutureExt;
    use rustix::io::ioctl_fionread;
    use tokio::process::Command;

    use super::*;

    /// A shell that runs `script`, and what it writes. It has to be kept.
    fn shell(script: &str) -> (tokio::process::Child, Output) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = shell.spawn().unwrap();
        let output = Output::new(child.stdout.take().unwrap()).unwrap();
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

    #[tokio::test]
    async fn what_is_enough_is_passed_on_at_once() {
        let (_child, mut output) = shell("head -c 600000 /dev/zero; exec sleep 60");
        while ioctl_fionread(&output.stdout).unwrap() < 600_000 {
            tokio::time::sleep(REST).await;
        }
        let pieces = [output.next().now_or_never(), output.next().now_or_never()];
        let sizes = pieces.map(|piece| piece.map(|piece| piece.unwrap().len()));
        // The rest of it is waited for, as more may come.
        assert_eq!(sizes, [Some(CHUNK), None]);
    }

    #[tokio::test]
    async fn a_buffer_that_came_back_is_filled_again() {
        let (_child, mut output) = shell("exec head -c 8000000 /dev/zero");
        let (mut places, mut bytes) = (std::collections::HashSet::new(), 0);
        loop {
            let piece = output.next().await.unwrap();
            if piece.is_empty() {
                break;
            }
            bytes += piece.len();
            if piece.len() >= ENOUGH {
                places.insert(piece.as_ptr());
            }
        }
        assert_eq!((bytes, places.len()), (8_000_000, 1));
    }
}
