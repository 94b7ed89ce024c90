//! Whether a server is the one we mean.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyBase64};

use super::known_hosts::{self, Known};
use crate::Error;

/// How a server proves that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// Its key has this fingerprint: `SHA256:…` as `ssh-keygen -l` prints.
    Pinned(String),
    /// Its key stands in this file, which has OpenSSH's format.
    KnownHosts {
        /// The file. Where it is missing, nobody is known.
        path: PathBuf,
        /// A server without a line is believed, and a line is added. A changed key is never believed.
        accept_new: bool,
    },
    /// Whatever key it shows is believed. [`Session::fingerprint`](super::Session::fingerprint) names it, to be pinned.
    AcceptNew,
    /// Every key is refused; the error names its fingerprint, to be compared and pinned.
    Refuse,
}

/// The policy, with all that is known about one server.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    host: String,
    port: u16,
    server: String,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Pinned(String),
    Known { known: std::sync::Arc<Known>, learn_in: Option<PathBuf>, path: PathBuf },
    Any,
    Nobody,
}

impl Verifier {
    /// Reads what the policy needs.
    pub(crate) fn new(policy: &HostKeyPolicy, host: &str, port: u16, server: String) -> Result<Self, Error> {
        let rule = match policy {
            HostKeyPolicy::Pinned(fingerprint) => Rule::Pinned(fingerprint.clone()),
            HostKeyPolicy::KnownHosts { path, accept_new } => Rule::Known {
                known: std::sync::Arc::new(known_hosts::lookup(&read_or_empty(path)?, host, port)),
                learn_in: accept_new.then(|| path.clone()),
                path: path.clone(),
            },
            HostKeyPolicy::AcceptNew => Rule::Any,
            HostKeyPolicy::Refuse => Rule::Nobody,
        };
        Ok(Self { host: host.to_owned(), port, server, rule })
    }

    /// The host key algorithms to ask for, the best first: those of the known keys lead, so that
    /// a server with keys of many types shows the one it is known by.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let mut all = supported();
        if let Rule::Known { known, .. } = &self.rule {
            let is_known = |a: &Algorithm| known.keys.iter().any(|key| family(a) == key.algorithm);
            all.sort_by_key(|algorithm| !is_known(algorithm));
        }
        all
    }

    /// Whether asking for a key of another type may find the pinned one.
    pub(crate) fn may_match_another_type(&self) -> bool {
        matches!(self.rule, Rule::Pinned(_))
    }

    /// Believes `key`, or says why not.
    pub(crate) fn check(&self, key: &PublicKey) -> Result<(), Error> {
        let found = fingerprint(key);
        match &self.rule {
            Rule::Pinned(pinned) if *pinned == found => Ok(()),
            Rule::Pinned(pinned) => Err(self.changed(pinned.clone(), found)),
            Rule::Known { known, learn_in, path } => self.check_known(known, learn_in.as_deref(), path, key),
            Rule::Any => Ok(()),
            Rule::Nobody => Err(self.unknown(found)),
        }
    }

    fn check_known(
        &self,
        known: &Known,
        learn_in: Option<&Path>,
        path: &Path,
        key: &PublicKey,
    ) -> Result<(), Error> {
        let blob = key.public_key_bytes();
        let found = fingerprint(key);
        if known.revoked.contains(&blob) {
            let expected = format!("any key but this one, which is marked @revoked in {}", path.display());
            return Err(self.changed(expected, found));
        }
        if known.keys.iter().any(|k| k.blob == blob) {
            return Ok(());
        }
        if !known.keys.is_empty() {
            let expected: Vec<_> = known.keys.iter().map(|k| fingerprint_of_blob(&k.blob)).collect();
            return Err(self.changed(expected.join(" or "), found));
        }
        match learn_in {
            Some(path) => self.learn(path, key),
            None if known.has_authority => Err(self
                .unknown(format!("{found} (host certificates of @cert-authority lines are not followed)"))),
            None => Err(self.unknown(found)),
        }
    }

    fn learn(&self, path: &Path, key: &PublicKey) -> Result<(), Error> {
        let line =
            known_hosts::line(&self.host, self.port, &family(&key.algorithm()), &key.public_key_bytes());
        append_line(path, &line).map_err(Error::io(format!("add a host key to {}", path.display())))
    }

    fn unknown(&self, fingerprint: String) -> Error {
        Error::UnknownHostKey { server: self.server.clone(), fingerprint }
    }

    fn changed(&self, expected: String, found: String) -> Error {
        Error::ChangedHostKey { server: self.server.clone(), expected, found }
    }
}

/// SHA-1 signatures of `ssh-rsa` are left out: a server that has nothing better is not proven.
fn supported() -> Vec<Algorithm> {
    let preferred = russh::Preferred::DEFAULT.key;
    preferred.iter().filter(|a| !matches!(a, Algorithm::Rsa { hash: None })).cloned().collect()
}

/// The algorithm's name in keys: all RSA signature types share `ssh-rsa`.
pub(crate) fn family(algorithm: &Algorithm) -> String {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.as_str().to_owned(),
    }
}

pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn fingerprint_of_blob(blob: &[u8]) -> String {
    match russh::keys::key::parse_public_key(blob) {
        Ok(key) => fingerprint(&key),
        Err(_) => "a key of unknown type".to_owned(),
    }
}

fn read_or_empty(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(Error::io(format!("read {}", path.display()))),
    }
}

fn append_line(path: &Path, line: &str) -> std::io::Result<()> {
    let ends_open = fs::read(path).is_ok_and(|text| text.last().is_some_and(|last| *last != b'\n'));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    let text = if ends_open { format!("\n{line}") } else { line.to_owned() };
    file.write_all(text.as_bytes())
}
