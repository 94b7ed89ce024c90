//! The configured paths: looked up, and freed of those that lie within another one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use xvault_core::EntryPath;
use xvault_core::entry::display_name;
use xvault_core::source::InvalidSettings;

use crate::Error;
use crate::source::{ProbedPath, nested};

/// A configured path.
#[derive(Debug, Clone)]
pub(super) struct Root {
    configured: String,
    /// Where its entries lie; `None` is the file system's root.
    pub(super) path: Option<EntryPath>,
    allowed: Allowed,
}

/// The real paths of directories that a configured path must lead to or below; `None` allows all.
pub(super) type Allowed = Option<Arc<[PathBuf]>>;

impl Root {
    /// What is left out can't be asked for: a store would be backed up into itself.
    pub(super) fn refuse_inside(&self, left_out: &[PathBuf]) -> Result<(), Error> {
        // What can't be resolved is found missing when it is opened.
        let Ok(real) = Path::new(&self.configured).canonicalize() else { return Ok(()) };
        let inside = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| real.starts_with(dir));
        if left_out.iter().any(inside) {
            return Err(invalid(&self.configured, "it lies in the store that the backup goes to"));
        }
        Ok(())
    }

    fn new(configured: &str, allowed: &Allowed) -> Result<Self, Error> {
        let path = EntryPath::from_source(configured.as_bytes());
        let path = path.map_err(|error| invalid(configured, &error.to_string()))?;
        Ok(Self { configured: configured.to_owned(), path, allowed: allowed.clone() })
    }

    /// Opens the directory or file that it leads to.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none; when it is of another kind; when it can't be opened,
    /// for then there is nothing to back up.
    pub(super) fn open(&self) -> Result<File, Error> {
        let shown = self.configured.escape_debug().to_string();
        let opened = fs::metadata(&self.configured).and_then(|found| {
            let known = found.is_dir() || found.is_file();
            if known { open(&self.configured).map(Some) } else { Ok(None) }
        });
        match opened {
            Ok(Some(file)) => self.check_allowed(file),
            Ok(None) => Err(invalid(&self.configured, "it is neither a directory nor a file")),
            Err(error) if is_missing(&error) => Err(Error::NotFound(format!("path `{shown}`"))),
            Err(error) => Err(Error::io(format!("open `{shown}`"))(error)),
        }
    }

    /// Asks what was opened where it lies, so that no link which is put into the path meanwhile leads elsewhere.
    fn check_allowed(&self, opened: File) -> Result<File, Error> {
        let Some(allowed) = &self.allowed else { return Ok(opened) };
        let shown = self.configured.escape_debug();
        let handle = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let real = fs::read_link(handle).map_err(Error::io(format!("look where `{shown}` leads")))?;
        if allowed.iter().any(|dir| real.starts_with(dir)) {
            return Ok(opened);
        }
        Err(Error::NotAllowed(format!("path `{shown}`")))
    }
}

fn open(path: &str) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn invalid(configured: &str, reason: &str) -> Error {
    let reason = format!("`{}`: {reason}", configured.escape_debug());
    Error::Settings(InvalidSettings { field: "paths", reason })
}

/// Looks the configured paths up. Those that lie within another one are dropped: they come with it.
///
/// # Errors
/// As [`Root::open`]; and when a path lies within another one only by way of a symbolic link.
pub(super) fn resolve(paths: &[String], allowed: &Allowed) -> Result<Vec<Root>, Error> {
    let roots = paths.iter().map(|path| Root::new(path, allowed)).collect::<Result<Vec<_>, _>>()?;
    let mut kept = Vec::new();
    let all: Vec<_> = roots.iter().map(|root| root.path.as_ref()).collect();
    for (number, root) in roots.iter().enumerate() {
        root.open()?;
        match nested::outer(&all, number).and_then(|outer| roots.get(outer)) {
            None => kept.push(root.clone()),
            Some(outer) => check_nested(root, outer)?,
        }
    }
    Ok(kept)
}

/// A path behind a link inside another path would not be met by the walk, nor could it be kept
/// below that link, so it must be named by its real path.
fn check_nested(inner: &Root, outer: &Root) -> Result<(), Error> {
    let real = |root: &Root| {
        let shown = root.configured.escape_debug();
        Path::new(&root.configured).canonicalize().map_err(Error::io(format!("look at `{shown}`")))
    };
    let (real_inner, real_outer) = (real(inner)?, real(outer)?);
    let outer_len = outer.path.as_ref().map_or(0, |path| path.as_bytes().len() + 1);
    let below = inner.path.as_ref().and_then(|path| path.as_bytes().get(outer_len..)).unwrap_or_default();
    if real_inner == real_outer.join(std::ffi::OsStr::from_bytes(below)) {
        return Ok(());
    }
    let real = display_name(real_inner.as_os_str().as_bytes());
    let reason = format!("it lies behind a symbolic link inside another path; name it as `{real}`");
    Err(invalid(&inner.configured, &reason))
}

/// Looks at a configured path without reading it.
pub(super) fn probe(configured: &str, allowed: &Allowed) -> ProbedPath {
    let found = Root::new(configured, allowed).and_then(|root| root.open()).and_then(|file| {
        file.metadata().map_err(Error::io(format!("look at `{}`", configured.escape_debug())))
    });
    let path = configured.to_owned();
    match found {
        Ok(stat) if stat.is_dir() => ProbedPath { path, kind: Some("directory"), error: None },
        Ok(_) => ProbedPath { path, kind: Some("file"), error: None },
        Err(error) => ProbedPath { path, kind: None, error: Some(xvault_core::error::chain(&error)) },
    }
}
