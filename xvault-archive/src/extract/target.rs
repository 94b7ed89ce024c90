//! Reaching places below the target directory without following a symbolic link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use xvault_core::EntryPath;

use crate::error::Error;

/// Opens a directory for what lies in it, never through a link.
const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Ours until their own metadata comes: nobody looks into half-restored directories.
const PRIVATE: Mode = Mode::RWXU;

/// The directory that is extracted into; remembers the directory it was in last.
pub(super) struct Target {
    root: OwnedFd,
    last: Option<(EntryPath, OwnedFd)>,
}

impl Target {
    /// Opens the directory, making it when it is missing. Links on the way *to* it are the caller's and are followed.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let error = |op| move |source| Error::Target { op, path: dir.display().to_string(), source };
        std::fs::create_dir_all(dir).map_err(error("create"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| error("open")(e.into()))?;
        Ok(Self { root, last: None })
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

    /// Makes a directory; `true` when it existed.
    pub(super) fn make_directory(&mut self, path: &EntryPath) -> Result<bool, Error> {
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(parent, path.name(), PRIVATE) {
            Ok(()) => Ok(false),
            Err(Errno::EXIST) => match file_type(parent, path)? {
                Some(FileType::Directory) => Ok(true),
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

    fn walk(&self, directory: &EntryPath) -> Result<OwnedFd, Error> {
        let mut at = None;
        let mut so_far: Option<EntryPath> = None;
        for component in directory.components() {
            let here = at.as_ref().map_or(self.root.as_fd(), OwnedFd::as_fd);
            let path = match so_far {
                None => EntryPath::new(component),
                Some(above) => above.join(component),
            };
            let path = path.map_err(|_| obstructed(directory, "its path is unsafe"))?;
            at = Some(enter(here, component, &path)?);
            so_far = Some(path);
        }
        at.ok_or_else(|| obstructed(directory, "its path is empty"))
    }
}

/// Opens a directory in `here`, making it when it is missing: with the usual mode, as no entry speaks of it.
fn enter(here: BorrowedFd<'_>, name: &[u8], path: &EntryPath) -> Result<OwnedFd, Error> {
    let open = || rustix::fs::openat(here, name, SEARCH, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) => match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(errno) => return Err(failed("create", path, errno)),
        },
        other => other,
    };
    opened.map_err(|errno| match errno {
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

fn file_type(parent: BorrowedFd<'_>, path: &EntryPath) -> Result<Option<FileType>, Error> {
    Ok(stat(parent, path)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

pub(super) fn failed(op: &'static str, path: &EntryPath, errno: Errno) -> Error {
    Error::Target { op, path: path.to_string(), source: errno.into() }
}

pub(super) fn obstructed(path: &EntryPath, reason: &'static str) -> Error {
    Error::Obstructed { path: path.to_string(), reason }
}
