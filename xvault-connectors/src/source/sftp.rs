//! Files over SFTP.

mod cursor;
mod file;
mod line;
mod listing;
pub(crate) mod order;
mod pace;
mod requests;
pub(crate) mod scope;
pub(crate) mod walk;

use async_trait::async_trait;
use tokio::time::Instant;
use xvault_core::snapshot::Evidence;
use xvault_core::{EntrySink, SourceSettings, SshSettings};

use super::excludes::Excludes;
use super::in_time::{before, end_of_looks, too_late};
use super::link::Link;
use super::{Emitter, Probe, ProbedPath, PullSummary, Source, look, probe_in_time};
use crate::ssh::SshOptions;
use crate::ssh::sftp::{FileType, Reply, Request, Sftp, StatusCode};
use crate::{Control, Error};
use scope::{Scope, remote_path};

/// The files of an account over SFTP.
///
/// SFTP version 3 carries modes, numeric owners and whole seconds of times. It knows neither hard
/// links (each name becomes a file of its own) nor fractions of a second: [`SshSource`](super::SshSource) keeps those.
/// A connection that drops is made again, and the current file goes on where it broke off.
/// Names are sorted in memory: a directory that takes more than 64 MiB of it (some 600,000 files) is
/// refused as an endless one. The tar of [`SshSource`](super::SshSource) sorts on the server and has no such bound.
pub struct SftpSource {
    link: Link,
    paths: Vec<String>,
    excludes: Excludes,
}

impl SftpSource {
    /// From saved settings and how to connect.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(settings: &SshSettings, options: SshOptions) -> Result<Self, Error> {
        SourceSettings::Sftp(settings.clone()).validate()?;
        let excludes = Excludes::new(&settings.excludes)?;
        Ok(Self { link: Link::new(options), paths: settings.paths.clone(), excludes })
    }
}

#[async_trait]
impl Source for SftpSource {
    fn kind(&self) -> &'static str {
        "sftp"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        probe_in_time(self.link.server(), self.look()).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let mut emitter = Emitter::new(sink, control);
        let (sftp, roots) = control.run(self.resolve()).await?;
        let scope = Scope { roots, excludes: self.excludes.clone(), delivered: None };
        let walked = walk::walk(&mut self.link, sftp, scope, &mut emitter).await?;
        self.link.close().await;
        Ok(emitter.finish(Evidence::Walk { directories: walked.directories, files: walked.files }))
    }
}

impl SftpSource {
    async fn look(&mut self) -> Result<Probe, Error> {
        let end = end_of_looks();
        let mut sftp = self.link.sftp().await?;
        let mut probe = probe(&mut self.link, &mut sftp, &self.paths, end).await?;
        probe.notes.push(look::unknown("SFTP"));
        Ok(probe)
    }

    async fn resolve(&mut self) -> Result<(Sftp, Vec<scope::Root>), Error> {
        let server = self.link.server();
        let mut sftp = self.link.sftp().await?;
        let roots = scope::resolve(&mut sftp, &server, &self.paths).await?;
        Ok((sftp, roots))
    }
}

/// Looks at the configured paths, as many as there is time for before `end`.
pub(crate) async fn probe(
    link: &mut Link,
    sftp: &mut Sftp,
    paths: &[String],
    end: Instant,
) -> Result<Probe, Error> {
    let mut probed = Vec::new();
    for path in paths {
        probed.push(before(end, probe_path(sftp, path)).await.unwrap_or_else(|| Ok(too_late(path)))?);
    }
    let session = link.session().await?;
    Ok(Probe {
        server: Some(session.server_version()),
        host_key: Some(session.fingerprint()),
        paths: probed,
        notes: Vec::new(),
    })
}

async fn probe_path(sftp: &mut Sftp, configured: &str) -> Result<ProbedPath, Error> {
    let found = look_at(sftp, configured).await?;
    let path = configured.to_owned();
    Ok(match found {
        Ok(kind) => ProbedPath { path, kind: Some(kind), error: None },
        Err(error) => ProbedPath { path, kind: None, error: Some(error) },
    })
}

/// What kind of thing is there, if it can be opened.
async fn look_at(sftp: &mut Sftp, configured: &str) -> Result<Result<&'static str, String>, Error> {
    let path = match scope::absolute(sftp, configured).await {
        Ok(path) => remote_path(path.as_ref()),
        Err(error @ (Error::Settings(_) | Error::Unreadable(_))) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    let attrs = match sftp.call(&Request::Stat(&path)).await? {
        Reply::Attrs(attrs) => attrs,
        Reply::Status(status) if status.code == StatusCode::NoSuchFile => {
            return Ok(Err("does not exist".into()));
        }
        Reply::Status(status) => return Ok(Err(status.message)),
        _ => return Err(sftp.protocol("STAT was answered with something else")),
    };
    let (kind, opened) = match attrs.file_type() {
        Some(FileType::Directory) => ("directory", sftp.call(&Request::OpenDir(&path)).await?),
        Some(FileType::File) => ("file", sftp.call(&Request::Open(&path)).await?),
        _ => return Ok(Err("is neither a directory nor a file".into())),
    };
    match opened {
        Reply::Handle(handle) => {
            sftp.call(&Request::Close(&handle)).await?;
            Ok(Ok(kind))
        }
        Reply::Status(status) => Ok(Err(format!("can't be opened: {}", status.message))),
        _ => Err(sftp.protocol("OPEN was answered with something else")),
    }
}
