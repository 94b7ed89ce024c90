//! Putting one file or link into its place: under a temporary name first, then by rename.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use xvault_core::{Entry, EntryPath, Metadata, Overwrite};

use super::litter;
use super::target::{Target, failed, obstructed, stat};
use crate::error::Error;
use crate::listing::ArchiveEntry;
use crate::reader::EntryReader;
use crate::watch::Watch;

/// Files up to here are written without asking whether there is room.
const SMALL: u64 = 1 << 20;

/// How much of a file is read at once to compare it.
const HASH_CHUNK: usize = 256 << 10;

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    Kept,
    Written { bytes: u64 },
}

/// Puts entries into a target.
pub(super) struct Placing<'a> {
    pub(super) target: &'a mut Target,
    pub(super) overwrite: Overwrite,
    pub(super) owner: Ownership,
}

impl Placing<'_> {
    pub(super) fn file<A: Read + Seek>(
        &mut self,
        shown: &Entry,
        body: &mut EntryReader<'_, A>,
        watch: &Watch,
    ) -> Result<Placed, Error> {
        let (path, size) = (&shown.path, body.entry().size());
        let unchanged = |_: BorrowedFd<'_>, stat: &Stat| Ok(is_same_file(stat, size, &shown.metadata));
        if self.keeps(path, unchanged)? {
            watch.progress.bytes(size);
            return Ok(Placed::Kept);
        }
        self.check_room(path, size)?;
        let overwrite = self.overwrite;
        let parent = self.target.parent(path)?;
        let (temporary, mut file) = Temporary::file(parent, path)?;
        let write_error = |source| Error::Target { op: "write", path: path.to_string(), source };
        while let Some(chunk) = body.next_chunk()? {
            watch.check()?;
            file.write_all(&chunk).map_err(write_error)?;
            watch.progress.bytes(chunk.len() as u64);
        }
        self.owner.apply(&OwnedFd::from(file), shown)?;
        Ok(match temporary.move_in(path, overwrite)? {
            Placed::Written { .. } => Placed::Written { bytes: size },
            Placed::Kept => Placed::Kept,
        })
    }

    pub(super) fn symlink(&mut self, shown: &Entry, target: &[u8]) -> Result<Placed, Error> {
        let path = &shown.path;
        let unchanged = |parent: BorrowedFd<'_>, stat: &Stat| {
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            let points_to = || rustix::fs::readlinkat(parent, path.name(), Vec::new());
            Ok(is_link && points_to().map_err(|errno| failed("read", path, errno))?.as_bytes() == target)
        };
        if self.keeps(path, unchanged)? {
            return Ok(Placed::Kept);
        }
        let overwrite = self.overwrite;
        let parent = self.target.parent(path)?;
        let make = |name: &str| rustix::fs::symlinkat(target, parent, name);
        let temporary = Temporary::make(parent, path, make)?;
        self.owner.apply_to_link(parent, &temporary.name, shown)?;
        temporary.move_in(path, overwrite)
    }

    /// `target` is a file that this extraction has met before.
    pub(super) fn hardlink(&mut self, path: &EntryPath, target: &EntryPath) -> Result<Placed, Error> {
        let (from, there) = self.link_source(target)?;
        let same = |found: &Stat| (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino);
        // Renaming one name of a file over another does nothing, so equal ones are left alone in any case.
        let existing = stat(self.target.parent(path)?, path)?;
        if existing.as_ref().is_some_and(same) || self.keeps(path, |_, found| Ok(same(found)))? {
            return Ok(Placed::Kept);
        }
        let overwrite = self.overwrite;
        let parent = self.target.parent(path)?;
        let make = |name: &str| rustix::fs::linkat(&from, target.name(), parent, name, AtFlags::empty());
        let temporary = Temporary::make(parent, path, make)?;
        temporary.move_in(path, overwrite)
    }

    /// Whether anything but a directory stands at `path`, when nothing is overwritten.
    pub(super) fn exists(&mut self, path: &EntryPath) -> Result<bool, Error> {
        self.keeps(path, |_, _| Ok(true))
    }

    /// Whether what stands at the place of `shown` is that file: size, owner, mode, time and, last as it has to be read,
    /// content.
    pub(super) fn is_whole(
        &mut self,
        shown: &Entry,
        content: &ArchiveEntry,
        watch: &Watch,
    ) -> Result<bool, Error> {
        let (path, owner) = (&shown.path, self.owner);
        let parent = self.target.parent(path)?;
        let same = |found: &Stat| {
            is_same_file(found, content.size(), &shown.metadata) && owner.is_restored(found, &shown.metadata)
        };
        if !stat(parent, path)?.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, path.name(), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(hash(File::from(fd), path, watch)?) == content.blake3),
            // What we may not read we can't know to be the same.
            Err(Errno::ACCESS) => Ok(false),
            Err(errno) => Err(failed("open", path, errno)),
        }
    }

    fn link_source(&mut self, target: &EntryPath) -> Result<(OwnedFd, Stat), Error> {
        let parent = self.target.parent(target)?;
        let found = stat(parent, target)?.ok_or_else(|| failed("link to", target, Errno::NOENT))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(obstructed(
                target,
                "it is no regular file, but a hard link of the snapshot leads there",
            ));
        }
        let parent = parent.try_clone_to_owned().map_err(|e| failed("open", target, errno_of(&e)))?;
        Ok((parent, found))
    }

    /// Whether what stands at `path` stays there.
    fn keeps(
        &mut self,
        path: &EntryPath,
        unchanged: impl Fn(BorrowedFd<'_>, &Stat) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let overwrite = self.overwrite;
        let parent = self.target.parent(path)?;
        let Some(found) = stat(parent, path)? else { return Ok(false) };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Err(obstructed(path, "it is a directory, but the snapshot has none there"));
        }
        match overwrite {
            Overwrite::Never => Ok(true),
            Overwrite::IfChanged => unchanged(parent, &found),
            Overwrite::Always => Ok(false),
        }
    }

    fn check_room(&self, path: &EntryPath, size: u64) -> Result<(), Error> {
        if size > SMALL && self.target.free_bytes().is_some_and(|free| free < size) {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(Error::Target { op: "find room for", path: path.to_string(), source });
        }
        Ok(())
    }
}

fn hash(mut file: File, path: &EntryPath, watch: &Watch) -> Result<[u8; 32], Error> {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; HASH_CHUNK]);
    loop {
        watch.check()?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(len) => hasher.update(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::Target { op: "read", path: path.to_string(), source }),
        };
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

fn is_same_file(found: &Stat, size: u64, metadata: &Metadata) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
        && u64::try_from(found.st_size) == Ok(size)
        && has_time(found, metadata)
}

fn has_time(found: &Stat, metadata: &Metadata) -> bool {
    found.st_mtime == metadata.mtime.secs && u64::from(metadata.mtime.nanos) == found.st_mtime_nsec
}

/// A file or link under a name of its own, removed unless it was moved away.
struct Temporary<'a> {
    parent: BorrowedFd<'a>,
    name: String,
}

impl<'a> Temporary<'a> {
    fn file(parent: BorrowedFd<'a>, path: &EntryPath) -> Result<(Self, File), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = None;
        let made = Self::make(parent, path, |name| {
            file = Some(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            Ok(())
        })?;
        file.map(|fd| (made, File::from(fd))).ok_or_else(|| failed("create", path, Errno::IO))
    }

    /// Calls `make` with names until one is free.
    fn make(
        parent: BorrowedFd<'a>,
        path: &EntryPath,
        mut make: impl FnMut(&str) -> Result<(), Errno>,
    ) -> Result<Self, Error> {
        for _ in 0..1000 {
            let name = litter::fresh_name();
            match make(&name) {
                Ok(()) => return Ok(Self { parent, name }),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("create", path, errno)),
            }
        }
        Err(failed("create", path, Errno::EXIST))
    }

    /// Gives a finished file its name, unless something got there first that is to be kept.
    fn move_in(&self, path: &EntryPath, overwrite: Overwrite) -> Result<Placed, Error> {
        let (parent, from, to) = (self.parent, self.name.as_str(), path.name());
        let moved = match overwrite {
            Overwrite::Never => {
                match rustix::fs::renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => return Ok(Placed::Kept),
                    // Some file systems don't know the flag; that nothing stood there was seen a moment ago.
                    Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(parent, from, parent, to),
                    moved => moved,
                }
            }
            Overwrite::IfChanged | Overwrite::Always => rustix::fs::renameat(parent, from, parent, to),
        };
        moved.map(|()| Placed::Written { bytes: 0 }).map_err(|errno| failed("rename", path, errno))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // Gone already when it was moved into its place.
        let _ = rustix::fs::unlinkat(self.parent, self.name.as_str(), AtFlags::empty());
    }
}

/// Whether, and how, owner, mode and time are restored.
#[derive(Clone, Copy)]
pub(super) struct Ownership {
    pub(super) restore: bool,
}

impl Ownership {
    /// Owner first, as changing it clears set-id bits; the mode last: until then a directory is known to be unfinished.
    pub(super) fn apply(self, fd: &OwnedFd, entry: &Entry) -> Result<(), Error> {
        let (path, metadata) = (&entry.path, &entry.metadata);
        if self.restore {
            let (uid, gid) = owner(entry)?;
            rustix::fs::fchown(fd, Some(uid), Some(gid))
                .map_err(|errno| failed("set the owner of", path, errno))?;
        }
        let times = times(metadata);
        rustix::fs::futimens(fd, &times).map_err(|errno| failed("set the time of", path, errno))?;
        let mode = Mode::from_raw_mode(metadata.mode & self.mode_bits());
        rustix::fs::fchmod(fd, mode).map_err(|errno| failed("set the mode of", path, errno))
    }

    /// Whether [`Ownership::apply`] would change nothing.
    pub(super) fn is_restored(self, found: &Stat, metadata: &Metadata) -> bool {
        let owner = (u64::from(found.st_uid), u64::from(found.st_gid));
        has_time(found, metadata)
            && found.st_mode & 0o7777 == metadata.mode & self.mode_bits()
            && (!self.restore || owner == (metadata.uid, metadata.gid))
    }

    /// The mode bits that are restored: without the owner no set-id bits.
    fn mode_bits(self) -> u32 {
        if self.restore { 0o7777 } else { 0o1777 }
    }

    fn apply_to_link(self, parent: BorrowedFd<'_>, name: &str, entry: &Entry) -> Result<(), Error> {
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        if self.restore {
            let (uid, gid) = owner(entry)?;
            rustix::fs::chownat(parent.as_fd(), name, Some(uid), Some(gid), no_follow)
                .map_err(|errno| failed("set the owner of", &entry.path, errno))?;
        }
        let times = times(&entry.metadata);
        rustix::fs::utimensat(parent, name, &times, no_follow)
            .map_err(|errno| failed("set the time of", &entry.path, errno))
    }
}

/// Numbers that Linux has: 32 bits, of which the last stands for "don't change".
fn owner(entry: &Entry) -> Result<(Uid, Gid), Error> {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    match (id(entry.metadata.uid), id(entry.metadata.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(Error::Hostile {
            path: entry.path.to_string(),
            reason: "has an owner that this system can't have (extracting without owners ignores it)",
        }),
    }
}

fn times(metadata: &Metadata) -> Timestamps {
    let mtime = metadata.mtime;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
    }
}
