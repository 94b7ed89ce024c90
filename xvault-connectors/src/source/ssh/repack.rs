//! From a remote tar stream to entries.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use xvault_core::entry::display_name;
use xvault_core::tar::{Event, TarEntry, TarKind, TarParser};
use xvault_core::{Entry, EntryKind, EntryPath, WarningCode};

use crate::Error;
use crate::source::Emitter;
use crate::source::sftp::order::Place;
use crate::source::sftp::scope::{Delivered, OpenBody, Root, Scope, closed_root};

use super::complaints::Complaint;

/// Memory for the paths of hard links that have to be fetched by themselves: room for some 100,000. They are
/// held up to three times while they are fetched.
const MAX_ORPHANS_LEN: usize = 16 << 20;

/// Takes the streams of one pull, one after the other, and pushes what they hold.
pub(super) struct Repacker<'r, 'e> {
    scope: &'r Scope,
    emitter: &'r mut Emitter<'e>,
    parser: TarParser,
    /// The number of the configured path whose entries come.
    root: usize,
    last: Option<(usize, EntryPath)>,
    /// The body that is being handed on.
    body: Option<OpenBody>,
    /// The directory that is excluded: what comes now lies below it.
    excluded: Option<EntryPath>,
    /// The directory that the last entry lay in, which is not excluded and lies in none that is.
    kept_dir: Option<EntryPath>,
    directories: Seen,
    /// What a hard link can't point to: an archive has no file there, or not yet.
    no_files: Seen,
    /// Hard links that point to such.
    orphans: Vec<EntryPath>,
    /// What these paths take, in bytes.
    orphans_len: usize,
    /// Those of them that are fetched by themselves, once that has begun: these and no others, in no order.
    fetched_alone: Option<HashSet<EntryPath>>,
    /// How many those were at the beginning of the round.
    asked_alone: Option<usize>,
    /// Entries of the streams, kept or not.
    pub(super) entries: u64,
    /// Things of which tar said that they could not be read; each is a warning or excluded.
    pub(super) file_errors: u64,
    /// What else tar said, the last of it.
    pub(super) last_words: Option<String>,
}

/// What a complaint is about.
enum Named {
    Entry(EntryPath),
    /// Something that is left out on purpose.
    Excluded,
    /// Nothing that an entry could stand for.
    Nowhere,
}

/// Paths, as hashes: a pull has millions, and a rare mistaken hit does no harm.
#[derive(Default)]
struct Seen(HashSet<u64>, RandomState);

impl Seen {
    fn add(&mut self, path: &EntryPath) {
        self.0.insert(self.1.hash_one(path));
    }

    fn remove(&mut self, path: &EntryPath) {
        if !self.0.is_empty() {
            self.0.remove(&self.1.hash_one(path));
        }
    }

    fn has(&self, path: &EntryPath) -> bool {
        self.0.contains(&self.1.hash_one(path))
    }
}

impl<'r, 'e> Repacker<'r, 'e> {
    pub(super) fn new(scope: &'r Scope, emitter: &'r mut Emitter<'e>) -> Self {
        Self {
            scope,
            emitter,
            parser: TarParser::new(),
            root: 0,
            last: None,
            body: None,
            excluded: None,
            kept_dir: None,
            directories: Seen::default(),
            no_files: Seen::default(),
            orphans: Vec::new(),
            orphans_len: 0,
            fetched_alone: None,
            asked_alone: None,
            entries: 0,
            file_errors: 0,
            last_words: None,
        }
    }

    /// Who steers the job.
    pub(super) fn control(&self) -> &crate::Control {
        self.emitter.control()
    }

    /// Begins the next stream.
    pub(super) fn next_stream(&mut self) {
        self.parser = TarParser::new();
        self.file_errors = 0;
        self.last_words = None;
    }

    /// Takes a piece of the stream.
    pub(super) async fn stdout(&mut self, mut data: Bytes) -> Result<(), Error> {
        while let Some(event) = self.parser.next(&mut data).map_err(|error| broken(error.to_string()))? {
            match event {
                Event::Header(entry) => self.header(*entry).await?,
                Event::Data(data) if self.body.is_some() => self.emitter.data(data).await?,
                Event::EntryEnd if self.body.take().is_some() => self.emitter.end().await?,
                Event::Data(_) | Event::EntryEnd | Event::ArchiveEnd => {}
            }
        }
        Ok(())
    }

    /// Whether the stream came to its end.
    pub(super) fn is_ended(&self) -> bool {
        self.parser.is_ended()
    }

    async fn header(&mut self, entry: TarEntry) -> Result<(), Error> {
        self.entries += 1;
        let path = match EntryPath::from_source(&entry.path) {
            Ok(Some(path)) => path,
            // The file system's root itself is no entry.
            Ok(None) => return Ok(()),
            Err(error) => {
                return Err(Error::Protocol { server: "remote tar".into(), detail: error.to_string() });
            }
        };
        self.find_root(&path)?;
        if self.is_excluded(&path, &entry.kind) {
            self.no_files.add(&path);
            return Ok(());
        }
        self.keep(path, entry).await
    }

    /// Mostly it is the configured path of the entry before.
    fn find_root(&mut self, path: &EntryPath) -> Result<(), Error> {
        if !self.scope.roots.get(self.root).is_some_and(|root| holds(root, path)) {
            let found = self.scope.roots.iter().position(|root| holds(root, path));
            self.root =
                found.ok_or_else(|| broken(format!("`{path}` lies outside of the configured paths")))?;
        }
        Ok(())
    }

    /// No path comes twice, and a walk can go on from any place, because all come in order.
    fn check_order(&mut self, path: &EntryPath) -> Result<(), Error> {
        let expected = match &mut self.fetched_alone {
            Some(paths) => paths.remove(path),
            None => {
                let place = Place::new(self.root, Some(path));
                self.last.as_ref().is_none_or(|(root, last)| Place::new(*root, Some(last)) < place)
            }
        };
        if expected {
            return Ok(());
        }
        Err(broken(format!("`{path}` comes twice or in the wrong order")))
    }

    fn is_excluded(&mut self, path: &EntryPath, kind: &TarKind) -> bool {
        if self.excluded.as_ref().is_some_and(|excluded| path.is_within(excluded))
            || self.lies_in_excluded(path)
        {
            return true;
        }
        let is_dir = *kind == TarKind::Directory;
        let excluded = self.scope.excludes(self.root, path, is_dir);
        if excluded && is_dir {
            self.excluded = Some(path.clone());
        }
        excluded
    }

    /// A tar that names what lies in an excluded directory need not have named the directory.
    fn lies_in_excluded(&mut self, path: &EntryPath) -> bool {
        let parent = path.parent();
        if parent == self.kept_dir {
            return false;
        }
        let excluded = self.excluded_above(self.root, path);
        let found = excluded.is_some();
        match excluded {
            None => self.kept_dir = parent,
            excluded => self.excluded = excluded,
        }
        found
    }

    /// The innermost excluded directory above `path` and below the configured path.
    fn excluded_above(&self, root: usize, path: &EntryPath) -> Option<EntryPath> {
        let below = |dir: &EntryPath| self.scope.roots.get(root).is_some_and(|root| holds(root, dir));
        let above = std::iter::successors(path.parent(), EntryPath::parent).take_while(below);
        above.into_iter().find(|dir| self.scope.excludes(root, dir, true))
    }

    async fn keep(&mut self, path: EntryPath, entry: TarEntry) -> Result<(), Error> {
        self.check_order(&path)?;
        self.last = Some((self.root, path.clone()));
        let kind = match entry.kind {
            TarKind::File => EntryKind::File { size: entry.size },
            TarKind::Directory => EntryKind::Directory,
            TarKind::Symlink { target } => EntryKind::Symlink { target },
            TarKind::Hardlink { target } => match self.link_target(&path, &target) {
                Some(target) => EntryKind::Hardlink { target },
                None => return self.orphan(path),
            },
            TarKind::Special(_) => {
                self.no_files.add(&path);
                self.emitter.skip_special();
                return Ok(());
            }
            _ => {
                self.no_files.add(&path);
                let message = "is of a kind that can't be kept";
                return self.emitter.warn(path, WarningCode::Other, message).await;
            }
        };
        self.push(Entry { path, kind, metadata: entry.metadata }).await
    }

    async fn push(&mut self, entry: Entry) -> Result<(), Error> {
        match &entry.kind {
            EntryKind::Directory => self.directories.add(&entry.path),
            EntryKind::Symlink { .. } => self.no_files.add(&entry.path),
            EntryKind::File { size } => {
                let (path, mtime) = (entry.path.clone(), entry.metadata.mtime);
                self.no_files.remove(&path);
                self.body = Some(OpenBody { path, size: *size, mtime });
            }
            _ => {}
        }
        self.emitter.begin(entry).await
    }

    /// What the hard link at `path` points to, if the sink should have it: that tar did send it as a file is
    /// not checked, since remembering all files of a pull takes memory that grows with their number. The
    /// check of a finished snapshot finds links to nothing.
    fn link_target(&self, path: &EntryPath, target: &[u8]) -> Option<EntryPath> {
        let target = EntryPath::from_source(target).ok().flatten()?;
        let root = self.scope.roots.iter().position(|root| holds(root, &target))?;
        let came_before = match &self.fetched_alone {
            Some(to_come) => target != *path && !to_come.contains(&target),
            None => Place::new(root, Some(&target)) < Place::new(self.root, Some(path)),
        };
        let is_left_out = self.no_files.has(&target)
            || self.directories.has(&target)
            || self.scope.excludes(root, &target, false)
            || self.excluded_above(root, &target).is_some();
        (came_before && !is_left_out).then_some(target)
    }

    fn orphan(&mut self, path: EntryPath) -> Result<(), Error> {
        self.orphans_len += path.as_bytes().len() + size_of::<EntryPath>();
        if self.orphans_len > MAX_ORPHANS_LEN {
            return Err(broken(format!(
                "up to `{path}`, hard links to things that are not kept take more than {MAX_ORPHANS_LEN} bytes of memory"
            )));
        }
        self.no_files.add(&path);
        self.orphans.push(path);
        Ok(())
    }

    /// Takes what tar said.
    pub(super) async fn complaint(&mut self, complaint: Complaint) -> Result<(), Error> {
        match complaint {
            Complaint::Socket => self.emitter.skip_special(),
            Complaint::Noise(text) => self.last_words = Some(text),
            Complaint::Other(text) => {
                self.last_words = Some(text.clone());
                self.warn_of_root(format!("the remote tar complains: {text}")).await?;
            }
            // Something came or went in it meanwhile; what was there at both times was read.
            Complaint::Changed { name } => {
                if let Named::Entry(path) = self.named(&name)
                    && !self.directories.has(&path)
                {
                    self.emitter.warn(path, WarningCode::Other, "was changed while it was read").await?;
                }
            }
            Complaint::About { name, code, message, unread } => {
                self.file_errors += 1;
                self.about(&name, code, &message, unread).await?;
            }
        }
        Ok(())
    }

    async fn about(
        &mut self,
        name: &[u8],
        code: WarningCode,
        message: &str,
        unread: bool,
    ) -> Result<(), Error> {
        if let Ok(path) = EntryPath::from_source(name)
            && unread
            && self.scope.is_root(path.as_ref())
        {
            return Err(closed_root(path.as_ref(), code, message));
        }
        match self.named(name) {
            Named::Entry(path) => self.emitter.warn(path, code, message).await,
            Named::Excluded => Ok(()),
            Named::Nowhere => self.warn_of_root(format!("`{}` {message}", display_name(name))).await,
        }
    }

    /// What can be told of no entry is told of the configured path whose entries come: the snapshot is not whole.
    async fn warn_of_root(&mut self, message: String) -> Result<(), Error> {
        let root = self.scope.roots.get(self.root);
        match root.and_then(Root::told_at) {
            Some(path) => self.emitter.warn(path, WarningCode::Other, message).await,
            None => Err(broken(message)),
        }
    }

    /// What tar speaks of.
    fn named(&self, name: &[u8]) -> Named {
        let path = EntryPath::from_source(name).ok().flatten();
        let roots = &self.scope.roots;
        let found = path.and_then(|path| Some((roots.iter().position(|root| holds(root, &path))?, path)));
        let Some((number, path)) = found else { return Named::Nowhere };
        // Whether it was a directory is not known, so what either way is excluded counts.
        let hidden = self.scope.excludes(number, &path, false) && self.scope.excludes(number, &path, true);
        let below = self.excluded_above(number, &path).is_some();
        if below || hidden { Named::Excluded } else { Named::Entry(path) }
    }

    /// Whether some hard links have to be fetched by themselves.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Hard links that have to be fetched by themselves, in the streams that come now.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when the last round brought none of those it was for: the next would not either.
    pub(super) fn take_orphans(&mut self) -> Result<Vec<EntryPath>, Error> {
        let orphans = std::mem::take(&mut self.orphans);
        self.orphans_len = 0;
        if let Some(first) = orphans.first()
            && self.asked_alone.is_some_and(|asked| orphans.len() >= asked)
        {
            return Err(Error::Incomplete(format!("`{first}` and other hard links could not be read")));
        }
        self.asked_alone = Some(orphans.len());
        self.fetched_alone = Some(orphans.iter().cloned().collect());
        Ok(orphans)
    }

    /// How far the streams came, for a walk that goes on from there.
    pub(super) fn delivered(self) -> Option<Delivered> {
        let (root, path) = self.last?;
        Some(Delivered { place: Place::new(root, Some(&path)), open_body: self.body })
    }
}

fn holds(root: &Root, path: &EntryPath) -> bool {
    root.path.as_ref().is_none_or(|root| path.is_within(root))
}

fn broken(detail: String) -> Error {
    Error::Protocol { server: "the remote tar".into(), detail }
}
