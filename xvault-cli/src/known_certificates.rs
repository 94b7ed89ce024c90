//! Certificates of FTP servers that nobody vouches for and that were accepted once: a line for each, `host:port FINGERPRINT`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::keys;

/// The file of them.
pub(crate) struct KnownCertificates {
    path: PathBuf,
}

impl KnownCertificates {
    /// The file that was named, or `known_certificates` beside the default key file.
    pub(crate) fn at(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => keys::default_path()?.with_file_name("known_certificates"),
        };
        Ok(Self { path })
    }

    /// The fingerprint that was accepted of `server`: the last one that was.
    pub(crate) fn find(&self, server: &str) -> anyhow::Result<Option<String>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let text = keys::read_text(&self.path)?;
        let of_server = |line: &str| {
            let (name, fingerprint) = line.trim().split_once(' ')?;
            (name == server).then(|| fingerprint.trim().to_owned())
        };
        Ok(text.lines().filter_map(of_server).next_back())
    }

    /// Remembers it.
    pub(crate) fn add(&self, server: &str, fingerprint: &str) -> anyhow::Result<()> {
        self.append(&format!("{server} {fingerprint}\n"))
            .with_context(|| format!("write {}", self.path.display()))
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    }

    /// For messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_server_counts() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownCertificates::at(Some(&dir.path().join("new/known"))).unwrap();
        assert_eq!(known.find("h:21").unwrap(), None);
        for (server, fingerprint) in [("h:21", "AA:01"), ("h:2121", "BB:02"), ("h:21", "CC:03")] {
            known.add(server, fingerprint).unwrap();
        }
        assert_eq!(known.find("h:21").unwrap().as_deref(), Some("CC:03"));
        assert_eq!(known.find("h:2").unwrap(), None);
    }
}
