//! WordPress sites over SSH: their databases and their files, as one snapshot.

mod ask;
mod astray;
mod below;
mod content;
mod databases;
mod folders;
mod locate;
mod outside;
mod own;
mod paths;
mod rows;
mod sites;
mod told;

use async_trait::async_trait;
use xvault_core::snapshot::{ContentSummary, Evidence};
use xvault_core::source::InvalidSettings;
use xvault_core::{EntrySink, SourceSettings, SshSettings, WarningCode, WordpressSettings};

use super::excludes::Excludes;
use super::in_time::{before, end_of_looks, too_late};
use super::link::Link;
use super::{Emitter, Probe, ProbedPath, PullSummary, Source, SshSource, dump, look, probe_in_time};
use crate::ssh::{HostKeyPolicy, SshOptions};
use crate::tool::ToolOptions;
use crate::{Control, Error};
use astray::Watch;
use below::Below;
use databases::Databases;
use sites::Sites;

/// The directory that the files lie in, each at its absolute path.
const FILES: &str = "files";

/// What the server's `du` counts.
const LEFT_OUT: &str = "of files, with what is left out by default";

/// The sites of an account: what `wp-config.php` says leads to their databases, which are dumped below `database/`; then the
/// files are pulled as [`SshSource`] does, below `files/`.
///
/// A database is of one moment, and the files are pulled behind it: what is uploaded meanwhile is a file that the database
/// does not know, never the other way round.
pub struct WordpressSource {
    settings: WordpressSettings,
    link: Link,
    options: SshOptions,
    tools: ToolOptions,
}

/// What is known before anything is pulled.
struct Prepared {
    sites: Sites,
    databases: Databases,
}

impl WordpressSource {
    /// From saved settings, how to connect, and this machine's tools for databases that are dumped through a tunnel.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(settings: &WordpressSettings, options: SshOptions, tools: ToolOptions) -> Result<Self, Error> {
        SourceSettings::Wordpress(settings.clone()).validate()?;
        let link = Link::new(options.clone());
        Ok(Self { settings: settings.clone(), link, options, tools })
    }

    /// Who has been believed once is who is connected to again.
    async fn pin(&mut self) -> Result<(), Error> {
        self.options.host_key = HostKeyPolicy::Pinned(self.link.session().await?.fingerprint());
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Prepared, Error> {
        let mut sftp = self.link.sftp().await?;
        self.pin().await?;
        let (mut sites, server) = (Sites::default(), self.link.server());
        for path in &self.settings.paths {
            sites.add(locate::site(&mut sftp, &server, path, &self.settings).await?);
        }
        sites.settle()?;
        // There are servers that let one session alone share a connection.
        drop(sftp);
        let session = self.link.session().await?;
        let databases =
            Databases::of(&sites.sites, session, &self.settings, &self.options, &self.tools).await?;
        // Nothing may be wrong with the paths and globs when the databases are dumped.
        self.files(&sites)?;
        Ok(Prepared { sites, databases })
    }

    /// The settings of the files: the document roots, and what belongs to the sites and lies elsewhere.
    fn files(&self, sites: &Sites) -> Result<SshSource, Error> {
        SshSource::of(&self.file_settings(sites), self.options.clone())
    }

    fn file_settings(&self, sites: &Sites) -> SshSettings {
        let settings = self.settings.files_in(&sites.own_directories());
        let paths = settings.paths.iter().cloned().chain(sites.elsewhere()).collect();
        SshSettings { paths, ..settings }
    }

    /// Looks at where the databases say that uploads lie, if that is not where they usually do.
    async fn follow_databases(&mut self, sites: &mut Sites, databases: &Databases) -> Result<(), Error> {
        if sites.is_told_more(databases) {
            let mut sftp = self.link.sftp().await?;
            sites.follow(&mut sftp, databases).await?;
        }
        Ok(())
    }

    /// Tells what the backup lacks: what was known before, and what was seen in it.
    async fn tell(
        &mut self,
        sites: &Sites,
        mut watch: Watch,
        emitter: &mut Emitter<'_>,
    ) -> Result<(), Error> {
        let look = async {
            watch.look(&mut self.link).await;
            Ok(())
        };
        emitter.control().run(look).await?;
        for (path, doubt) in sites.doubts()?.into_iter().chain(watch.warnings()) {
            emitter.warn(below::moved(FILES, &path)?, WarningCode::Other, doubt).await?;
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<Probe, Error> {
        let end = end_of_looks();
        let mut sftp = self.link.sftp().await?;
        self.pin().await?;
        let (mut sites, mut paths) = (Sites::default(), Vec::new());
        for path in &self.settings.paths {
            let server = self.link.server();
            let site = locate::site(&mut sftp, &server, path, &self.settings);
            match before(end, site).await {
                Some(Ok(located)) => {
                    paths.push(ProbedPath { path: path.clone(), kind: Some("directory"), error: None });
                    sites.add(located);
                }
                Some(Err(error)) => paths.push(unfound(path, error)?),
                None => paths.push(too_late(path)),
            }
        }
        drop(sftp);
        if let Err(error) = sites.settle() {
            let error = xvault_core::error::chain(&error);
            for path in paths.iter_mut().filter(|path| path.error.is_none()) {
                (path.kind, path.error) = (None, Some(error.clone()));
            }
        }
        let roots = sites.roots();
        let session = self.link.session().await?;
        let databases = Databases::of(&sites.sites, session, &self.settings, &self.options, &self.tools);
        let databases = Box::pin(async {
            match before(end, Box::pin(databases)).await {
                Some(Ok(databases)) => Ok((databases.probe(end).await, databases)),
                Some(Err(error)) => Err(error),
                None => Ok((vec![(too_late("the database"), Vec::new())], Databases::default())),
            }
        });
        let (probed, seen) = tokio::join!(databases, look::look(session, &roots, LEFT_OUT, end));
        let (probed, databases) = probed?;
        let followed =
            before(end, Box::pin(self.follow_databases(&mut sites, &databases))).await.transpose()?;
        let mut notes = sites.notes();
        if followed.is_none() {
            notes.push("where the database says that uploads lie was not looked at in time".to_owned());
        }
        notes.extend(seen);
        for (found, more) in probed {
            paths.push(found);
            notes.extend(more);
        }
        let session = self.link.session().await?;
        Ok(Probe {
            server: Some(session.server_version()),
            host_key: Some(session.fingerprint()),
            paths,
            notes,
        })
    }
}

/// What is wrong with one site is told beside the others; what is wrong with the connection is an error.
fn unfound(path: &str, error: Error) -> Result<ProbedPath, Error> {
    match error {
        Error::NotFound(_)
        | Error::Unreadable(_)
        | Error::Remote { .. }
        | Error::SiteConfig { .. }
        | Error::Settings(InvalidSettings { .. }) => {
            let error = Some(xvault_core::error::chain(&error));
            Ok(ProbedPath { path: path.to_owned(), kind: None, error })
        }
        error => Err(error),
    }
}

#[async_trait]
impl Source for WordpressSource {
    fn kind(&self) -> &'static str {
        "wordpress"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        let server = self.link.server();
        // On the heap: what looks at a database by SSH is deep, and a thread's stack is not.
        probe_in_time(server, Box::pin(self.look())).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let Prepared { mut sites, databases } = control.run(Box::pin(self.prepare())).await?;
        // The connection would lie idle while others work.
        self.link.close().await;
        let mut emitter = Emitter::new(sink, control);
        let evidence = databases.dump(&mut emitter).await?;
        control.run(self.follow_databases(&mut sites, &databases)).await?;
        self.link.close().await;
        sites.notes().iter().for_each(|note| control.progress().note(note));
        emitter.whole(dump::folder_at(FILES, 0o755)?).await?;
        let own = *emitter.content();
        let settings = self.file_settings(&sites);
        let mut watch = Watch::of(&sites, Excludes::new(&settings.excludes)?);
        let mut files = SshSource::of(&settings, self.options.clone())?;
        let mut below =
            Below { folder: FILES, watch: &mut watch, link: &mut self.link, sink: &mut *sink, control };
        let pulled = files.pull(&mut below, control).await?;
        let mut emitter = Emitter::new(sink, control);
        self.tell(&sites, watch, &mut emitter).await?;
        let content = sum(sum(own, pulled.content), *emitter.content());
        let evidence = Evidence::Site { databases: evidence, files: Box::new(pulled.evidence) };
        Ok(PullSummary { content, evidence })
    }
}

fn sum(one: ContentSummary, other: ContentSummary) -> ContentSummary {
    ContentSummary {
        files: one.files + other.files,
        directories: one.directories + other.directories,
        symlinks: one.symlinks + other.symlinks,
        hardlinks: one.hardlinks + other.hardlinks,
        bytes: one.bytes + other.bytes,
        warnings: one.warnings + other.warnings,
        skipped: one.skipped + other.skipped,
    }
}
