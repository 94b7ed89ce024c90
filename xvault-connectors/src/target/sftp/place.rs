//! Names, attributes and complaints of a target's server.

use ring::digest;
use xvault_core::entry::display_name;
use xvault_core::snapshot::hex;
use xvault_core::{Disposition, Entry, EntryPath, Metadata};

use crate::Error;
use crate::ssh::sftp::{Attrs, FileType, Reply, SetAttrs, Status, StatusCode};

/// The mode of a directory whose own metadata has not come yet.
pub(super) const UNFINISHED: u32 = 0o1700;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory(Attrs),
    File(Attrs),
    Symlink,
    Other,
}

impl Found {
    /// From the reply to LSTAT; `None` when it is none.
    pub(super) fn of(reply: &Reply) -> Option<Result<Self, Status>> {
        Some(match reply {
            Reply::Attrs(attrs) => Ok(match attrs.file_type() {
                Some(FileType::Directory) => Self::Directory(*attrs),
                Some(FileType::File) => Self::File(*attrs),
                Some(FileType::Symlink) => Self::Symlink,
                Some(FileType::Special) | None => Self::Other,
            }),
            Reply::Status(status) if status.code == StatusCode::NoSuchFile => Ok(Self::Nothing),
            Reply::Status(status) => Err(status.clone()),
            _ => return None,
        })
    }

    /// What it is, for people.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Directory(_) => "a directory",
            Self::File(_) => "a file",
            Self::Symlink => "a symbolic link",
            Self::Other => "no file",
        }
    }

    /// Whether it is that file, as far as size and time tell.
    pub(super) fn is_same_file(self, size: u64, metadata: &Metadata) -> bool {
        matches!(self, Self::File(attrs) if attrs.size == Some(size) && attrs.mtime == mtime(metadata))
    }

    /// Whether setting these would change nothing.
    pub(super) fn has_mode_and_time(self, wanted: SetAttrs) -> bool {
        let Self::Directory(attrs) = self else { return false };
        attrs.mode.map(|mode| mode & 0o7777) == wanted.mode && attrs.mtime == wanted.mtime
    }

    /// Whether a run left it that did not come to its metadata. A parent may pass its set-group-id bit on.
    pub(super) fn is_unfinished(self) -> bool {
        matches!(self, Self::Directory(attrs) if attrs.mode.is_some_and(|mode| mode & 0o5777 == UNFINISHED))
    }
}

/// The directory that everything goes below.
#[derive(Debug, Clone)]
pub(super) struct Root {
    path: Vec<u8>,
    server: String,
}

impl Root {
    pub(super) fn new(mut path: Vec<u8>, server: String) -> Self {
        while path.len() > 1 && path.last() == Some(&b'/') {
            path.pop();
        }
        Self { path, server }
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Where an entry goes.
    pub(super) fn place(&self, path: &EntryPath) -> Vec<u8> {
        let root = if self.path == b"/" { &b""[..] } else { &self.path };
        [root, b"/", path.as_bytes()].concat()
    }

    /// Where it stands until it is whole: beside it, the same name in each run.
    pub(super) fn temporary(&self, path: &EntryPath) -> Vec<u8> {
        let hash = digest::digest(&digest::SHA256, path.name());
        let name = format!(".xvault-{}.part", hex(hash.as_ref().get(..8).unwrap_or_default()));
        let place = self.place(path);
        let parent = place.len() - path.name().len();
        [place.get(..parent).unwrap_or_default(), name.as_bytes()].concat()
    }

    /// `op` on `path` failed: what the server says.
    pub(super) fn failed(&self, op: &str, path: &EntryPath, status: &Status) -> Error {
        self.complaint(&format!("{op} `{path}`"), status)
    }

    /// `action` failed: what the server says.
    pub(super) fn complaint(&self, action: &str, status: &Status) -> Error {
        let action = format!("{action} in {}", self.describe());
        Error::Push { action, reason: said(status), disposition: Disposition::Permanent }
    }

    /// The directory itself, or one above it, can't be made: what the server says.
    pub(super) fn unmade(&self, path: &[u8], status: &Status) -> Error {
        let action = format!("make the directory {} on {}", display_name(path), self.server);
        Error::Push { action, reason: said(status), disposition: Disposition::Permanent }
    }

    /// Something else stands where an entry belongs.
    pub(super) fn obstructed(&self, path: &EntryPath, reason: String) -> Error {
        let action = format!("restore `{path}` to {}", self.describe());
        Error::Push { action, reason, disposition: Disposition::Permanent }
    }

    /// There is no room for an entry.
    pub(super) fn full(&self, path: &EntryPath, free: u64) -> Error {
        let action = format!("write `{path}` in {}", self.describe());
        let reason = format!("the disk is full: {free} bytes are free");
        Error::Push { action, reason, disposition: Disposition::Transient }
    }

    fn describe(&self) -> String {
        format!("{} on {}", display_name(&self.path), self.server)
    }
}

/// For messages.
fn said(status: &Status) -> String {
    match status.code {
        StatusCode::PermissionDenied => "permission denied".to_owned(),
        StatusCode::NoSuchFile => "no such file or directory".to_owned(),
        _ if status.message.is_empty() => "the server refuses".to_owned(),
        _ => format!("the server says `{}`", status.message),
    }
}

/// Seconds as SFTP has them: the low 32 bits, which a backup over SFTP takes for the moment nearest to now.
pub(super) fn mtime(metadata: &Metadata) -> Option<u32> {
    u32::try_from(metadata.mtime.secs.rem_euclid(1 << 32)).ok()
}

/// The owner of an entry, where numbers of 32 bits hold it.
pub(super) fn owner(entry: &Entry) -> SetAttrs {
    let Metadata { uid, gid, .. } = entry.metadata;
    let owner = u32::try_from(uid).ok().zip(u32::try_from(gid).ok());
    SetAttrs { owner, ..SetAttrs::default() }
}

/// Mode and time of an entry; set-id bits only with the owner.
pub(super) fn mode_and_time(entry: &Entry, with_owner: bool) -> SetAttrs {
    let bits = if with_owner { 0o7777 } else { 0o1777 };
    SetAttrs { owner: None, mode: Some(entry.metadata.mode & bits), mtime: mtime(&entry.metadata) }
}
