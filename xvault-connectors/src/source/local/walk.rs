//! The walk: parents before children, siblings by the bytes of their names; one thread, blocking.

use std::fs::{File, Metadata as Stat};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use xvault_core::{Entry, EntryKind, EntryPath, Warning, WarningCode};

use super::body::{self, Ending};
use super::events::{Event, Outbox};
use super::hard_links::HardLinks;
use super::names::{Kind, Names};
use super::open::{self, Refusal};
use super::roots::Root;
use crate::Error;
use crate::source::excludes::Excludes;

/// Directories kept open at once; those further up are opened again from below on the way back.
const MAX_OPEN: usize = 64;

/// What the walk brought to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// Listings that came to their end.
    pub(super) directories: u64,
    /// Bodies that came to their end.
    pub(super) files: u64,
}

/// Tells `outbox` everything below `roots`, but for the directories `left_out`.
///
/// # Errors
/// When a root can't be opened, a listing breaks off, or nobody listens any more.
pub(super) fn walk(
    roots: &[Root],
    excludes: &Excludes,
    left_out: &[PathBuf],
    outbox: Outbox,
) -> Result<Walked, Error> {
    let mut walk = Walk {
        excludes,
        left_out: left_out.iter().filter_map(|dir| dir.metadata().ok()).map(|stat| identity(&stat)).collect(),
        outbox,
        links: HardLinks::default(),
        root: None,
        levels: Vec::new(),
        walked: Walked::default(),
    };
    for root in roots {
        root.refuse_inside(left_out)?;
    }
    for root in roots {
        walk.root(root)?;
    }
    walk.outbox.flush()?;
    Ok(walk.walked)
}

/// Tells a directory from all others.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.dev(), stat.ino())
}

struct Walk<'a> {
    excludes: &'a Excludes,
    left_out: Vec<(u64, u64)>,
    outbox: Outbox,
    links: HardLinks,
    root: Option<EntryPath>,
    levels: Vec<Level>,
    walked: Walked,
}

/// A directory on the way down.
struct Level {
    /// `None` while it is closed to save descriptors.
    dir: Option<File>,
    identity: (u64, u64),
    path: Option<EntryPath>,
    names: Names,
}

impl Walk<'_> {
    fn root(&mut self, root: &Root) -> Result<(), Error> {
        let opened = root.open()?;
        let shown = shown(root.path.as_ref());
        let stat = opened.metadata().map_err(Error::io(format!("look at {shown}")))?;
        self.root.clone_from(&root.path);
        match &root.path {
            Some(path) if !stat.is_dir() => self.opened_file(path.clone(), &opened, &stat),
            path => {
                self.enter(opened, &stat, path.clone())?;
                self.run()
            }
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        while let Some(level) = self.levels.last_mut() {
            let Some((name, kind)) = level.names.next() else {
                self.leave()?;
                continue;
            };
            let path = match &level.path {
                Some(dir) => dir.join(name),
                None => EntryPath::new(name),
            };
            match path {
                Ok(path) => self.child(path, kind)?,
                Err(error) => self.bad_name(&error.to_string())?,
            }
        }
        Ok(())
    }

    fn child(&mut self, path: EntryPath, kind: Kind) -> Result<(), Error> {
        let kind = if kind == Kind::Unknown { self.kind_of(&path) } else { kind };
        if self.excludes.excludes(self.root.as_ref(), &path, kind == Kind::Directory) {
            return Ok(());
        }
        match kind {
            Kind::Directory => self.directory(path),
            Kind::Symlink => self.symlink(path),
            Kind::Special => self.outbox.push(Event::Special),
            // What was gone when it was looked at is gone when it is opened, and told then.
            Kind::File | Kind::Unknown => self.file(path),
        }
    }

    /// For file systems whose listings do not say.
    fn kind_of(&self, path: &EntryPath) -> Kind {
        let looked = self.open(path, open::look).map(|(_, stat)| stat.file_type());
        match looked {
            Ok(kind) if kind.is_dir() => Kind::Directory,
            Ok(kind) if kind.is_file() => Kind::File,
            Ok(kind) if kind.is_symlink() => Kind::Symlink,
            Ok(_) => Kind::Special,
            Err(_) => Kind::Unknown,
        }
    }

    /// Opens an entry of the current directory and looks at it.
    fn open(
        &self,
        path: &EntryPath,
        how: fn(&File, &[u8]) -> Result<File, Refusal>,
    ) -> Result<(File, Stat), Refusal> {
        let Some(dir) = self.levels.last().and_then(|level| level.dir.as_ref()) else {
            return Err(Refusal::Ours(std::io::Error::other("the directory is closed")));
        };
        let opened = how(dir, path.name())?;
        let stat = opened.metadata().map_err(|error| open::unreadable(&error))?;
        Ok((opened, stat))
    }

    fn file(&mut self, path: EntryPath) -> Result<(), Error> {
        match self.open(&path, open::file) {
            Ok((file, stat)) => self.opened_file(path, &file, &stat),
            Err(refusal) => self.refused(path, refusal),
        }
    }

    fn opened_file(&mut self, path: EntryPath, file: &File, stat: &Stat) -> Result<(), Error> {
        if !stat.is_file() {
            return self.replaced(path, stat);
        }
        if let Some(target) = self.links.earlier_name(stat) {
            return self.whole(path, EntryKind::Hardlink { target }, stat);
        }
        self.links.handed_on(stat, &path);
        let kind = EntryKind::File { size: stat.len() };
        self.outbox.push(Event::Begin(Entry { path: path.clone(), kind, metadata: open::metadata(stat) }))?;
        let ending = body::hand_on(file, stat.len(), &mut self.outbox)?;
        self.outbox.push(Event::End)?;
        match ending {
            Ending::Read => {
                self.walked.files += 1;
                Ok(())
            }
            Ending::Broken(error) => self.refused(path, open::unreadable(&error)),
        }
    }

    fn replaced(&mut self, path: EntryPath, stat: &Stat) -> Result<(), Error> {
        if stat.is_dir() || stat.is_symlink() {
            self.warn(path, WarningCode::Vanished, "was replaced by something else".into())
        } else {
            self.outbox.push(Event::Special)
        }
    }

    fn symlink(&mut self, path: EntryPath) -> Result<(), Error> {
        let looked = self.open(&path, open::look).map(|(link, stat)| {
            let target = open::target(&link).map_err(|error| open::unreadable(&error));
            (stat, target)
        });
        match looked {
            Ok((stat, Ok(target))) if stat.is_symlink() => {
                self.whole(path, EntryKind::Symlink { target }, &stat)
            }
            Ok((_, Err(refusal))) | Err(refusal) => self.refused(path, refusal),
            Ok(_) => self.warn(path, WarningCode::Vanished, "was replaced by something else".into()),
        }
    }

    fn directory(&mut self, path: EntryPath) -> Result<(), Error> {
        match self.open(&path, open::directory) {
            Ok((_, stat)) if self.left_out.contains(&identity(&stat)) => Ok(()),
            Ok((dir, stat)) => self.enter(dir, &stat, Some(path)),
            Err(Refusal::Entry(WarningCode::Unreadable, message)) => self.closed_directory(path, message),
            Err(refusal) => self.refused(path, refusal),
        }
    }

    /// The directory itself can be kept, though not what is in it.
    fn closed_directory(&mut self, path: EntryPath, message: String) -> Result<(), Error> {
        if let Ok((_, stat)) = self.open(&path, open::look)
            && stat.is_dir()
        {
            self.whole(path.clone(), EntryKind::Directory, &stat)?;
        }
        self.warn(path, WarningCode::Unreadable, message)
    }

    fn enter(&mut self, dir: File, stat: &Stat, path: Option<EntryPath>) -> Result<(), Error> {
        if let Some(path) = &path {
            self.whole(path.clone(), EntryKind::Directory, stat)?;
        }
        let shown = shown(path.as_ref());
        match Names::read(&dir).map_err(Error::io(format!("list {shown}")))? {
            Some(names) => {
                self.walked.directories += 1;
                let identity = identity(stat);
                self.levels.push(Level { dir: Some(dir), identity, path, names });
                self.save_descriptors();
                Ok(())
            }
            None => match path {
                Some(path) => self.warn(path, WarningCode::Vanished, "is gone".into()),
                None => Err(Error::Incomplete(format!("{shown} is gone"))),
            },
        }
    }

    fn save_descriptors(&mut self) {
        let Some(above) = self.levels.len().checked_sub(MAX_OPEN + 1) else { return };
        if let Some(level) = self.levels.get_mut(above) {
            level.dir = None;
        }
    }

    /// Goes back up.
    fn leave(&mut self) -> Result<(), Error> {
        let left = self.levels.pop().and_then(|level| level.dir);
        let Some(level) = self.levels.last_mut().filter(|level| level.dir.is_none()) else { return Ok(()) };
        let shown = shown(level.path.as_ref());
        let Some(left) = left else { return Err(moved(&shown)) };
        let dir = open::parent(&left).map_err(Error::io(format!("go back to {shown}")))?;
        let stat = dir.metadata().map_err(Error::io(format!("look at {shown}")))?;
        // What lies above now may be anywhere: without this check a moved directory would lead out of the tree.
        if identity(&stat) != level.identity {
            return Err(moved(&shown));
        }
        level.dir = Some(dir);
        Ok(())
    }

    fn whole(&mut self, path: EntryPath, kind: EntryKind, stat: &Stat) -> Result<(), Error> {
        self.outbox.push(Event::Whole(Entry { path, kind, metadata: open::metadata(stat) }))
    }

    fn refused(&mut self, path: EntryPath, refusal: Refusal) -> Result<(), Error> {
        match refusal {
            Refusal::Entry(code, message) => self.warn(path, code, message),
            Refusal::Special => self.outbox.push(Event::Special),
            Refusal::Ours(error) => Err(Error::io(format!("open /{path}"))(error)),
        }
    }

    /// Only a path that is too long can't be kept: it is told at its directory.
    fn bad_name(&mut self, message: &str) -> Result<(), Error> {
        match self.levels.last().and_then(|level| level.path.clone()) {
            Some(path) => self.warn(path, WarningCode::BadName, format!("an entry is left out: {message}")),
            None => Err(Error::Incomplete(format!("an entry of / can't be kept: {message}"))),
        }
    }

    fn warn(&mut self, path: EntryPath, code: WarningCode, message: String) -> Result<(), Error> {
        self.outbox.push(Event::Warning(Warning { path, code, message }))
    }
}

fn shown(path: Option<&EntryPath>) -> String {
    path.map_or_else(|| "/".to_owned(), |path| format!("/{path}"))
}

fn moved(shown: &str) -> Error {
    Error::Incomplete(format!("{shown} was moved while it was read"))
}
