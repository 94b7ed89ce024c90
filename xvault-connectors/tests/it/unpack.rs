//! A sink that writes what it is given into a directory, and insists on the grammar of sinks.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use xvault_connectors::{Control, Error, PullSummary, Source};
use xvault_core::{Entry, EntryKind, EntryPath, EntrySink, Metadata, SinkError, Warning};
use xvault_testkit::trees;

/// Called with each entry as it begins, and with `None` at each part of a body.
type Watch = Box<dyn FnMut(Option<&Entry>) + Send>;

pub(crate) struct Unpack {
    dir: PathBuf,
    pub(crate) entries: Vec<Entry>,
    pub(crate) warnings: Vec<Warning>,
    watch: Watch,
    seen: HashSet<EntryPath>,
    body: Option<(File, Option<u64>)>,
    late: Vec<(PathBuf, Metadata)>,
}

impl Unpack {
    pub(crate) fn into_dir(dir: &Path) -> Self {
        Self::watched(dir, |_| ())
    }

    pub(crate) fn watched(dir: &Path, watch: impl FnMut(Option<&Entry>) + Send + 'static) -> Self {
        Self {
            dir: dir.to_owned(),
            entries: Vec::new(),
            warnings: Vec::new(),
            watch: Box::new(watch),
            seen: HashSet::new(),
            body: None,
            late: Vec::new(),
        }
    }

    pub(crate) async fn pull(&mut self, source: &mut dyn Source) -> Result<PullSummary, Error> {
        let summary = source.pull(self, &Control::default()).await?;
        self.settle();
        assert_eq!(summary.content.warnings, self.warnings.len() as u64);
        Ok(summary)
    }

    /// Where an entry lies.
    pub(crate) fn place(&self, path: &EntryPath) -> PathBuf {
        self.dir.join(OsStr::from_bytes(path.as_bytes()))
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.path.to_string()).collect()
    }

    /// `code path` of each warning.
    pub(crate) fn told(&self) -> Vec<String> {
        self.warnings.iter().map(|warning| format!("{} {}", warning.code.as_str(), warning.path)).collect()
    }

    /// Directories get their times once nothing is written into them any more.
    fn settle(&mut self) {
        for (path, metadata) in self.late.drain(..).rev() {
            dress(&path, &metadata, true);
        }
    }

    fn make(&mut self, entry: &Entry) {
        let place = self.place(&entry.path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match &entry.kind {
            EntryKind::Directory => {
                fs::create_dir_all(&place).unwrap();
                self.late.push((place, entry.metadata.clone()));
            }
            EntryKind::Symlink { target } => {
                symlink(OsStr::from_bytes(target), &place).unwrap();
                dress(&place, &entry.metadata, false);
            }
            EntryKind::Hardlink { target } => fs::hard_link(self.place(target), &place).unwrap(),
            EntryKind::File { size } => self.body = Some((File::create_new(&place).unwrap(), Some(*size))),
            EntryKind::Stream => self.body = Some((File::create_new(&place).unwrap(), None)),
        }
    }
}

fn dress(path: &Path, metadata: &Metadata, mode: bool) {
    let (uid, gid) = (metadata.uid.try_into().unwrap(), metadata.gid.try_into().unwrap());
    lchown(path, Some(uid), Some(gid)).unwrap();
    if mode {
        fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode)).unwrap();
    }
    trees::set_mtime(path, metadata.mtime.secs, metadata.mtime.nanos.into());
}

#[async_trait]
impl EntrySink for Unpack {
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError> {
        assert!(self.body.is_none(), "{} begins inside another one", entry.path);
        assert!(self.seen.insert(entry.path.clone()), "{} comes twice", entry.path);
        (self.watch)(Some(&entry));
        self.make(&entry);
        self.entries.push(entry);
        Ok(())
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        (self.watch)(None);
        self.body.as_mut().unwrap().0.write_all(&chunk).unwrap();
        Ok(())
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        let (file, promised) = self.body.take().unwrap();
        let entry = self.entries.last().unwrap();
        let len = file.metadata().unwrap().len();
        assert_eq!(len, promised.unwrap_or(len), "{} has not its promised size", entry.path);
        dress(&self.place(&entry.path), &entry.metadata, true);
        Ok(())
    }

    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        self.warnings.push(warning);
        Ok(())
    }
}
