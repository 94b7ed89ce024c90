//! What a user asked for and what the remote tar sent.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use xvault_core::tar::{BLOCK_LEN, Event, TarEntry, TarKind, TarParser};
use xvault_core::{Entry, EntryKind, EntryPath};

/// Configured paths, globs and streams of a case; more only cost time.
const MOST: usize = 8;

/// One pull.
pub(super) struct Case {
    /// `None` is the file system's root.
    pub(super) roots: Vec<Option<EntryPath>>,
    pub(super) globs: Vec<String>,
    /// All that comes, one archive behind the other.
    pub(super) tar: Vec<u8>,
}

impl Case {
    pub(super) fn of(data: &[u8]) -> Self {
        let mut parts = data.splitn(3, |byte| *byte == b'\n');
        let roots = words(parts.next()).filter_map(|path| EntryPath::from_source(path).ok());
        let roots = outermost(roots.take(MOST).collect());
        let globs = words(parts.next()).take(MOST).map(|glob| String::from_utf8_lossy(glob).into_owned());
        Self { roots, globs: globs.collect(), tar: parts.next().unwrap_or_default().to_vec() }
    }

    /// The archives, each to its last block; the last one perhaps without an end.
    pub(super) fn streams(&self) -> Vec<&[u8]> {
        let (mut streams, mut rest) = (Vec::new(), self.tar.as_slice());
        while !rest.is_empty() && streams.len() < MOST {
            let (stream, behind) = rest.split_at(archive_len(rest));
            streams.push(stream);
            // GNU tar fills its last record.
            let padding = behind.chunks(BLOCK_LEN).take_while(|block| block.iter().all(|byte| *byte == 0));
            rest = behind.get(padding.map(<[u8]>::len).sum()..).unwrap_or_default();
        }
        streams
    }

    /// The number of the configured path that `path` lies in.
    pub(super) fn root_of(&self, path: &EntryPath) -> Option<usize> {
        self.roots.iter().position(|root| root.as_ref().is_none_or(|root| path.is_within(root)))
    }

    /// Whether `path` or a directory above it is excluded, as gitignore(5) has it.
    pub(super) fn is_left_out(&self, path: &EntryPath, is_dir: bool) -> bool {
        let root = self.root_of(path).and_then(|number| self.roots.get(number)?.as_ref());
        let skipped = root.map_or(0, |root| root.components().count());
        let Some(ignore) = ignore(&self.globs) else { return false };
        let names: Vec<_> = path.components().skip(skipped).collect();
        (1..=names.len()).any(|depth| {
            let relative = names.get(..depth).unwrap_or_default().join(&b'/');
            let relative = Path::new(OsStr::from_bytes(&relative));
            ignore.matched(relative, is_dir || depth < names.len()).is_ignore()
        })
    }
}

fn ignore(globs: &[String]) -> Option<Gitignore> {
    let mut builder = GitignoreBuilder::new("");
    for glob in globs {
        builder.add_line(None, glob).ok()?;
    }
    builder.build().ok()
}

fn words(line: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    line.unwrap_or_default().split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// As a source has them that looked them up: none inside another.
fn outermost(roots: Vec<Option<EntryPath>>) -> Vec<Option<EntryPath>> {
    let is_within = |inner: &Option<EntryPath>, outer: &Option<EntryPath>| match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => inner.is_within(outer),
    };
    let mut kept: Vec<Option<EntryPath>> = Vec::new();
    for root in roots {
        if !kept.iter().any(|outer| is_within(&root, outer)) {
            kept.retain(|inner| !is_within(inner, &root));
            kept.push(root);
        }
    }
    kept
}

fn archive_len(data: &[u8]) -> usize {
    let mut parser = TarParser::new();
    let mut data = Bytes::copy_from_slice(data);
    let len = data.len();
    while let Ok(Some(_)) = parser.next(&mut data) {}
    if parser.is_ended() { usize::try_from(parser.offset()).unwrap_or(len).min(len) } else { len }
}

/// An entry of a stream, kept or not.
pub(super) struct Header {
    /// `None` is the file system's root, or what is no path.
    pub(super) path: Option<EntryPath>,
    pub(super) tar: TarEntry,
}

impl Header {
    pub(super) fn is_link(&self) -> bool {
        matches!(self.tar.kind, TarKind::Hardlink { .. })
    }

    /// Whether this entry can have been made of it.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        let same_kind = match (&self.tar.kind, &entry.kind) {
            (TarKind::File, EntryKind::File { size }) => self.tar.size == *size,
            (TarKind::Directory, EntryKind::Directory) => true,
            (TarKind::Symlink { target: sent }, EntryKind::Symlink { target }) => sent == target,
            (TarKind::Hardlink { target: sent }, EntryKind::Hardlink { target }) => {
                EntryPath::from_source(sent).ok().flatten().as_ref() == Some(target)
            }
            _ => false,
        };
        same_kind && self.path.as_ref() == Some(&entry.path)
    }
}

/// The entries of a stream, as far as it can be read.
pub(super) fn headers(stream: &[u8]) -> Vec<Header> {
    let mut parser = TarParser::new();
    let mut data = Bytes::copy_from_slice(stream);
    let mut headers = Vec::new();
    while let Ok(Some(event)) = parser.next(&mut data) {
        if let Event::Header(tar) = event {
            headers.push(Header { path: EntryPath::from_source(&tar.path).ok().flatten(), tar: *tar });
        }
    }
    headers
}
