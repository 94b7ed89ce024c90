//! What belongs to a walk: the configured paths, what is left out, and what was delivered before.

use xvault_core::entry::display_name;
use xvault_core::source::InvalidSettings;
use xvault_core::{EntryPath, Mtime, WarningCode};

use super::order::{Place, Standing};
use crate::Error;
use crate::source::excludes::Excludes;
use crate::source::nested;
use crate::ssh::sftp::{Attrs, FileType, Reply, Request, Sftp, StatusCode};

/// A configured path as found on the server.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// Where its entries lie; `None` is the file system's root.
    pub(crate) path: Option<EntryPath>,
    /// Attributes of what it leads to.
    pub(crate) attrs: Attrs,
}

impl Root {
    /// The path that warnings about it as a whole are told at.
    pub(crate) fn told_at(&self) -> Option<EntryPath> {
        told_at(self.path.as_ref())
    }
}

/// The path that warnings about a configured path as a whole are told at: the file system's root is no entry,
/// so what is said of it is said of a name that stands for it.
pub(crate) fn told_at(root: Option<&EntryPath>) -> Option<EntryPath> {
    root.cloned().or_else(|| EntryPath::new(*b"(root)").ok())
}

/// How far an earlier stream came.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// The number of the configured path, and the last entry that was begun.
    pub(crate) place: Place,
    /// The body that was not finished, if that entry has one.
    pub(crate) open_body: Option<OpenBody>,
}

/// A body that broke off.
#[derive(Debug, Clone)]
pub(crate) struct OpenBody {
    pub(crate) path: EntryPath,
    pub(crate) size: u64,
    pub(crate) mtime: Mtime,
}

/// What belongs to a walk.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) roots: Vec<Root>,
    pub(crate) excludes: Excludes,
    pub(crate) delivered: Option<Delivered>,
}

impl Scope {
    /// Whether the walk leaves this out.
    pub(crate) fn excludes(&self, root: usize, path: &EntryPath, is_dir: bool) -> bool {
        let root = self.roots.get(root).and_then(|root| root.path.as_ref());
        self.excludes.excludes(root, path, is_dir)
    }

    /// Whether this is a configured path; `None` is the file system's root.
    pub(crate) fn is_root(&self, path: Option<&EntryPath>) -> bool {
        self.roots.iter().any(|root| root.path.as_ref() == path)
    }

    /// How a place stands to what was delivered before.
    pub(crate) fn standing(&self, place: &Place) -> Standing {
        match &self.delivered {
            Some(delivered) => place.standing(&delivered.place),
            None => Standing::Ahead,
        }
    }
}

/// The path of an entry on the server.
pub(crate) fn remote_path(path: Option<&EntryPath>) -> Vec<u8> {
    [b"/", path.map(EntryPath::as_bytes).unwrap_or_default()].concat()
}

/// Why there is no backup: nothing of a configured path can be read. `message` goes on from the path.
pub(crate) fn closed_root(path: Option<&EntryPath>, code: WarningCode, message: &str) -> Error {
    let shown = format!("path `{}`", display_name(&remote_path(path)));
    match code {
        WarningCode::Vanished => Error::NotFound(shown),
        _ => Error::Unreadable(format!("{shown} {message}")),
    }
}

/// What it means that a directory could not be listed: a warning, but for a configured path, of which there is then no backup.
///
/// # Errors
/// When it is a configured path.
pub(crate) fn closed_directory(
    path: Option<&EntryPath>,
    is_root: bool,
    (code, message): (WarningCode, String),
) -> Result<(EntryPath, WarningCode, String), Error> {
    match path {
        Some(path) if !is_root => Ok((path.clone(), code, message)),
        path => Err(closed_root(path, code, &message)),
    }
}

/// Looks the configured paths up. Paths that lie within another one are dropped: they come with it.
///
/// # Errors
/// [`Error::NotFound`] naming the path that is missing.
pub(crate) async fn resolve(sftp: &mut Sftp, server: &str, paths: &[String]) -> Result<Vec<Root>, Error> {
    let mut roots: Vec<Root> = Vec::new();
    for configured in paths {
        let path = absolute(sftp, configured).await?;
        let attrs = stat_root(sftp, server, configured, path.as_ref()).await?;
        roots.push(Root { path, attrs });
    }
    drop_nested(sftp, paths, roots).await
}

pub(crate) async fn absolute(sftp: &mut Sftp, configured: &str) -> Result<Option<EntryPath>, Error> {
    let full = if configured.starts_with('/') {
        configured.as_bytes().to_vec()
    } else {
        [&real_path(sftp, b".").await?, &b"/"[..], configured.as_bytes()].concat()
    };
    entry_path(configured, &full)
}

/// The entry path of a configured path.
pub(crate) fn entry_path(configured: &str, full: &[u8]) -> Result<Option<EntryPath>, Error> {
    EntryPath::from_source(full).map_err(|error| invalid_path(configured, &error.to_string()))
}

pub(crate) fn invalid_path(configured: &str, reason: &str) -> Error {
    let reason = format!("`{}`: {reason}", configured.escape_debug());
    Error::Settings(InvalidSettings { field: "paths", reason })
}

/// The path without links, as the server sees it.
pub(crate) async fn real_path(sftp: &mut Sftp, path: &[u8]) -> Result<Vec<u8>, Error> {
    let reply = sftp.call(&Request::RealPath(path)).await?;
    followed(sftp, path, reply)
}

/// What the server says of where `path` leads to.
pub(crate) fn followed(sftp: &Sftp, path: &[u8], reply: Reply) -> Result<Vec<u8>, Error> {
    match reply {
        Reply::Names(names) => match names.into_iter().next() {
            Some(first) => Ok(first.name.to_vec()),
            None => Err(sftp.protocol("REALPATH was answered without a name")),
        },
        Reply::Status(status) => {
            let (path, said) = (display_name(path), status.message);
            Err(Error::Unreadable(format!("path `{path}` can't be followed: {said}")))
        }
        _ => Err(sftp.protocol("REALPATH was answered with something else")),
    }
}

async fn stat_root(
    sftp: &mut Sftp,
    server: &str,
    configured: &str,
    path: Option<&EntryPath>,
) -> Result<Attrs, Error> {
    match sftp.call(&Request::Stat(&remote_path(path))).await? {
        Reply::Attrs(attrs) => match attrs.file_type() {
            Some(FileType::Directory | FileType::File) => Ok(attrs),
            _ => Err(invalid_path(configured, "it is neither a directory nor a file")),
        },
        Reply::Status(status) if status.code == StatusCode::NoSuchFile => {
            Err(Error::NotFound(format!("path `{}` on {server}", configured.escape_debug())))
        }
        Reply::Status(status) => {
            let (path, said) = (configured.escape_debug(), status.message);
            Err(Error::Unreadable(format!("path `{path}` on {server} could not be looked at: {said}")))
        }
        _ => Err(sftp.protocol("STAT was answered with something else")),
    }
}

/// Each path occurs once. A path inside another one only by way of a symbolic link would not be
/// met by the walk, nor could it be kept below that link, so it must be named by its real path.
async fn drop_nested(sftp: &mut Sftp, paths: &[String], roots: Vec<Root>) -> Result<Vec<Root>, Error> {
    let mut kept: Vec<Root> = Vec::new();
    let all: Vec<_> = roots.iter().map(|root| root.path.as_ref()).collect();
    for (number, root) in roots.iter().enumerate() {
        match nested::outer(&all, number).and_then(|outer| roots.get(outer)) {
            None => kept.push(root.clone()),
            Some(outer) => check_nested(sftp, paths.get(number), root, outer).await?,
        }
    }
    Ok(kept)
}

async fn check_nested(
    sftp: &mut Sftp,
    configured: Option<&String>,
    inner: &Root,
    outer: &Root,
) -> Result<(), Error> {
    let (inner_path, outer_path) = (remote_path(inner.path.as_ref()), remote_path(outer.path.as_ref()));
    let below = inner_path.get(outer_path.len()..).unwrap_or_default();
    let below = below.strip_prefix(b"/").unwrap_or(below);
    let real_inner = real_path(sftp, &inner_path).await?;
    let mut expected = real_path(sftp, &outer_path).await?;
    if !below.is_empty() && !expected.ends_with(b"/") {
        expected.push(b'/');
    }
    expected.extend_from_slice(below);
    if real_inner == expected {
        return Ok(());
    }
    let real = display_name(&real_inner);
    let reason = format!("it lies behind a symbolic link inside another path; name it as `{real}`");
    Err(invalid_path(configured.map(String::as_str).unwrap_or_default(), &reason))
}
