//! Reaching places below the target directory without following a symbolic link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use xvault_core::EntryPath;

use super::litter;
use crate::error::Error;
use crate::seen::PathSet;

/// Opens a directory for what lies in it, never through a link.
const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Ours until their own metadata comes: nobody looks into half-restored directories. The sticky bit, which means nothing
/// in a directory that nobody else may enter, tells a later run that it has not come yet.
const UNFINISHED: Mode = Mode::RWXU.union(Mode::SVTX);

/// The directory that is extracted into; remembers the directory it was in last.
pub(super) struct Target {
    root: OwnedFd,
    last: Option<(EntryPath, OwnedFd)>,
    /// Made on the way to something, before any entry spoke of them.
    implied: PathSet,
    /// Directories without what a killed run left in them.
    swept: PathSet,
}

impl Target {
    /// Opens the directory, making it when it is missing. Links on the way *to* it are the caller's and are followed.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let error = |op| move |source| Error::Target { op, path: dir.display().to_string(), source };
        std::fs::create_dir_all(dir).map_err(error("create"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| error("open")(e.into()))?;
        litter::sweep(root.as_fd());
        Ok(Self { root, last: None, implied: PathSet::default(), swept: PathSet::default() })
    }

    /// The bytes that are free below the target, for us.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.root).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }

    /// The directory that `path` lies in, made with all above it where missing.
    pub(super) fn parent(&mut self, path: &EntryPath) -> Result<BorrowedFd<'_>, Error> {
        let Some(parent) = path.parent() else { return Ok(self.root.as_fd()) };
        if self.last.as_ref().is_none_or(|(last, _)| *last != parent) {
            let fd = self.walk(&parent)?;
            self.last = Some((parent, fd));
        }
        Ok(self.last.as_ref().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Makes a directory; what it was when it existed before this run.
    pub(super) fn make_directory(&mut self, path: &EntryPath) -> Result<Option<Stat>, Error> {
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(parent, path.name(), UNFINISHED) {
            Ok(()) => {
                self.swept.insert(path, false);
                Ok(None)
            }
            Err(Errno::EXIST) => match stat(parent, path)? {
                Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                    Ok(Some(found).filter(|_| !self.implied.contains(path)))
                }
                _ => Err(obstructed(path, "it is no directory, but the snapshot has one there")),
            },
            Err(errno) => Err(failed("create", path, errno)),
        }
    }

    /// Opens a directory for changing its metadata.
    pub(super) fn open_directory(&mut self, path: &EntryPath) -> Result<OwnedFd, Error> {
        let parent = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, path.name(), flags, Mode::empty())
            .map_err(|errno| failed("open", path, errno))
    }

    fn walk(&mut self, directory: &EntryPath) -> Result<OwnedFd, Error> {
        let mut at = None;
        let mut so_far: Option<EntryPath> = None;
        for component in directory.components() {
            let here = at.as_ref().map_or(self.root.as_fd(), OwnedFd::as_fd);
            let path = match so_far {
                None => EntryPath::new(component),
                Some(above) => above.join(component),
            };
            let path = path.map_err(|_| obstructed(directory, "its path is unsafe"))?;
            let (there, made) = enter(here, component, &path)?;
            if made {
                self.implied.insert(&path, false);
            }
            if self.swept.insert(&path, false) && !made {
                litter::sweep(there.as_fd());
            }
            at = Some(there);
            so_far = Some(path);
        }
        at.ok_or_else(|| obstructed(directory, "its path is empty"))
    }
}

/// Opens a directory in `here`; `true` when it was missing and was made: with the usual mode, as no entry speaks of it.
fn enter(here: BorrowedFd<'_>, name: &[u8], path: &EntryPath) -> Result<(OwnedFd, bool), Error> {
    let open = || rustix::fs::openat(here, name, SEARCH, Mode::empty());
    let (mut made, mut opened) = (false, open());
    if matches!(opened, Err(Errno::NOENT)) {
        made = match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed("create", path, errno)),
        };
        opened = open();
    }
    opened.map(|fd| (fd, made)).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => {
            obstructed(path, "it is no directory (symbolic links are not followed)")
        }
        errno => failed("open", path, errno),
    })
}

/// What stands at `path`, itself and not what it points to.
pub(super) fn stat(parent: BorrowedFd<'_>, path: &EntryPath) -> Result<Option<Stat>, Error> {
    match rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("look at", path, errno)),
    }
}

/// Whether a directory was left by a run that did not come to its metadata; `owner` is that of the snapshot.
pub(super) fn is_unfinished(found: &Stat, owner: u64) -> bool {
    // A parent may pass its set-group-id bit on.
    let mode = Mode::from_raw_mode(found.st_mode & 0o5777);
    let ours = found.st_uid == rustix::process::geteuid().as_raw() || u64::from(found.st_uid) == owner;
    mode == UNFINISHED && ours
}

pub(super) fn failed(op: &'static str, path: &EntryPath, errno: Errno) -> Error {
    Error::Target { op, path: path.to_string(), source: errno.into() }
}

pub(super) fn obstructed(path: &EntryPath, reason: &'static str) -> Error {
    Error::Obstructed { path: path.to_string(), reason }
}
