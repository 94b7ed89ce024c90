//! The names in one directory, sorted by their bytes and kept compactly.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// Room for what one call to the kernel returns.
const BUFFER_LEN: usize = 64 * 1024;

/// More names than this in one directory are taken for an endless listing.
const MAX_NAMES: usize = 1 << 24;

/// What a name stands for, as the listing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Symlink,
    /// Socket, pipe or device node.
    Special,
    /// The file system does not say.
    Unknown,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Unknown => Self::Unknown,
            _ => Self::Special,
        }
    }
}

/// The names, handed out one by one.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// All names behind each other: a million of them cost about 30 MB.
    bytes: Vec<u8>,
    spans: Vec<Span>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    /// No Linux file system has longer names than 255 bytes; network ones might claim so.
    len: u16,
    kind: Kind,
}

impl Names {
    /// Lists `dir` to its end; `None` when it was removed meanwhile.
    ///
    /// # Errors
    /// When the listing breaks off, or is endless.
    pub(super) fn read(dir: &File) -> io::Result<Option<Self>> {
        let mut names = Self::default();
        let mut buffer = Vec::with_capacity(BUFFER_LEN);
        let mut listing = RawDir::new(dir.as_fd(), buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            match entry {
                Ok(entry) => names.add(entry.file_name().to_bytes(), entry.file_type().into())?,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        names.sort();
        Ok(Some(names))
    }

    fn add(&mut self, name: &[u8], kind: Kind) -> io::Result<()> {
        if matches!(name, b"." | b"..") {
            return Ok(());
        }
        let endless = || io::Error::new(io::ErrorKind::InvalidData, "too many entries in one directory");
        if self.spans.len() >= MAX_NAMES {
            return Err(endless());
        }
        let start = u32::try_from(self.bytes.len()).map_err(|_| endless())?;
        let len = u16::try_from(name.len()).map_err(|_| endless())?;
        self.bytes.extend_from_slice(name);
        self.spans.push(Span { start, len, kind });
        Ok(())
    }

    fn sort(&mut self) {
        let Self { bytes, spans, .. } = self;
        spans.sort_unstable_by(|a, b| name(bytes, *a).cmp(name(bytes, *b)));
    }

    /// The next name in order.
    pub(super) fn next(&mut self) -> Option<(&[u8], Kind)> {
        let span = *self.spans.get(self.next)?;
        self.next += 1;
        Some((name(&self.bytes, span), span.kind))
    }
}

fn name(bytes: &[u8], span: Span) -> &[u8] {
    let start = usize::try_from(span.start).unwrap_or(usize::MAX);
    bytes.get(start..start.saturating_add(usize::from(span.len))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_sorted_by_bytes_with_their_kind() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "B", "a-", "a", "\u{e9}"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("c")).unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("l")).unwrap();
        let mut names = Names::read(&File::open(dir.path()).unwrap()).unwrap().unwrap();
        let mut found = Vec::new();
        while let Some((name, kind)) = names.next() {
            found.push((String::from_utf8(name.to_vec()).unwrap(), kind));
        }
        let expected = [("B", Kind::File), ("a", Kind::File), ("a-", Kind::File), ("b", Kind::File)];
        let rest = [("c", Kind::Directory), ("l", Kind::Symlink), ("\u{e9}", Kind::File)];
        let expected = expected.into_iter().chain(rest).map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_removed_directory_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let open = File::open(dir.path()).unwrap();
        std::fs::remove_dir(dir.path()).unwrap();
        assert!(Names::read(&open).unwrap().is_none());
    }
}
