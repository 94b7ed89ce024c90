//! The worker's own key: what the hub seals secrets to, so that this worker alone can open them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xvault::core::secret::{ExposeSecret, InvalidSecret, SecretString, from_file_bytes};
use xvault::core::{Identity, JobId, seal};

/// The file's name below the storage base.
pub const IDENTITY_FILE: &str = "worker.identity";
/// The longest key file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file can't be made or read.
    #[error("{action} {}", path.display())]
    Io {
        /// A verb: `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("the worker's key file {} is damaged: restore it, or move it away to have a new key made", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: seal::Error,
    },
    /// The file holds no text.
    #[error("the worker's key file {} is damaged: restore it, or move it away to have a new key made", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: InvalidSecret,
    },
}

/// Opens the key below `storage_base`, which is made at the first start.
///
/// Two processes that start at once get the same key. The file is readable for its owner alone; one that is not is used,
/// with a warning.
pub(crate) fn open(storage_base: &Path) -> Result<Identity, Error> {
    let path = storage_base.join(IDENTITY_FILE);
    match read(&path) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            make(&path).map_err(failed("make", &path))?;
            read(&path)
        }
        read => read,
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Identity, Error> {
    let file = File::open(path).map_err(failed("read", path))?;
    let mode = file.metadata().map_err(failed("read", path))?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "the worker's key can be read by others: chmod 600 it");
    }
    // At its final size from the start: a growing buffer would leave copies behind.
    let mut bytes = Vec::with_capacity(usize::try_from(MAX_FILE).unwrap_or_default());
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed("read", path))?;
    let text = from_file_bytes(bytes).map_err(|source| Error::NoText { path: path.to_owned(), source })?;
    let damaged = |source| Error::Damaged { path: path.to_owned(), source };
    Identity::parse_file(&text)
        .map_err(damaged)?
        .into_iter()
        .next()
        .ok_or_else(|| damaged(seal::Error::NoIdentity))
}

/// Writes a new key beside `path` and links it there, unless somebody was faster.
fn make(path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let draft = dir.join(format!(".{IDENTITY_FILE}.{}", JobId::generate()));
    let made =
        write(&draft, &content(&Identity::generate())).and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&draft);
    made.and(removed)?;
    File::open(dir)?.sync_all()
}

fn content(identity: &Identity) -> SecretString {
    let (public, secret) = (identity.recipient(), identity.to_secret());
    format!("# public key: {public}\n{}\n", secret.expose_secret()).into()
}

fn write(path: &Path, content: &SecretString) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.expose_secret().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_key_is_made_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let again = open(dir.path()).unwrap();
        assert_eq!(first.recipient(), again.recipient());
        let mode = fs::metadata(dir.path().join(IDENTITY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn processes_that_start_at_once_have_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(dir.path()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().recipient()).collect()
        });
        assert!(opened.iter().all(|recipient| *recipient == opened[0]), "{opened:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(IDENTITY_FILE);
        for damage in [&b""[..], b"hunter2\n", b"\xff"] {
            fs::write(&path, damage).unwrap();
            let error = open(dir.path()).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(IDENTITY_FILE) && !text.contains("hunter2"), "{text}");
            assert_eq!(fs::read(&path).unwrap(), damage);
        }
    }
}
