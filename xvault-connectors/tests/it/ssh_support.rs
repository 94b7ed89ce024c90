//! What the SSH tests share: a sink that remembers, and ways to pull into it.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_connectors::source::{SftpSource, Source, SshSource};
use xvault_connectors::ssh::{HostKeyPolicy, SshCredential, SshOptions, SshTimeouts};
use xvault_core::secret::SecretString;
use xvault_core::{Entry, EntryKind, EntrySink, SinkError, SshSettings, Warning, WarningCode};
use xvault_testkit::trees::set_mtime;
use xvault_testkit::{FaultProxy, Sshd};

use crate::job::Sourced;

/// Remembers all that is pushed, and checks the grammar.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) entries: Vec<(Entry, Vec<u8>)>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) open: bool,
    /// Waits so long with every chunk.
    pub(crate) slow: Option<Duration>,
    /// Called with the number of bytes so far.
    pub(crate) on_data: Option<Box<dyn FnMut(u64) + Send>>,
    pub(crate) bytes: u64,
}

#[async_trait]
impl EntrySink for Kept {
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError> {
        assert!(!self.open, "{} begins inside a body", entry.path);
        self.open = entry.has_body();
        self.entries.push((entry, Vec::new()));
        Ok(())
    }
    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        assert!(self.open);
        if let Some(pause) = self.slow {
            tokio::time::sleep(pause).await;
        }
        self.bytes += chunk.len() as u64;
        self.entries.last_mut().unwrap().1.extend_from_slice(&chunk);
        if let Some(call) = &mut self.on_data {
            call(self.bytes);
        }
        Ok(())
    }
    async fn end(&mut self) -> Result<(), SinkError> {
        assert!(std::mem::take(&mut self.open));
        let (entry, body) = self.entries.last().unwrap();
        if entry.kind != EntryKind::Stream {
            assert_eq!(entry.kind, EntryKind::File { size: body.len() as u64 }, "{}", entry.path);
        }
        Ok(())
    }
    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        self.warnings.push(warning);
        Ok(())
    }
}

impl Kept {
    /// The body of the entry at this absolute path.
    pub(crate) fn body(&self, path: &Path) -> Option<&[u8]> {
        let name = &path.as_os_str().as_bytes()[1..];
        let found = self.entries.iter().find(|(entry, _)| entry.path.as_bytes() == name);
        found.map(|(_, body)| body.as_slice())
    }

    /// Code and path of each warning.
    pub(crate) fn codes(&self) -> Vec<(WarningCode, PathBuf)> {
        let path = |w: &Warning| PathBuf::from(format!("/{}", w.path));
        self.warnings.iter().map(|w| (w.code, path(w))).collect()
    }

    /// Writes everything below `out` as it was at the source.
    pub(crate) fn unpack(&self, out: &Path) {
        let place = |path: &xvault_core::EntryPath| out.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        for (entry, body) in &self.entries {
            let path = place(&entry.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match &entry.kind {
                EntryKind::Directory => fs::create_dir_all(&path).unwrap(),
                EntryKind::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
                EntryKind::Hardlink { target } => fs::hard_link(place(target), &path).unwrap(),
                _ => fs::write(&path, body).unwrap(),
            }
        }
        for (entry, _) in self.entries.iter().rev() {
            let (path, meta) = (place(&entry.path), &entry.metadata);
            let (uid, gid) = (u32::try_from(meta.uid).unwrap(), u32::try_from(meta.gid).unwrap());
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).unwrap();
            if !matches!(entry.kind, EntryKind::Symlink { .. }) {
                fs::set_permissions(&path, fs::Permissions::from_mode(meta.mode)).unwrap();
            }
            set_mtime(&path, meta.mtime.secs, meta.mtime.nanos.into());
        }
    }
}

/// Which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sftp,
    Ssh,
}

pub(crate) fn key(path: &Path) -> SshCredential {
    let pem = SecretString::from(fs::read_to_string(path).unwrap());
    SshCredential::PrivateKey { pem, passphrase: None }
}

pub(crate) fn password(text: &str) -> SshCredential {
    SshCredential::Password(SecretString::from(text.to_owned()))
}

/// A pull over SSH.
pub(crate) type Job = crate::job::Job<Kind, SshSettings, SshOptions>;

impl Sourced for Job {
    fn made(&self) -> Box<dyn Source> {
        match self.kind {
            Kind::Sftp => Box::new(SftpSource::new(&self.settings, self.options.clone()).unwrap()),
            Kind::Ssh => Box::new(SshSource::new(&self.settings, self.options.clone()).unwrap()),
        }
    }
}

impl Job {
    /// Logs in by key, with the server's key pinned.
    pub(crate) fn new(kind: Kind, sshd: &Sshd, paths: &[&Path]) -> Self {
        let settings = SshSettings {
            host: "127.0.0.1".into(),
            port: sshd.port,
            username: sshd.user.clone(),
            paths: paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
            use_password: false,
            excludes: Vec::new(),
            host_key: Some(sshd.host_key.fingerprint.clone()),
            hooks: Default::default(),
        };
        let mut options = SshOptions::new(&settings, key(&sshd.key_path));
        options.timeouts = SshTimeouts { backoff: Duration::from_millis(20), ..SshTimeouts::default() };
        Self::of(kind, settings, options)
    }

    pub(crate) fn excluding(mut self, globs: &[&str]) -> Self {
        self.settings.excludes = globs.iter().map(|glob| (*glob).to_owned()).collect();
        self
    }

    pub(crate) fn through(self, proxy: &FaultProxy) -> Self {
        let port = proxy.port;
        self.with(|options| options.port = port)
    }
}

/// A port that leads to `first`, and from connection number `count` on to `then`.
pub(crate) fn turning(first: u16, count: usize, then: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, near) in listener.incoming().map_while(Result::ok).enumerate() {
            let far = TcpStream::connect(("127.0.0.1", if number < count { first } else { then })).unwrap();
            for (mut from, mut to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))]
                .map(|(from, to)| (from.unwrap(), to.unwrap()))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    port
}

/// For what both sources must do.
pub(crate) const BOTH: [Kind; 2] = [Kind::Sftp, Kind::Ssh];

/// A server's key that is believed only when it stands in this file.
pub(crate) fn known_hosts(path: &Path, accept_new: bool) -> HostKeyPolicy {
    HostKeyPolicy::KnownHosts { path: path.to_owned(), accept_new }
}
