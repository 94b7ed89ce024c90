//! What belongs to a walk: the configured paths, and what is left out.

use xvault_core::entry::display_name;
use xvault_core::{EntryPath, WarningCode};

use crate::Error;
use crate::ftp::{Kind, Listed, Reply, Session};
use crate::source::excludes::Excludes;
use crate::source::nested;
use crate::source::sftp::scope::{entry_path, invalid_path, remote_path, told_at};

/// A configured path as found on the server.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Where its entries lie; `None` is the file system's root.
    pub(super) path: Option<EntryPath>,
    /// A directory or a file.
    pub(super) listed: Listed,
}

impl Root {
    /// The path that warnings about it as a whole are told at.
    pub(super) fn told_at(&self) -> Option<EntryPath> {
        told_at(self.path.as_ref())
    }
}

/// What belongs to a walk.
pub(super) struct Scope {
    pub(super) roots: Vec<Root>,
    /// Configured paths that come with another one, as long as no symbolic link is in between.
    nested: Vec<EntryPath>,
    excludes: Excludes,
}

impl Scope {
    pub(super) fn new(found: &[Root], excludes: Excludes) -> Self {
        let (mut roots, mut nested): (Vec<Root>, Vec<EntryPath>) = (Vec::new(), Vec::new());
        let paths: Vec<_> = found.iter().map(|root| root.path.as_ref()).collect();
        for (number, root) in found.iter().enumerate() {
            match nested::outer(&paths, number) {
                Some(_) => nested.extend(root.path.clone()),
                None => roots.push(root.clone()),
            }
        }
        Self { roots, nested, excludes }
    }

    /// Whether the walk leaves this out.
    pub(super) fn excludes(&self, root: usize, path: &EntryPath, is_dir: bool) -> bool {
        let root = self.roots.get(root).and_then(|root| root.path.as_ref());
        self.excludes.excludes(root, path, is_dir)
    }

    /// Whether this is a configured path.
    pub(super) fn is_root(&self, path: Option<&EntryPath>) -> bool {
        self.roots.iter().any(|root| root.path.as_ref() == path)
    }

    /// A configured path inside another one is met by the walk, unless it lies behind a link, which nothing can be kept below.
    ///
    /// # Errors
    /// [`Error::Settings`], when there is such a path behind `link`.
    pub(super) fn check_link(&self, link: &EntryPath) -> Result<(), Error> {
        match self.nested.iter().find(|nested| nested.is_within(link)) {
            None => Ok(()),
            Some(nested) => {
                let reason = "it lies behind a symbolic link inside another path; name it by its real path";
                Err(invalid_path(&format!("/{nested}"), reason))
            }
        }
    }
}

/// Looks the configured paths up.
///
/// # Errors
/// [`Error::NotFound`] naming the path that is missing.
pub(super) async fn resolve(session: &mut Session, paths: &[String]) -> Result<Vec<Root>, Error> {
    let mut roots = Vec::new();
    if paths.iter().any(|path| !path.starts_with('/')) {
        session.home().await?;
    }
    for configured in paths {
        let path = absolute(session, configured).await?;
        let found = look_at(session, &remote_path(path.as_ref())).await?;
        let listed = found.map_err(|reply| missing(session, configured, &reply))?;
        roots.push(Root { path, listed });
    }
    Ok(roots)
}

pub(super) async fn absolute(session: &mut Session, configured: &str) -> Result<Option<EntryPath>, Error> {
    if configured.starts_with('/') {
        return entry_path(configured, configured.as_bytes());
    }
    let home = session.home().await?;
    entry_path(configured, &[&home, &b"/"[..], configured.as_bytes()].concat())
}

fn missing(session: &Session, configured: &str, reply: &Reply) -> Error {
    let path = configured.escape_debug();
    if is_denied(reply) {
        return Error::Unreadable(format!("path `{path}` could not be looked at: {}", reply.shown()));
    }
    Error::NotFound(format!("path `{path}` on {}", session.server()))
}

/// A directory or a file, links followed; or why there is none.
pub(super) async fn look_at(session: &mut Session, path: &[u8]) -> Result<Result<Listed, Reply>, Error> {
    if let Some(Ok(listed)) = session.look(path).await? {
        match listed.kind {
            Kind::File => return Ok(Ok(listed)),
            Kind::Directory | Kind::Itself => return Ok(Ok(Listed { kind: Kind::Directory, ..listed })),
            Kind::Symlink | Kind::Special | Kind::Above => {}
        }
    }
    let entered = session.enter(path).await?;
    if entered.is_done() {
        return Ok(Ok(Listed::new(b"", Kind::Directory)));
    }
    let Some(size) = session.size(path).await? else { return Ok(Err(entered)) };
    let mtime = session.modified(path).await?;
    Ok(Ok(Listed { size: Some(size), mtime, is_exact: mtime.is_some(), ..Listed::new(b"", Kind::File) }))
}

/// Whether a refusal is for lack of rights, as far as the server says.
pub(super) fn is_denied(reply: &Reply) -> bool {
    reply.code == 530 || reply.says(&["denied", "permission", "not permitted", "not allowed", "privilege"])
}

/// What a refused command means for the thing it was about.
pub(super) fn refusal(reply: &Reply, what: &str) -> (WarningCode, String) {
    let gone = ["no such", "not found", "not exist", "doesn't exist", "cannot find", "can't find"];
    if !is_denied(reply) && reply.says(&gone) {
        return (WarningCode::Vanished, "is gone since its directory was listed".into());
    }
    (WarningCode::Unreadable, format!("{what}: {}", reply.shown()))
}

/// For messages.
pub(super) fn shown(path: Option<&EntryPath>) -> String {
    format!("`{}`", display_name(&remote_path(path)))
}
