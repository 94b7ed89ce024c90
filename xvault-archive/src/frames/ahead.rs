//! Loading frames on a thread, one ahead of whoever works on them.

use std::io::{Read, Seek};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::loader::Loader;
use crate::error::{ArchiveFile, Error};
use crate::index::FrameInfo;

/// The largest frame that is loaded ahead: beyond it the memory of a second one counts for more than the time.
const MAX_FRAME: u64 = 16 << 20;

/// A thread that owns the opened artifact; dropping this waits for it.
pub(super) struct Ahead {
    requests: Option<Sender<Request>>,
    frames: Receiver<Result<Vec<u8>, Error>>,
    thread: Option<JoinHandle<()>>,
    /// The frame that was asked for before it was wanted.
    pending: Option<u64>,
    /// Memory for the frame after that.
    spare: Vec<u8>,
}

struct Request {
    number: u64,
    frame: FrameInfo,
    buffer: Vec<u8>,
}

impl Ahead {
    /// Starts the thread.
    pub(super) fn start<A: Read + Seek + Send + 'static>(mut loader: Loader<A>) -> Result<Self, Error> {
        let (requests, received) = bounded::<Request>(1);
        let (loaded, frames) = bounded(1);
        let work = move || {
            for Request { number, frame, buffer } in received {
                if loaded.send(loader.load(number, &frame, buffer)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("xvault-frames".into())
            .spawn(work)
            .map_err(|source| Error::Io { op: "start a thread for", file: ArchiveFile::Artifact, source })?;
        let (requests, thread) = (Some(requests), Some(thread));
        Ok(Self { requests, frames, thread, pending: None, spare: Vec::new() })
    }

    /// The frame, which may have been asked for before.
    pub(super) fn load(&mut self, number: u64, frame: &FrameInfo, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        match self.pending.take() {
            Some(pending) if pending == number => self.spare = buffer,
            pending => {
                if pending.is_some() {
                    // Another frame is wanted: whatever became of this one is nobody's concern.
                    self.spare = self.receive().unwrap_or_default();
                }
                self.request(number, frame, buffer)?;
            }
        }
        self.receive()
    }

    /// Begins with a frame that will be wanted next.
    pub(super) fn prepare(&mut self, number: u64, frame: &FrameInfo) -> Result<(), Error> {
        if self.pending.is_some() || frame.size > MAX_FRAME {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.spare);
        self.request(number, frame, buffer)?;
        self.pending = Some(number);
        Ok(())
    }

    fn request(&self, number: u64, frame: &FrameInfo, buffer: Vec<u8>) -> Result<(), Error> {
        let request = Request { number, frame: *frame, buffer };
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if sent { Ok(()) } else { Err(Error::Failed) }
    }

    fn receive(&self) -> Result<Vec<u8>, Error> {
        self.frames.recv().unwrap_or(Err(Error::Failed))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was seen as a frame that did not come.
            let _ = thread.join();
        }
    }
}
