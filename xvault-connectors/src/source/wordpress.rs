//! WordPress sites over SSH: their databases and their files, as one snapshot.

mod below;
mod databases;
mod locate;

use async_trait::async_trait;
use xvault_core::snapshot::{ContentSummary, Evidence};
use xvault_core::source::InvalidSettings;
use xvault_core::{EntrySink, SourceSettings, SshSettings, WordpressSettings};

use super::in_time::{before, end_of_looks, too_late};
use super::link::Link;
use super::{Emitter, Probe, ProbedPath, PullSummary, Source, SshSource, dump, look, probe_in_time};
use crate::ssh::{HostKeyPolicy, SshOptions};
use crate::tool::ToolOptions;
use crate::{Control, Error};
use below::Below;
use databases::Databases;
use locate::Site;

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
    sites: Vec<Site>,
    databases: Databases,
    files: SshSource,
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
        let mut sites = Vec::new();
        for path in &self.settings.paths {
            sites
                .push(locate::site(&mut sftp, &self.link.server(), path, self.settings.dump_database).await?);
        }
        let session = self.link.session().await?;
        let databases = Databases::of(&sites, session, &self.settings, &self.options, &self.tools).await?;
        let files = self.files(&sites)?;
        Ok(Prepared { sites, databases, files })
    }

    /// The document roots, and what belongs to the sites and lies elsewhere.
    fn files(&self, sites: &[Site]) -> Result<SshSource, Error> {
        let settings = self.settings.files();
        let elsewhere = sites.iter().flat_map(|site| site.elsewhere.iter().cloned());
        let paths = settings.paths.iter().cloned().chain(elsewhere).collect();
        SshSource::of(&SshSettings { paths, ..settings }, self.options.clone())
    }

    async fn look(&mut self) -> Result<Probe, Error> {
        let end = end_of_looks();
        let mut sftp = self.link.sftp().await?;
        self.pin().await?;
        let (mut sites, mut paths) = (Vec::new(), Vec::new());
        for path in &self.settings.paths {
            let server = self.link.server();
            let site = locate::site(&mut sftp, &server, path, self.settings.dump_database);
            match before(end, site).await {
                Some(Ok(site)) => {
                    paths.push(ProbedPath { path: path.clone(), kind: Some("directory"), error: None });
                    sites.push(site);
                }
                Some(Err(error)) => paths.push(unfound(path, error)?),
                None => paths.push(too_late(path)),
            }
        }
        drop(sftp);
        let roots: Vec<Vec<u8>> = sites.iter().map(|site| site.root.clone()).collect();
        let mut notes: Vec<String> = sites.iter().flat_map(Site::notes).collect();
        let session = self.link.session().await?;
        let databases = Databases::of(&sites, session, &self.settings, &self.options, &self.tools);
        let databases = async {
            match before(end, databases).await {
                Some(Ok(databases)) => Ok(databases.probe(end).await),
                Some(Err(error)) => Err(error),
                None => Ok(vec![(too_late("the database"), Vec::new())]),
            }
        };
        let (probed, seen) = tokio::join!(databases, look::look(session, &roots, LEFT_OUT, end));
        notes.extend(seen);
        for (found, more) in probed? {
            paths.push(found);
            notes.extend(more);
        }
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
        probe_in_time(server, self.look()).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let Prepared { sites, databases, mut files } = control.run(self.prepare()).await?;
        sites.iter().flat_map(Site::notes).for_each(|note| control.progress().note(&note));
        // The connection would lie idle while others work.
        self.link.close().await;
        let mut emitter = Emitter::new(sink, control);
        let databases = databases.dump(&mut emitter).await?;
        emitter.whole(dump::folder_at(FILES, 0o755)?).await?;
        let own = *emitter.content();
        let pulled = files.pull(&mut Below::new(FILES, sink), control).await?;
        let evidence = Evidence::Site { databases, files: Box::new(pulled.evidence) };
        Ok(PullSummary { content: sum(own, pulled.content), evidence })
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
