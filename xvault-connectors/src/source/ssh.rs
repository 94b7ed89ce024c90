//! Files over SSH: the remote `tar`, re-packed, or SFTP where there is none.

mod command;
mod complaints;
mod offline;
mod repack;

use async_trait::async_trait;
use xvault_core::snapshot::Evidence;
use xvault_core::{EntryPath, EntrySink, SourceSettings, SshSettings};

use super::excludes::Excludes;
use super::in_time::{before, end_of_looks};
use super::link::{Link, is_of_connection};
use super::sftp::scope::{Root, Scope, absolute, remote_path, resolve};
use super::sftp::{probe, walk};
use super::{Emitter, Probe, PullSummary, Source, look, probe_in_time};
use crate::ssh::sftp::{FileType, Reply, Request, Sftp};
use crate::ssh::{Exec, ExecEvent, Exit, Session, SshOptions};
use crate::{Control, Error};
use command::Operand;
use complaints::Lines;
use repack::Repacker;

#[doc(hidden)]
pub use offline::repack;

/// More output of our look around than this is no answer.
const MAX_LOOK_LEN: usize = 64 << 10;

/// GNU tar's exit status after "some files differ", and after errors that it told on its way.
const FILES_DIFFER: u32 = 1;
const FILES_FAILED: u32 = 2;

/// The files of an account over SSH: one stream of the remote GNU tar (1.28 or newer), taken apart and checked.
///
/// One round trip brings a million files, with fractions of times, owners' names and hard links.
/// Paths are looked up over SFTP, and where the account has no shell or no GNU tar, or the
/// connection breaks in the middle, the pull goes on over SFTP.
pub struct SshSource {
    link: Link,
    paths: Vec<String>,
    globs: Vec<String>,
    excludes: Excludes,
}

impl SshSource {
    /// From saved settings and how to connect.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(settings: &SshSettings, options: SshOptions) -> Result<Self, Error> {
        SourceSettings::Ssh(settings.clone()).validate()?;
        Self::of(settings, options)
    }

    /// Of settings that were looked at, with as many paths as it takes.
    pub(super) fn of(settings: &SshSettings, options: SshOptions) -> Result<Self, Error> {
        Ok(Self {
            link: Link::new(options),
            paths: settings.paths.clone(),
            globs: settings.excludes.clone(),
            excludes: Excludes::new(&settings.excludes)?,
        })
    }

    /// Those of the paths that were found.
    async fn roots(&self, sftp: &mut Sftp, probe: &Probe) -> Result<Vec<Vec<u8>>, Error> {
        let mut roots = Vec::new();
        for found in probe.paths.iter().filter(|path| path.error.is_none()) {
            let path = absolute(sftp, &found.path).await?;
            roots.push(remote_path(path.as_ref()));
        }
        Ok(roots)
    }

    /// Looks the paths up and, meanwhile, for the remote tar.
    async fn prepare(&mut self) -> Result<Prepared, Error> {
        let server = self.link.server();
        let mut sftp = self.link.sftp().await?;
        let session = self.link.session().await?;
        let looking_up = look_up(&mut sftp, &server, &self.paths);
        let (found, tar_refusal) = tokio::join!(looking_up, tar_refusal(session));
        let ((roots, operands), tar_refusal) = (found?, tar_refusal?);
        let scope = Scope { roots, excludes: self.excludes.clone(), delivered: None };
        Ok(Prepared { sftp, scope, operands, tar_refusal })
    }
}

/// What is known before anything is pulled.
struct Prepared {
    sftp: Sftp,
    scope: Scope,
    operands: Vec<Operand>,
    /// Why the remote tar can't be used; `None` when it can.
    tar_refusal: Option<String>,
}

async fn tar_refusal(session: &Session) -> Result<Option<String>, Error> {
    let looked = match session.exec(&command::LOOK_AROUND).await {
        Ok(exec) => exec.output(MAX_LOOK_LEN).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok((_, stdout, _)) => Ok(command::refusal(&stdout)),
        Err(Error::Remote { reason, .. }) => Ok(Some(reason)),
        Err(Error::Protocol { .. }) => Ok(Some("there is no plain shell".into())),
        Err(error) => Err(error),
    }
}

async fn look_up(
    sftp: &mut Sftp,
    server: &str,
    paths: &[String],
) -> Result<(Vec<Root>, Vec<Operand>), Error> {
    let roots = resolve(sftp, server, paths).await?;
    let mut operands = Vec::new();
    for root in &roots {
        operands.push(operand(sftp, root).await?);
    }
    Ok((roots, operands))
}

async fn operand(sftp: &mut Sftp, root: &Root) -> Result<Operand, Error> {
    let is_link = match sftp.call(&Request::Lstat(&remote_path(root.path.as_ref()))).await? {
        Reply::Attrs(attrs) => attrs.file_type() == Some(FileType::Symlink),
        _ => false,
    };
    let is_dir = root.attrs.file_type() == Some(FileType::Directory);
    Ok(Operand { path: root.path.clone(), is_dir, is_link })
}

#[async_trait]
impl Source for SshSource {
    fn kind(&self) -> &'static str {
        "ssh"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        probe_in_time(self.link.server(), self.look()).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let mut emitter = Emitter::new(sink, control);
        let Prepared { sftp, scope, operands, tar_refusal } = control.run(self.prepare()).await?;
        let evidence = match tar_refusal {
            None => {
                drop(sftp);
                self.pull_tar(&scope, &operands, &mut emitter).await?
            }
            Some(reason) => {
                control.progress().note(&format!("{}: SFTP is used: {reason}", self.link.server()));
                self.walk(sftp, scope, &mut emitter).await?
            }
        };
        self.link.close().await;
        Ok(emitter.finish(evidence))
    }
}

impl SshSource {
    async fn look(&mut self) -> Result<Probe, Error> {
        let end = end_of_looks();
        let mut sftp = self.link.sftp().await?;
        let mut probe = probe(&mut self.link, &mut sftp, &self.paths, end).await?;
        let roots = before(end, self.roots(&mut sftp, &probe)).await.unwrap_or_else(|| Ok(Vec::new()))?;
        let session = self.link.session().await?;
        let what = if self.globs.is_empty() { "of files" } else { "of files, with what is excluded" };
        let (tar_refusal, seen) =
            tokio::join!(before(end, tar_refusal(session)), look::look(session, &roots, what, end));
        let tar_refusal = tar_refusal.transpose()?.flatten();
        probe.notes.extend(tar_refusal.map(|reason| format!("SFTP will be used: {reason}")));
        probe.notes.extend(seen);
        Ok(probe)
    }

    async fn walk(&mut self, sftp: Sftp, scope: Scope, emitter: &mut Emitter<'_>) -> Result<Evidence, Error> {
        let walked = walk::walk(&mut self.link, sftp, scope, emitter).await?;
        Ok(Evidence::Walk { directories: walked.directories, files: walked.files })
    }

    /// Streams; and when the connection breaks, walks on from where the stream broke off: GNU tar
    /// sorted by name has the order of our walk.
    async fn pull_tar(
        &mut self,
        scope: &Scope,
        operands: &[Operand],
        emitter: &mut Emitter<'_>,
    ) -> Result<Evidence, Error> {
        let mut repacker = Repacker::new(scope, emitter);
        let error = match self.stream(operands, &mut repacker).await {
            Ok(exit_status) => return self.stream_orphans(exit_status, repacker).await,
            Err(error) => error,
        };
        if !is_of_connection(&error) || repacker.has_orphans() {
            return Err(error);
        }
        let delivered = repacker.delivered();
        let control = emitter.control().clone();
        let sftp = self.link.again(error, emitter.content(), &control).await?;
        control.progress().note(&format!("{}: going on over SFTP where tar broke off", self.link.server()));
        self.walk(sftp, Scope { delivered, ..scope.clone() }, emitter).await
    }

    /// Streams all operands; returns the worst exit status.
    async fn stream(&mut self, operands: &[Operand], repacker: &mut Repacker<'_, '_>) -> Result<u32, Error> {
        let mut worst = 0;
        for run in command::runs(operands) {
            let operands = operands.get(run).unwrap_or_default();
            worst = worst.max(self.stream_run(&command::tar(operands, &self.globs), repacker).await?);
        }
        Ok(worst)
    }

    /// A hard link to something that is no file of the archive (an excluded name, a link) is
    /// fetched by itself. Each round brings at least one name of each such file.
    async fn stream_orphans(
        &mut self,
        mut exit_status: u32,
        mut repacker: Repacker<'_, '_>,
    ) -> Result<Evidence, Error> {
        loop {
            let orphans = repacker.take_orphans()?;
            let Some(first) = orphans.first().cloned() else { break };
            let alone = |path: EntryPath| Operand { path: Some(path), is_dir: false, is_link: false };
            let operands: Vec<Operand> = orphans.iter().cloned().map(alone).collect();
            let before = repacker.entries;
            exit_status = exit_status.max(self.stream(&operands, &mut repacker).await.map_err(incomplete)?);
            if repacker.entries == before {
                return Err(Error::Incomplete(format!("`{first}` and other hard links could not be read")));
            }
        }
        Ok(Evidence::Tar { exit_status, entries: repacker.entries })
    }

    async fn stream_run(&mut self, argv: &[Vec<u8>], repacker: &mut Repacker<'_, '_>) -> Result<u32, Error> {
        let control = repacker.control().clone();
        let mut exec = control.run(async { self.link.session().await?.exec(argv).await }).await?;
        repacker.next_stream();
        let mut lines = Lines::default();
        while let Some(event) = control.run(exec.next()).await? {
            match event {
                ExecEvent::Stdout(data) => repacker.stdout(data).await?,
                ExecEvent::Stderr(data) => {
                    for complaint in lines.push(&data) {
                        repacker.complaint(complaint).await?;
                    }
                }
            }
        }
        if let Some(complaint) = lines.flush() {
            repacker.complaint(complaint).await?;
        }
        proof(&exec, repacker)
    }
}

/// Nothing that was delivered out of order can be gone on from.
fn incomplete(error: Error) -> Error {
    if is_of_connection(&error) { Error::Incomplete(xvault_core::error::chain(&error)) } else { error }
}

/// The exit status, if it and the end of the stream prove that all was read but what was complained of.
fn proof(exec: &Exec, repacker: &Repacker<'_, '_>) -> Result<u32, Error> {
    let exit = exec.exit().cloned().unwrap_or(Exit::Signal("unknown".into()));
    let last_words = repacker.last_words.as_deref().map(|words| format!(": {words}")).unwrap_or_default();
    match exit {
        Exit::Status(0 | FILES_DIFFER | FILES_FAILED) if !repacker.is_ended() => Err(Error::Incomplete(
            format!("the remote tar ended ({exit}) without closing its archive{last_words}"),
        )),
        Exit::Status(status @ (0 | FILES_DIFFER)) => Ok(status),
        // Only what was told of single things explains it: "Cannot write" may have cost everything.
        Exit::Status(FILES_FAILED) if repacker.file_errors > 0 => Ok(FILES_FAILED),
        exit => Err(Error::Remote { command: "tar".into(), reason: format!("{exit}{last_words}") }),
    }
}
