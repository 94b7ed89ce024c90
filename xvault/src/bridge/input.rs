//! From objects of a store into a synchronous `Read + Seek`.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use xvault_connectors::{Control, Error as ConnectorError};

use crate::Error;

/// What a read after a seek fetches: two chunks of age.
const FIRST_BLOCK: u64 = 128 << 10;
/// What the reads that go on from there fetch: a frame. A bucket answers after a while, however little it is asked for.
const LARGE_BLOCK: u64 = 4 << 20;
/// How many large blocks are asked for before they are wanted, all at once: a bucket's answers overlap with each other and
/// with the work.
const AHEAD: usize = 2;
/// How many first blocks are kept: the ends of a file, which its readers look at again and again.
const KEPT: usize = 4;

/// An object that can be read in ranges.
#[async_trait]
pub trait Object: Send + Sync {
    /// Its name for errors.
    fn name(&self) -> &str;
    /// Its length in bytes.
    fn size(&self) -> u64;
    /// The bytes of `range`.
    ///
    /// # Errors
    /// What the store says.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ConnectorError>;
}

struct Request {
    object: usize,
    range: Range<u64>,
    fetched: ByteCount,
    reply: oneshot::Sender<Result<Bytes, ConnectorError>>,
}

/// How many bytes were fetched from an object; clones count together.
#[derive(Debug, Clone, Default)]
pub struct ByteCount(Arc<AtomicU64>);

impl ByteCount {
    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the store said to a reader that then failed; shared by all readers of one piece of work.
type Failure = Arc<Mutex<Option<ConnectorError>>>;

/// Runs `work` on a thread, with a reader for each of `objects`, and serves these readers meanwhile.
/// When `control` is cancelled every read fails at once, also one that the store does not answer.
///
/// # Errors
/// What `work` gives; a failure of the store reaches it as an I/O error and is told in its place.
pub async fn with_objects<T: Send + 'static>(
    objects: &[&dyn Object],
    control: &Control,
    work: impl FnOnce(Vec<ObjectReader>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let failure = Failure::default();
    let most = objects.len().max(1) * (AHEAD + 1);
    let (requests, mut received) = mpsc::channel::<Request>(most);
    let readers = objects
        .iter()
        .enumerate()
        .map(|(index, object)| ObjectReader::new(index, object.size(), requests.clone(), failure.clone()))
        .collect();
    drop(requests);
    let mut done = tokio::task::spawn_blocking(move || work(readers));
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(request) = received.recv(), if answers.len() < most => answers.push(answer(objects, control, request)),
            Some(()) = answers.next() => {}
            done = &mut done => {
                let done = done.map_err(|error| Error::Thread(io::Error::other(error)))?;
                return done.map_err(|error| take(&failure).map_or(error, Error::Store));
            }
        }
    }
}

fn take(failure: &Failure) -> Option<ConnectorError> {
    failure.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// One reader for each object that was opened.
pub(crate) fn exactly<const N: usize>(readers: Vec<ObjectReader>) -> Result<[ObjectReader; N], Error> {
    readers.try_into().map_err(|_| Error::Abandoned)
}

async fn answer(objects: &[&dyn Object], control: &Control, request: Request) {
    let Request { range, fetched, mut reply, .. } = request;
    let Some(object) = objects.get(request.object) else { return };
    let read = tokio::select! {
        biased;
        // What was asked for ahead, and is not wanted any more.
        () = reply.closed() => return,
        read = control.run(object.read(range)) => read,
    };
    if let Ok(block) = &read {
        fetched.0.fetch_add(block.len() as u64, Ordering::Relaxed);
    }
    // Nobody waits any more when the work was given up.
    drop(reply.send(read));
}

/// An object as a file: fetched in a small block after a seek and in large ones from there, the third and those behind it ahead.
#[derive(Debug)]
pub struct ObjectReader {
    object: usize,
    size: u64,
    requests: mpsc::Sender<Request>,
    failure: Failure,
    fetched: ByteCount,
    /// Where the next read begins.
    position: u64,
    /// What is at `position`.
    block: Bytes,
    /// What was asked for ahead, in order: the first begins where `block` ends, each other where the one before it ends.
    ahead: VecDeque<Ahead>,
    next_block: u64,
    /// Large blocks fetched since the last seek.
    large_blocks: u32,
    /// Small blocks fetched before, and where they begin.
    kept: VecDeque<(u64, Bytes)>,
}

#[derive(Debug)]
struct Ahead {
    range: Range<u64>,
    reply: oneshot::Receiver<Result<Bytes, ConnectorError>>,
}

impl ObjectReader {
    fn new(object: usize, size: u64, requests: mpsc::Sender<Request>, failure: Failure) -> Self {
        Self {
            object,
            size,
            requests,
            failure,
            fetched: ByteCount::default(),
            position: 0,
            block: Bytes::new(),
            ahead: VecDeque::new(),
            next_block: FIRST_BLOCK,
            large_blocks: 0,
            kept: VecDeque::new(),
        }
    }

    /// The object's length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Counts the bytes fetched for this reader, also those read ahead in vain.
    #[must_use]
    pub fn fetched(&self) -> ByteCount {
        self.fetched.clone()
    }

    fn ask(&self, start: u64) -> io::Result<Option<Ahead>> {
        let range = start..start.saturating_add(self.next_block).min(self.size);
        if range.is_empty() {
            return Ok(None);
        }
        let (reply, receiver) = oneshot::channel();
        let fetched = self.fetched.clone();
        let request = Request { object: self.object, range: range.clone(), fetched, reply };
        self.requests.blocking_send(request).map_err(|_| gone())?;
        Ok(Some(Ahead { range, reply: receiver }))
    }

    /// What is at `position` of a block that was kept.
    fn kept(&self) -> Option<Bytes> {
        self.kept.iter().find_map(|(start, block)| {
            let skip = usize::try_from(self.position.checked_sub(*start)?).ok()?;
            (skip < block.len()).then(|| block.slice(skip..))
        })
    }

    fn keep(&mut self, start: u64) {
        if self.block.len() as u64 <= FIRST_BLOCK {
            self.kept.truncate(KEPT - 1);
            self.kept.push_front((start, self.block.clone()));
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.ahead.is_empty()
            && let Some(block) = self.kept()
        {
            (self.block, self.next_block) = (block, LARGE_BLOCK);
            return Ok(());
        }
        let ahead = match self.ahead.pop_front() {
            Some(ahead) => Some(ahead),
            None => self.ask(self.position)?,
        };
        let Some(Ahead { range, reply }) = ahead else { return Ok(()) };
        self.ask_ahead(range.end)?;
        let block = reply.blocking_recv().map_err(|_| gone())?.map_err(|error| self.failed(error))?;
        if block.len() as u64 != range.end - range.start {
            let message = format!("the store gave {} bytes for {range:?}", block.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.block = block;
        self.keep(range.start);
        // The second block in a row holds the rest of a frame.
        self.large_blocks += u32::from(self.next_block == LARGE_BLOCK);
        self.next_block = LARGE_BLOCK;
        self.ask_ahead(range.end)
    }

    /// Whoever read two large blocks in a row reads on.
    fn ask_ahead(&mut self, end_of_block: u64) -> io::Result<()> {
        if self.large_blocks < 2 {
            return Ok(());
        }
        let mut end = self.ahead.back().map_or(end_of_block, |last| last.range.end);
        while self.ahead.len() < AHEAD
            && let Some(ahead) = self.ask(end)?
        {
            end = ahead.range.end;
            self.ahead.push_back(ahead);
        }
        Ok(())
    }

    /// The thread sees an I/O error; the caller of [`with_objects`] gets the store's own.
    fn failed(&self, error: ConnectorError) -> io::Error {
        let told = io::Error::other(error.to_string());
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }

    fn seek_to(&mut self, target: u64) {
        let skip = target.checked_sub(self.position).and_then(|skip| usize::try_from(skip).ok());
        match skip.filter(|skip| *skip <= self.block.len()) {
            Some(skip) => self.block.advance(skip),
            None => {
                self.block = Bytes::new();
                if self.ahead.front().is_none_or(|ahead| ahead.range.start != target) {
                    self.ahead.clear();
                    self.next_block = FIRST_BLOCK;
                    self.large_blocks = 0;
                }
            }
        }
        self.position = target;
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the store is no longer served")
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() && !buffer.is_empty() {
            self.fill()?;
        }
        let count = self.block.len().min(buffer.len());
        if let Some(target) = buffer.get_mut(..count) {
            self.block.copy_to_slice(target);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let target = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.seek_to(target);
        Ok(target)
    }
}
