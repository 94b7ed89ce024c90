//! Files over FTP.

mod fetch;
mod lane;
mod line;
mod links;
mod list;
mod pool;
mod probe;
mod queue;
mod scope;
mod seam;
mod tree;
mod walk;

use std::sync::Arc;

use async_trait::async_trait;
use xvault_core::snapshot::Evidence;
use xvault_core::{EntrySink, FtpSettings, SourceSettings};

use super::excludes::Excludes;
use super::{Emitter, Probe, PullSummary, Source};
use crate::ftp::{FtpOptions, Session, Shared};
use crate::{Control, Error};
use scope::Scope;

/// The files of an account over FTP or FTPS.
///
/// With MLSD an entry has its time to the second and mostly its mode and owner; with LIST, which older servers have alone, files are asked
/// for their times one by one. FTP knows no hard links (each name becomes a file of its own), and can't say names with line breaks.
/// Several connections fetch ahead. One that drops is made again, and the current file goes on where it broke off.
/// Names are sorted in memory: listings that take more than 64 MiB of it are refused as endless ones.
pub struct FtpSource {
    shared: Arc<Shared>,
    paths: Vec<String>,
    excludes: Excludes,
}

impl FtpSource {
    /// From saved settings and how to connect.
    ///
    /// # Errors
    /// When the settings can't work.
    pub fn new(settings: &FtpSettings, options: FtpOptions) -> Result<Self, Error> {
        SourceSettings::Ftp(settings.clone()).validate()?;
        let excludes = Excludes::new(&settings.excludes)?;
        Ok(Self { shared: Arc::new(Shared::new(options)), paths: settings.paths.clone(), excludes })
    }
}

#[async_trait]
impl Source for FtpSource {
    fn kind(&self) -> &'static str {
        "ftp"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        probe::probe(&self.shared, &self.paths).await
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let mut emitter = Emitter::new(sink, control);
        let (session, roots) = control.run(self.resolve()).await?;
        let scope = Scope::new(&roots, self.excludes.clone());
        let walked = walk::walk(&self.shared, session, scope, &mut emitter).await?;
        Ok(emitter.finish(Evidence::Walk { directories: walked.directories, files: walked.files }))
    }
}

impl FtpSource {
    async fn resolve(&self) -> Result<(Session, Vec<scope::Root>), Error> {
        let mut session = Session::connect(&self.shared).await?;
        let roots = scope::resolve(&mut session, &self.paths).await?;
        Ok((session, roots))
    }
}
