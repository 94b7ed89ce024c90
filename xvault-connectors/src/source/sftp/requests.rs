//! Requests in flight: what each reply is for, and how many handles are open.

use std::collections::HashMap;

use bytes::Bytes;

use crate::Error;
use crate::ssh::sftp::{Reply, Request, Sftp};

/// Handles left for others on the same connection.
const SPARE_HANDLES: u64 = 4;

/// What a reply is for. Numbers name a directory of the listing or a slot of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    OpenDir(u64),
    ReadDir(u64),
    LstatChild(u64, usize),
    Open(u64),
    Fstat(u64),
    Read(u64, u64),
    ReadLink(u64),
    /// Nobody waits for it.
    Close,
}

/// One SFTP conversation, with the purposes of what is in flight.
pub(super) struct Requests {
    sftp: Sftp,
    purposes: HashMap<u32, Purpose>,
    open_handles: u64,
}

impl Requests {
    pub(super) fn new(sftp: Sftp) -> Self {
        Self { sftp, purposes: HashMap::new(), open_handles: 0 }
    }

    /// Queues `request`.
    pub(super) fn ask(&mut self, purpose: Purpose, request: &Request<'_>) {
        if matches!(purpose, Purpose::Open(_) | Purpose::OpenDir(_)) {
            self.open_handles += 1;
        }
        let id = self.sftp.push(request);
        self.purposes.insert(id, purpose);
    }

    /// Gives a handle back. Servers answer in order, so it is free for whatever is asked next.
    pub(super) fn close(&mut self, handle: &Bytes) {
        self.ask(Purpose::Close, &Request::Close(handle));
        self.forget_handle();
    }

    /// A handle that was asked for was not given.
    pub(super) fn forget_handle(&mut self) {
        self.open_handles = self.open_handles.saturating_sub(1);
    }

    /// Whether one more handle may be opened.
    pub(super) fn has_free_handle(&self) -> bool {
        self.open_handles + SPARE_HANDLES < self.sftp.limits().open_handles || self.open_handles == 0
    }

    /// Bytes of one READ.
    pub(super) fn read_len(&self) -> u64 {
        self.sftp.limits().read_len.into()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.purposes.is_empty()
    }

    pub(super) fn flush(&mut self) {
        self.sftp.flush();
    }

    /// Sends what is queued and awaits the next reply.
    pub(super) async fn recv(&mut self) -> Result<(Purpose, Reply), Error> {
        let (id, reply) = self.sftp.recv().await?;
        self.purpose(id).map(|purpose| (purpose, reply))
    }

    /// The next reply if it is here.
    pub(super) fn try_recv(&mut self) -> Result<Option<(Purpose, Reply)>, Error> {
        let Some((id, reply)) = self.sftp.try_recv()? else { return Ok(None) };
        self.purpose(id).map(|purpose| Some((purpose, reply)))
    }

    fn purpose(&mut self, id: u32) -> Result<Purpose, Error> {
        self.purposes
            .remove(&id)
            .ok_or_else(|| self.sftp.protocol(format!("a reply to {id}, which was not asked")))
    }

    pub(super) fn protocol(&self, detail: impl Into<String>) -> Error {
        self.sftp.protocol(detail)
    }
}
