//! Key files: where they lie, how they are made, read and announced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use xvault::core::secret::{self, ExposeSecret, SecretString};
use xvault::core::{Identity, Recipient, clock, seal};

use crate::args::BackupArgs;
use crate::output::Output;

/// The longest key or password file that is read.
const MAX_FILE: u64 = 64 << 10;

/// `$XDG_CONFIG_HOME/xvault/identity.txt`, or below `~/.config`.
pub(crate) fn default_path() -> anyhow::Result<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = match config {
        Some(config) => config,
        None => home()?.join(".config"),
    };
    Ok(config.join("xvault/identity.txt"))
}

/// `$HOME`.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    home.context("HOME is not set, so the default place of keys is unknown")
}

/// Reads a secret from a file: a password, a private key.
pub(crate) fn read_secret(path: &Path) -> anyhow::Result<SecretString> {
    let bytes = read_bytes(path)?;
    secret::from_file_bytes(bytes).with_context(|| format!("read {}", path.display()))
}

/// Reads what is no secret: certificates.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read_bytes(path)?).with_context(|| format!("read {}", path.display()))
}

fn read_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(4096);
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > MAX_FILE {
        bail!("{} is longer than {MAX_FILE} bytes: it is no key or password", path.display());
    }
    Ok(bytes)
}

/// The identities in `file`, or in the default key file.
pub(crate) fn identities(file: Option<&Path>) -> anyhow::Result<Vec<Identity>> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => {
            let path = default_path()?;
            if !path.exists() {
                bail!(
                    "no identity: give --identity FILE (there is no key at the default place, {})",
                    path.display()
                );
            }
            path
        }
    };
    Identity::parse_file(&read_secret(&path)?).with_context(|| format!("identity file {}", path.display()))
}

/// Makes an identity and keeps it in `path`, which must not exist: readable by its owner only, and durable before
/// anything is encrypted to it.
pub(crate) fn create(path: &Path) -> anyhow::Result<Recipient> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.with_context(|| format!("create {}", parent.display()))?;
    let identity = Identity::generate();
    let recipient = identity.recipient();
    let written = write_whole(path, parent, put_new, |file| {
        write!(file, "# created: {}\n# public key: {recipient}\n", clock::now())?;
        file.write_all(identity.to_secret().expose_secret().as_bytes())?;
        file.write_all(b"\n")
    });
    written.with_context(|| format!("create {}", path.display()))?;
    Ok(recipient)
}

/// Keeps a secret in `path`, in place of the one that may be there: readable by its owner only, and the old or the new one as a whole.
pub(crate) fn replace_private(path: &Path, secret: &[u8]) -> anyhow::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written =
        write_whole(path, parent, |from, to| std::fs::rename(from, to), |file| file.write_all(secret));
    written.with_context(|| format!("write {}", path.display()))
}

/// Puts a file that is whole and on the disk under its name.
type Put = fn(&Path, &Path) -> io::Result<()>;

/// In place of nothing: it fails when there is one of this name.
fn put_new(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// The file appears under its name when all of it is on the disk.
fn write_whole(
    path: &Path,
    parent: &Path,
    put: Put,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    // One that was stopped in the middle may have had the same number, in a container above all.
    drop(std::fs::remove_file(&temporary));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = fill(&mut file).and_then(|()| file.sync_all()).and_then(|()| put(&temporary, path));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    // The directories above may be new as well; those that are not ours to open were there before.
    File::open(parent)?.sync_all()?;
    for above in parent.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        drop(File::open(above).and_then(|dir| dir.sync_all()));
    }
    Ok(())
}

/// Who the flags say can read a backup; with none, the owner of the default key file, made at first use.
pub(crate) fn recipients(args: &BackupArgs, output: &Output) -> anyhow::Result<Vec<Recipient>> {
    let mut recipients = parse_all(&args.recipient)?;
    for path in &args.recipients_file {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let read = seal::parse_recipients_file(&text);
        recipients.extend(read.with_context(|| format!("recipients file {}", path.display()))?);
    }
    if recipients.is_empty() {
        recipients.extend(default_recipients(output)?);
    }
    Ok(recipients)
}

/// Recipients given one by one.
pub(crate) fn parse_all(texts: &[String]) -> anyhow::Result<Vec<Recipient>> {
    texts.iter().map(|text| text.parse().map_err(anyhow::Error::from)).collect()
}

fn default_recipients(output: &Output) -> anyhow::Result<Vec<Recipient>> {
    let path = default_path()?;
    if path.exists() {
        let identities = identities(Some(&path))?;
        return Ok(identities.iter().map(Identity::recipient).collect());
    }
    let recipient = create(&path)?;
    output.say(&format!(
        "made a new key in {}; without this file your backups can't be read: keep a copy somewhere else",
        path.display()
    ));
    Ok(vec![recipient])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/identity.txt");
        let recipient = create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(identities(Some(&path)).unwrap()[0].recipient(), recipient);
        let error = format!("{:#}", create(&path).unwrap_err());
        assert!(error.contains("identity.txt"), "{error}");
        assert_eq!(identities(Some(&path)).unwrap()[0].recipient(), recipient);
    }

    #[test]
    fn a_secret_replaces_another_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.json");
        std::fs::write(&path, "old, and everybody's").unwrap();
        std::fs::write(path.with_extension(format!("new-{}", std::process::id())), "left behind").unwrap();
        replace_private(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let taken = dir.path().join("directory");
        std::fs::create_dir(&taken).unwrap();
        let error = format!("{:#}", replace_private(&taken, b"new").unwrap_err());
        assert!(error.contains("directory"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge");
        std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
        let error = format!("{:#}", identities(Some(&path)).unwrap_err());
        assert!(error.contains("huge") && error.contains("longer"), "{error}");
    }
}
