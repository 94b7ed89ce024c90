//! An SFTP version 3 client in which names and handles are bytes.
//!
//! Requests are queued with [`Sftp::push`] and leave in batches; replies come in any order with
//! [`Sftp::recv`], each with the id of its request. Whoever uses it decides how many are in flight.

mod attrs;
mod frames;
mod wire;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::session::Watch;
use crate::Error;
use frames::Frames;

pub use attrs::{Attrs, FileType, SetAttrs};
pub use wire::{Extensions, Name, Reply, Request, Status, StatusCode, free_bytes};

/// The most we ask for with one READ: what OpenSSH allows, and what fits our packet limit.
const MAX_READ_LEN: u32 = 255 * 1024;

/// What every server must be able to answer, and to take, at least.
const MIN_READ_LEN: u32 = 32 * 1024;

/// Open handles that a server which names no limit is trusted with.
const DEFAULT_HANDLES: u64 = 100;

/// What the server allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one READ.
    pub read_len: u32,
    /// Bytes of one WRITE.
    pub write_len: u32,
    /// Handles open at once.
    pub open_handles: u64,
}

/// One SFTP conversation.
pub struct Sftp {
    reader: ChannelReadHalf,
    outbox: mpsc::UnboundedSender<Bytes>,
    batch: BytesMut,
    frames: Frames,
    last_id: u32,
    limits: Limits,
    extensions: Extensions,
    watch: Watch,
    idle: Duration,
}

impl std::fmt::Debug for Sftp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sftp").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Sftp {
    pub(super) async fn start(channel: Channel<Msg>, watch: Watch, idle: Duration) -> Result<Self, Error> {
        let (reader, writer) = channel.split();
        writer.request_subsystem(true, "sftp").await.map_err(|error| watch.lost_by(error))?;
        let (outbox, queue) = mpsc::unbounded_channel();
        let limits =
            Limits { read_len: MIN_READ_LEN, write_len: MIN_READ_LEN, open_handles: DEFAULT_HANDLES };
        let mut sftp = Self {
            reader,
            outbox,
            batch: BytesMut::new(),
            frames: Frames::default(),
            last_id: 0,
            limits,
            extensions: Extensions::default(),
            watch,
            idle,
        };
        sftp.await_start().await?;
        tokio::spawn(send_all(writer, queue));
        sftp.greet().await?;
        Ok(sftp)
    }

    async fn await_start(&mut self) -> Result<(), Error> {
        loop {
            match self.message().await? {
                Some(ChannelMsg::Success) => return Ok(()),
                Some(ChannelMsg::Failure) => {
                    let reason = "the server offers no SFTP".to_owned();
                    return Err(Error::Remote { command: "sftp".into(), reason });
                }
                Some(_) => {}
                None => return Err(self.watch.lost()),
            }
        }
    }

    async fn greet(&mut self) -> Result<(), Error> {
        wire::init(&mut self.batch);
        self.flush();
        let packet = loop {
            if let Some(packet) = self.next_packet()? {
                break packet;
            }
            self.read_more().await?;
        };
        let extensions = wire::version(packet).map_err(|detail| self.watch.protocol(detail))?;
        self.extensions = extensions;
        if extensions.limits {
            self.ask_limits().await?;
        }
        Ok(())
    }

    async fn ask_limits(&mut self) -> Result<(), Error> {
        if let Reply::Extended(body) = self.call(&Request::Limits).await? {
            let (read_len, write_len, handles) =
                wire::limits(&body).map_err(|detail| self.watch.protocol(detail))?;
            let capped =
                |len: u64| u32::try_from(len.min(u64::from(MAX_READ_LEN))).ok().filter(|len| *len > 0);
            self.limits.read_len = capped(read_len).unwrap_or(self.limits.read_len);
            self.limits.write_len = capped(write_len).unwrap_or(self.limits.write_len);
            if handles > 0 {
                self.limits.open_handles = handles;
            }
        }
        Ok(())
    }

    /// What the server allows.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What the server offers beside the protocol.
    #[must_use]
    pub fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// Queues a request and returns its id. It leaves with the next [`Sftp::recv`].
    pub fn push(&mut self, request: &Request<'_>) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        request.encode(self.last_id, &mut self.batch);
        self.last_id
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        if !self.batch.is_empty() {
            // When the sending task is gone, so is the connection, and the next read says why.
            let _ = self.outbox.send(self.batch.split().freeze());
        }
    }

    /// Sends what is queued and awaits the next reply.
    ///
    /// # Errors
    /// [`Error::Timeout`] when nothing comes for the idle time, [`Error::Connection`] when the connection
    /// ends, [`Error::Protocol`] when the server answers nonsense.
    pub async fn recv(&mut self) -> Result<(u32, Reply), Error> {
        self.flush();
        loop {
            if let Some(reply) = self.next_reply()? {
                return Ok(reply);
            }
            self.read_more().await?;
        }
    }

    /// The next reply if it is here already. Sends nothing.
    ///
    /// # Errors
    /// As [`Sftp::recv`].
    pub fn try_recv(&mut self) -> Result<Option<(u32, Reply)>, Error> {
        loop {
            if let Some(reply) = self.next_reply()? {
                return Ok(Some(reply));
            }
            match self.reader.wait().now_or_never() {
                Some(message) => self.take(message)?,
                None => return Ok(None),
            }
        }
    }

    /// Sends one request and awaits its reply; nothing else may be in flight.
    ///
    /// # Errors
    /// As [`Sftp::recv`], and when a reply to something else comes.
    pub async fn call(&mut self, request: &Request<'_>) -> Result<Reply, Error> {
        let asked = self.push(request);
        let (id, reply) = self.recv().await?;
        if id == asked { Ok(reply) } else { Err(self.protocol(format!("reply {id} to request {asked}"))) }
    }

    /// Sends all requests, and gives their replies in the same order; nothing else may be in flight.
    ///
    /// # Errors
    /// As [`Sftp::call`].
    pub async fn call_all(&mut self, requests: &[Request<'_>]) -> Result<Vec<Reply>, Error> {
        let asked: Vec<u32> = requests.iter().map(|request| self.push(request)).collect();
        let mut replies = HashMap::new();
        for _ in &asked {
            let (id, reply) = self.recv().await?;
            replies.insert(id, reply);
        }
        let reply = |id: &u32| replies.remove(id);
        let replies: Option<Vec<Reply>> = asked.iter().map(reply).collect();
        replies.ok_or_else(|| self.protocol("replies to other requests"))
    }

    /// This server breaks the protocol.
    pub(crate) fn protocol(&self, detail: impl Into<String>) -> Error {
        self.watch.protocol(detail)
    }

    fn next_packet(&mut self) -> Result<Option<frames::Packet>, Error> {
        self.frames.next().map_err(|detail| self.watch.protocol(detail))
    }

    fn next_reply(&mut self) -> Result<Option<(u32, Reply)>, Error> {
        let Some(packet) = self.next_packet()? else { return Ok(None) };
        wire::reply(packet).map(Some).map_err(|detail| self.watch.protocol(detail))
    }

    async fn read_more(&mut self) -> Result<(), Error> {
        let message = self.message().await?;
        self.take(message)
    }

    async fn message(&mut self) -> Result<Option<ChannelMsg>, Error> {
        match timeout(self.idle, self.reader.wait()).await {
            Ok(message) => Ok(message),
            Err(_) => Err(self.watch.timeout("SFTP", self.idle)),
        }
    }

    fn take(&mut self, message: Option<ChannelMsg>) -> Result<(), Error> {
        match message {
            Some(ChannelMsg::Data { data }) => self.frames.push(data),
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return Err(self.watch.lost()),
            Some(_) => {}
        }
        Ok(())
    }
}

/// Sends in a task of its own, because sending may have to wait for reading.
async fn send_all(writer: ChannelWriteHalf<Msg>, mut queue: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(batch) = queue.recv().await {
        if writer.data_bytes(batch).await.is_err() {
            break;
        }
    }
    // Nobody is left who could be told.
    let _ = writer.close().await;
}
