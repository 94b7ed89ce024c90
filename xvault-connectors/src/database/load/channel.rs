//! From a thread that reads a dump to the task that loads it. Only a dump that was finished is whole.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::Error;

/// Pieces on their way. Of 256 KiB, some MiB at most.
const ROOM: usize = 8;

/// Makes both ends.
#[must_use]
pub fn dump_channel() -> (DumpWriter, DumpReader) {
    let (sender, receiver) = mpsc::channel(ROOM);
    (DumpWriter { sender }, DumpReader { receiver, head: Vec::new(), held: None, finished: false })
}

/// Takes a dump, on a thread that may block; to be closed with [`DumpWriter::finish`]. One that is dropped before is a dump that
/// broke off.
#[derive(Debug)]
pub struct DumpWriter {
    sender: mpsc::Sender<Option<Bytes>>,
}

impl DumpWriter {
    /// That was all of it.
    pub fn finish(self) {
        let _ = self.sender.blocking_send(None);
    }

    /// As [`DumpWriter::finish`], within async code.
    pub async fn finished(self) {
        let _ = self.sender.send(None).await;
    }

    /// As [`io::Write::write_all`], within async code.
    ///
    /// # Errors
    /// When nobody loads it any more.
    pub async fn push(&self, data: Bytes) -> io::Result<()> {
        self.sender.send(Some(data)).await.map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the database takes no more")
}

impl Clone for DumpWriter {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl io::Write for DumpWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.sender.blocking_send(Some(Bytes::copy_from_slice(data))).map_err(|_| gone())?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a dump. The last piece is held back until the dump is known to be whole.
#[derive(Debug)]
pub struct DumpReader {
    receiver: mpsc::Receiver<Option<Bytes>>,
    head: Vec<u8>,
    held: Option<Bytes>,
    finished: bool,
}

impl DumpReader {
    /// The first `count` bytes, or all when there are fewer; they will be given again.
    pub(super) async fn head(&mut self, count: usize) -> Result<&[u8], Error> {
        while self.head.len() < count {
            match self.receive().await? {
                Some(piece) => self.head.extend_from_slice(&piece),
                None => break,
            }
        }
        Ok(&self.head)
    }

    /// Drops the first line when it begins with `start`. After [`DumpReader::head`].
    pub(super) fn drop_first_line(&mut self, start: &[u8]) {
        if self.head.starts_with(start)
            && let Some(end) = self.head.iter().position(|byte| *byte == b'\n')
        {
            self.head.drain(..=end);
        }
    }

    /// The next piece; `None` at the end of a whole dump.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.head.is_empty() {
            self.held = Some(Bytes::from(std::mem::take(&mut self.head)));
        }
        loop {
            match (self.receive().await?, self.held.take()) {
                (Some(piece), Some(held)) => {
                    self.held = Some(piece);
                    return Ok(Some(held));
                }
                (Some(piece), None) => self.held = Some(piece),
                (None, held) => return Ok(held),
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        if self.finished {
            return Ok(None);
        }
        match self.receiver.recv().await {
            Some(Some(piece)) => Ok(Some(piece)),
            Some(None) => {
                self.finished = true;
                Ok(None)
            }
            None => Err(Error::Incomplete("the dump broke off while it was loaded".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_piece_comes_only_when_the_dump_is_whole() {
        for whole in [true, false] {
            let (writer, mut reader) = dump_channel();
            for piece in ["sandbox\nab", "cd", "ef"] {
                writer.push(Bytes::from(piece)).await.unwrap();
            }
            if whole {
                writer.finished().await;
            } else {
                drop(writer);
            }
            assert_eq!(reader.head(5).await.unwrap(), b"sandbox\nab");
            reader.drop_first_line(b"sand");
            assert_eq!(reader.next().await.unwrap().unwrap(), "ab");
            assert_eq!(reader.next().await.unwrap().unwrap(), "cd");
            if whole {
                assert_eq!(reader.next().await.unwrap().unwrap(), "ef");
                assert_eq!(reader.next().await.unwrap(), None);
            } else {
                assert!(matches!(reader.next().await, Err(Error::Incomplete(_))));
            }
        }
    }
}
