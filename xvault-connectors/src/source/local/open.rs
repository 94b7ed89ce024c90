//! Opens what lies in a directory without ever following a link, and says in words what went wrong.

use std::fs::{File, Metadata as Stat};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use xvault_core::{Metadata, Mtime, WarningCode};

/// Why something in a directory could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// One entry is at fault; the others may be fine.
    Entry(WarningCode, String),
    /// It is a socket.
    Special,
    /// This process is at fault: out of descriptors or memory.
    Ours(io::Error),
}

/// A file for reading. A pipe that took its place does not block.
pub(super) fn file(dir: &File, name: &[u8]) -> Result<File, Refusal> {
    open(dir, name, OFlags::RDONLY | OFlags::NONBLOCK)
}

/// A directory for listing.
pub(super) fn directory(dir: &File, name: &[u8]) -> Result<File, Refusal> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Anything, only to look at it: needs no permission on the thing itself.
pub(super) fn look(dir: &File, name: &[u8]) -> Result<File, Refusal> {
    open(dir, name, OFlags::PATH)
}

/// The directory above.
pub(super) fn parent(dir: &File) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(dir.as_fd(), c"..", flags, Mode::empty())?.into())
}

/// Where the symbolic link `link`, opened by [`look`], leads.
pub(super) fn target(link: &File) -> io::Result<Vec<u8>> {
    Ok(readlinkat(link.as_fd(), c"", Vec::new())?.into_bytes())
}

fn open(dir: &File, name: &[u8], flags: OFlags) -> Result<File, Refusal> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir.as_fd(), name, flags, Mode::empty()) {
        Ok(opened) => Ok(opened.into()),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: Errno) -> Refusal {
    match error {
        Errno::NOENT | Errno::STALE => Refusal::Entry(WarningCode::Vanished, "is gone".into()),
        Errno::LOOP | Errno::NOTDIR => {
            Refusal::Entry(WarningCode::Vanished, "was replaced by something else".into())
        }
        Errno::NXIO | Errno::NODEV => Refusal::Special,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Refusal::Ours(error.into()),
        error => unreadable(&error.into()),
    }
}

/// The source itself refuses.
pub(super) fn unreadable(error: &io::Error) -> Refusal {
    Refusal::Entry(WarningCode::Unreadable, format!("can't be read: {error}"))
}

/// What the file system says about an entry.
pub(super) fn metadata(stat: &Stat) -> Metadata {
    let nanos = u32::try_from(stat.mtime_nsec()).unwrap_or_default();
    Metadata {
        mode: stat.mode() & 0o7777,
        uid: stat.uid().into(),
        gid: stat.gid().into(),
        user: None,
        group: None,
        mtime: Mtime { secs: stat.mtime(), nanos },
    }
}
