//! SFTP version 3 packets: how requests are written and replies are read
//! (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL file for its extensions).

use bytes::{BufMut, Bytes, BytesMut};
use xvault_core::entry::display_name;

use super::attrs::{Attrs, SetAttrs};
use super::frames::Packet;

const INIT: u8 = 1;
const VERSION: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const FSETSTAT: u8 = 10;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const REALPATH: u8 = 16;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const READLINK: u8 = 19;
const SYMLINK: u8 = 20;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED: u8 = 200;
const EXTENDED_REPLY: u8 = 201;

const OPEN_READ: u32 = 1;
/// Write, create, and only if nothing is there: not even a link that leads elsewhere.
const OPEN_NEW: u32 = 0x2 | 0x8 | 0x20;

/// OpenSSH's extension that tells the server's limits.
const LIMITS: &[u8] = b"limits@openssh.com";
const POSIX_RENAME: &[u8] = b"posix-rename@openssh.com";
const HARDLINK: &[u8] = b"hardlink@openssh.com";
const FSYNC: &[u8] = b"fsync@openssh.com";
const LSETSTAT: &[u8] = b"lsetstat@openssh.com";
const STATVFS: &[u8] = b"statvfs@openssh.com";

/// Handles are at most so long, by the protocol.
const MAX_HANDLE_LEN: usize = 256;

/// What can be asked. Paths are absolute, in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Open a file for reading.
    Open(&'a [u8]),
    /// Give a handle back.
    Close(&'a [u8]),
    /// Content of an open file.
    Read {
        /// The file.
        handle: &'a [u8],
        /// Where to begin.
        offset: u64,
        /// How much at most.
        len: u32,
    },
    /// Attributes of an open file.
    Fstat(&'a [u8]),
    /// Attributes of what a path names, links not followed.
    Lstat(&'a [u8]),
    /// Attributes of what a path leads to.
    Stat(&'a [u8]),
    /// Open a directory.
    OpenDir(&'a [u8]),
    /// The next entries of an open directory.
    ReadDir(&'a [u8]),
    /// Where a symbolic link points.
    ReadLink(&'a [u8]),
    /// A path without links and dots.
    RealPath(&'a [u8]),
    /// The server's limits.
    Limits,
    /// Create a file for writing, where nothing is; nobody else may read it yet.
    Create(&'a [u8]),
    /// Content for an open file.
    Write {
        /// The file.
        handle: &'a [u8],
        /// Where it goes.
        offset: u64,
        /// What.
        data: &'a [u8],
    },
    /// Make a directory with these permission bits, which the server's umask narrows.
    MkDir(&'a [u8], u32),
    /// Change attributes of what a path leads to.
    SetStat(&'a [u8], SetAttrs),
    /// Change attributes of an open file.
    FSetStat(&'a [u8], SetAttrs),
    /// Change attributes of a link itself; see [`Extensions::lsetstat`].
    LSetStat(&'a [u8], SetAttrs),
    /// Remove a file or link.
    Remove(&'a [u8]),
    /// Give a new name, unless it is taken.
    Rename(&'a [u8], &'a [u8]),
    /// Give a new name, whatever has it; see [`Extensions::posix_rename`].
    PosixRename(&'a [u8], &'a [u8]),
    /// Make a symbolic link. Servers disagree about which path is the link: OpenSSH's is the second.
    Symlink(&'a [u8], &'a [u8]),
    /// A second name for a file; see [`Extensions::hardlink`].
    HardLink(&'a [u8], &'a [u8]),
    /// Write an open file to disk; see [`Extensions::fsync`].
    Fsync(&'a [u8]),
    /// How full a file system is; see [`Extensions::statvfs`].
    StatVfs(&'a [u8]),
}

impl Request<'_> {
    /// Appends the request to `out` as a packet.
    pub(super) fn encode(&self, id: u32, out: &mut BytesMut) {
        match *self {
            Self::Open(path) => packet(out, OPEN, id, |out| {
                string(out, path);
                out.put_u32(OPEN_READ);
                // No attributes.
                out.put_u32(0);
            }),
            Self::Read { handle, offset, len } => packet(out, READ, id, |out| {
                string(out, handle);
                out.put_u64(offset);
                out.put_u32(len);
            }),
            Self::Close(handle) => packet(out, CLOSE, id, |out| string(out, handle)),
            Self::Fstat(handle) => packet(out, FSTAT, id, |out| string(out, handle)),
            Self::Lstat(path) => packet(out, LSTAT, id, |out| string(out, path)),
            Self::Stat(path) => packet(out, STAT, id, |out| string(out, path)),
            Self::OpenDir(path) => packet(out, OPENDIR, id, |out| string(out, path)),
            Self::ReadDir(handle) => packet(out, READDIR, id, |out| string(out, handle)),
            Self::ReadLink(path) => packet(out, READLINK, id, |out| string(out, path)),
            Self::RealPath(path) => packet(out, REALPATH, id, |out| string(out, path)),
            Self::Limits => packet(out, EXTENDED, id, |out| string(out, LIMITS)),
            Self::Create(path) => packet(out, OPEN, id, |out| {
                string(out, path);
                out.put_u32(OPEN_NEW);
                SetAttrs::mode(0o600).encode(out);
            }),
            Self::Write { handle, offset, data } => packet(out, WRITE, id, |out| {
                string(out, handle);
                out.put_u64(offset);
                string(out, data);
            }),
            Self::MkDir(path, mode) => with_attrs(out, MKDIR, id, path, SetAttrs::mode(mode)),
            Self::SetStat(path, attrs) => with_attrs(out, SETSTAT, id, path, attrs),
            Self::FSetStat(handle, attrs) => with_attrs(out, FSETSTAT, id, handle, attrs),
            Self::LSetStat(path, attrs) => packet(out, EXTENDED, id, |out| {
                string(out, LSETSTAT);
                string(out, path);
                attrs.encode(out);
            }),
            Self::Remove(path) => packet(out, REMOVE, id, |out| string(out, path)),
            Self::Rename(from, to) => strings(out, RENAME, id, &[from, to]),
            Self::Symlink(first, second) => strings(out, SYMLINK, id, &[first, second]),
            Self::PosixRename(from, to) => strings(out, EXTENDED, id, &[POSIX_RENAME, from, to]),
            Self::HardLink(from, to) => strings(out, EXTENDED, id, &[HARDLINK, from, to]),
            Self::Fsync(handle) => strings(out, EXTENDED, id, &[FSYNC, handle]),
            Self::StatVfs(path) => strings(out, EXTENDED, id, &[STATVFS, path]),
        }
    }
}

fn with_attrs(out: &mut BytesMut, kind: u8, id: u32, what: &[u8], attrs: SetAttrs) {
    packet(out, kind, id, |out| {
        string(out, what);
        attrs.encode(out);
    });
}

fn strings(out: &mut BytesMut, kind: u8, id: u32, all: &[&[u8]]) {
    packet(out, kind, id, |out| all.iter().for_each(|one| string(out, one)));
}

fn packet(out: &mut BytesMut, kind: u8, id: u32, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    out.put_u32(id);
    body(out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(head) = out.get_mut(start..start + 4) {
        head.copy_from_slice(&len.to_be_bytes());
    }
}

fn string(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

/// The greeting: version 3.
pub(super) fn init(out: &mut BytesMut) {
    out.put_u32(5);
    out.put_u8(INIT);
    out.put_u32(3);
}

/// What a server's greeting offers beside the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// [`Request::Limits`].
    pub limits: bool,
    /// [`Request::PosixRename`].
    pub posix_rename: bool,
    /// [`Request::HardLink`].
    pub hardlink: bool,
    /// [`Request::Fsync`].
    pub fsync: bool,
    /// [`Request::LSetStat`].
    pub lsetstat: bool,
    /// [`Request::StatVfs`].
    pub statvfs: bool,
}

/// Reads the server's greeting.
pub(super) fn version(packet: Packet) -> Result<Extensions, String> {
    let Packet::Other(VERSION, body) = packet else { return Err("its SFTP greeting is none".into()) };
    let mut fields = Fields(&body);
    let version = fields.u32()?;
    if version != 3 {
        return Err(format!("it speaks SFTP version {version}, not 3"));
    }
    let mut extensions = Extensions::default();
    while !fields.0.is_empty() {
        let name = fields.string()?;
        fields.string()?;
        extensions.limits |= name == LIMITS;
        extensions.posix_rename |= name == POSIX_RENAME;
        extensions.hardlink |= name == HARDLINK;
        extensions.fsync |= name == FSYNC;
        extensions.lsetstat |= name == LSETSTAT;
        extensions.statvfs |= name == STATVFS;
    }
    Ok(extensions)
}

/// From the reply to [`Request::Limits`]: bytes of one READ and of one WRITE, and open handles; 0 is "not told".
pub(super) fn limits(body: &[u8]) -> Result<(u64, u64, u64), &'static str> {
    let mut fields = Fields(body);
    let (_packet, read, write) = (fields.u64()?, fields.u64()?, fields.u64()?);
    Ok((read, write, fields.u64()?))
}

/// From the reply to [`Request::StatVfs`]: bytes that are free for us.
///
/// # Errors
/// When the reply is too short.
pub fn free_bytes(body: &[u8]) -> Result<u64, &'static str> {
    let mut fields = Fields(body);
    let (_block, fragment) = (fields.u64()?, fields.u64()?);
    let (_blocks, _free, available) = (fields.u64()?, fields.u64()?, fields.u64()?);
    Ok(fragment.saturating_mul(available))
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done, or why not.
    Status(Status),
    /// A handle: opaque bytes.
    Handle(Bytes),
    /// Content, in pieces.
    Data(Vec<Bytes>),
    /// Names with attributes.
    Names(Vec<Name>),
    /// Attributes.
    Attrs(Attrs),
    /// The reply to an extension.
    Extended(Bytes),
}

/// An entry of a directory. The name is as the server sent it: not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name, without its directory.
    pub name: Bytes,
    /// Attributes, of a link itself.
    pub attrs: Attrs,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// For programs.
    pub code: StatusCode,
    /// For people; made harmless.
    pub message: String,
}

/// The codes of [`Status`] that make a difference to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// It worked.
    Ok,
    /// The end of a file or directory.
    Eof,
    /// No such file.
    NoSuchFile,
    /// Not allowed.
    PermissionDenied,
    /// Anything else.
    Other(u32),
}

impl From<u32> for StatusCode {
    fn from(code: u32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Eof,
            2 => Self::NoSuchFile,
            3 => Self::PermissionDenied,
            other => Self::Other(other),
        }
    }
}

/// Reads a reply and the id of the request it answers.
pub(super) fn reply(packet: Packet) -> Result<(u32, Reply), String> {
    let (kind, body) = match packet {
        Packet::Data(id, parts) => return Ok((id, Reply::Data(parts))),
        Packet::Other(kind, body) => (kind, body),
    };
    let mut fields = Fields(&body);
    let id = fields.u32()?;
    let reply = match kind {
        STATUS => Reply::Status(status(&mut fields)?),
        HANDLE => Reply::Handle(handle(&mut fields)?),
        NAME => Reply::Names(names(&mut fields)?),
        ATTRS => Reply::Attrs(Attrs::read(&mut fields)?),
        EXTENDED_REPLY => Reply::Extended(Bytes::copy_from_slice(fields.0)),
        other => return Err(format!("an SFTP packet of unknown type {other}")),
    };
    Ok((id, reply))
}

fn status(fields: &mut Fields<'_>) -> Result<Status, &'static str> {
    let code = fields.u32()?.into();
    // Old servers leave the text out.
    let text = if fields.0.is_empty() { &[] } else { fields.string()? };
    let shown = text.get(..text.len().min(200)).unwrap_or_default();
    Ok(Status { code, message: display_name(shown) })
}

fn handle(fields: &mut Fields<'_>) -> Result<Bytes, &'static str> {
    let handle = fields.string()?;
    if handle.len() > MAX_HANDLE_LEN {
        return Err("a handle longer than 256 bytes");
    }
    Ok(Bytes::copy_from_slice(handle))
}

fn names(fields: &mut Fields<'_>) -> Result<Vec<Name>, &'static str> {
    let count = fields.u32()?;
    // The count is only believed as far as the packet has entries.
    let mut names = Vec::new();
    for _ in 0..count {
        let name = Bytes::copy_from_slice(fields.string()?);
        let _long_name = fields.string()?;
        names.push(Name { name, attrs: Attrs::read(fields)? });
    }
    Ok(names)
}

/// Reads the fields of a packet, one after the other.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (field, rest) = self.0.split_at_checked(len).ok_or("an SFTP packet that is too short")?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| "an SFTP packet that is too short")
    }

    pub(super) fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let len = self.u32()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_read_request_is_laid_out_as_the_draft_says() {
        let mut out = BytesMut::new();
        Request::Read { handle: &[0, 0xff], offset: 5, len: 7 }.encode(9, &mut out);
        let expected = [
            &23_u32.to_be_bytes()[..],
            &[READ, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0xff],
            &5_u64.to_be_bytes(),
            &7_u32.to_be_bytes(),
        ]
        .concat();
        assert_eq!(&out[..], expected);
    }

    #[test]
    fn names_are_bytes() {
        let mut body = BytesMut::new();
        body.put_u32(1);
        body.put_u32(1);
        string(&mut body, b"caf\xe9");
        string(&mut body, b"-rw-r--r-- ...");
        body.put_u32(0x5);
        body.put_u64(3);
        body.put_u32(0o100_644);
        let (id, reply) = reply(Packet::Other(NAME, body.freeze())).unwrap();
        let attrs = Attrs { size: Some(3), mode: Some(0o100_644), ..Attrs::default() };
        assert_eq!(
            (id, reply),
            (1, Reply::Names(vec![Name { name: Bytes::from_static(b"caf\xe9"), attrs }]))
        );
    }

    #[test]
    fn a_count_beyond_the_packet_is_an_error_not_an_allocation() {
        let mut body = BytesMut::new();
        body.put_u32(1);
        body.put_u32(u32::MAX);
        assert!(reply(Packet::Other(NAME, body.freeze())).is_err());
    }

    proptest! {
        #[test]
        fn no_reply_panics(kind in 0_u8..210, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = reply(Packet::Other(kind, body.clone().into()));
            let _ = version(Packet::Other(VERSION, body.into()));
        }
    }
}
