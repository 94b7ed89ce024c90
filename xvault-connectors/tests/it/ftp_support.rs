//! What the FTP tests share.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use xvault_connectors::source::{FtpSource, Source};
use xvault_connectors::{Error, FtpOptions, Probe};
use xvault_core::secret::SecretString;
use xvault_core::source::FtpTls;
use xvault_core::{EntryKind, FtpSettings};
use xvault_testkit::{FtpFront, FtpKind, Ftpd};

use crate::job::Sourced;
use crate::ssh_support::Kept;

/// For what must work with MLSD and without.
pub(crate) const BOTH: [FtpKind; 2] = [FtpKind::Proftpd, FtpKind::Vsftpd];

/// A pull over FTP.
pub(crate) type Job = crate::job::Job<(), FtpSettings, FtpOptions>;

impl Sourced for Job {
    fn made(&self) -> Box<dyn Source> {
        Box::new(FtpSource::new(&self.settings, self.options.clone()).unwrap())
    }
}

impl Job {
    /// Logs in at `ftpd` over explicit TLS, with its authority trusted.
    pub(crate) fn new(ftpd: &Ftpd, paths: &[&str]) -> Self {
        Self::at(ftpd.port, &ftpd.user, &ftpd.password, paths)
            .set(|settings| settings.tls_ca = Some(ftpd.ca.clone()))
    }

    pub(crate) fn at(port: u16, user: &str, password: &str, paths: &[&str]) -> Self {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut settings = FtpSettings::new("127.0.0.1", user, paths);
        settings.port = Some(port);
        let options = FtpOptions::new(&settings, Some(SecretString::from(password.to_owned())));
        Self::of((), settings, options).set(|_| {})
    }

    /// Changes settings.
    pub(crate) fn set(mut self, change: impl FnOnce(&mut FtpSettings)) -> Self {
        change(&mut self.settings);
        let mut options = FtpOptions::new(&self.settings, self.options.password.take());
        options.timeouts = self.options.timeouts.clone();
        options.timeouts.backoff = Duration::from_millis(20);
        self.options = options;
        self
    }

    pub(crate) fn plain(self) -> Self {
        self.set(|settings| (settings.tls_mode, settings.tls_ca) = (FtpTls::Disable, None))
    }

    /// Through proxies before the control port and each data port.
    pub(crate) fn through(self, front: &FtpFront) -> Self {
        let port = front.control.port;
        self.set(|settings| (settings.host, settings.port) = (FtpFront::ADDRESS.to_string(), Some(port)))
    }

    pub(crate) async fn probe(&self) -> Result<Probe, Error> {
        self.source().probe().await
    }
}

/// Paths below a server's `/`, with a slash at the end of directories, and the bodies of files.
pub(crate) fn found(kept: &Kept) -> Vec<(String, Vec<u8>)> {
    let name = |kind: &EntryKind, path: String| if *kind == EntryKind::Directory { path + "/" } else { path };
    let entries = kept.entries.iter();
    entries.map(|(entry, body)| (name(&entry.kind, entry.path.to_string()), body.clone())).collect()
}

/// Writes files below the account's `/`, and gives them to it.
pub(crate) fn fill(ftpd: &Ftpd, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = ftpd.home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    ftpd.give(&ftpd.home);
}

/// A file of the server as the archive has it.
pub(crate) fn body<'k>(kept: &'k Kept, path: &str) -> &'k [u8] {
    kept.body(&PathBuf::from(path)).unwrap_or_else(|| panic!("{path} is missing"))
}
