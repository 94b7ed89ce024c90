//! Files of this machine.

mod body;
mod events;
mod hard_links;
mod names;
mod open;
mod roots;
mod walk;

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::sync::mpsc;
use xvault_core::snapshot::Evidence;
use xvault_core::{EntrySink, LocalSettings, SourceSettings};

use super::excludes::Excludes;
use super::{Emitter, Probe, PullSummary, Source};
use crate::{Control, Error};
use events::{Event, Outbox};
use walk::Walked;

/// Batches between the reading thread and the sink: with those of [`events`] at most about 2 MiB.
const BATCHES_AHEAD: usize = 4;

/// Directories and files of the machine that runs this code.
///
/// A configured path that is a symbolic link is followed, no other one is: every directory is opened
/// from its parent, so that a link which is put into its place is never walked through.
/// Hard links are kept; sockets, pipes and device nodes are counted and left out.
/// Numeric owners and nanoseconds are kept, names of owners are not.
#[derive(Debug, Clone)]
pub struct LocalSource {
    paths: Vec<String>,
    excludes: Excludes,
    left_out: Vec<PathBuf>,
    allowed: roots::Allowed,
}

impl LocalSource {
    /// From saved settings.
    ///
    /// # Errors
    /// When a path is not absolute, or a glob of the excludes can't be understood.
    pub fn new(settings: &LocalSettings) -> Result<Self, Error> {
        SourceSettings::Local(settings.clone()).validate()?;
        let excludes = Excludes::new(&settings.excludes)?;
        Ok(Self { paths: settings.paths.clone(), excludes, left_out: Vec::new(), allowed: None })
    }

    /// Leaves a directory below the configured paths out, by whatever path the walk comes to it:
    /// a store that lies inside what is backed up must not be backed up into itself.
    #[must_use]
    pub fn leaving_out(mut self, directory: impl Into<PathBuf>) -> Self {
        self.left_out.push(directory.into());
        self
    }

    /// Refuses configured paths that do not lead to one of `directories` or below, whatever links they go
    /// through: for programs that read on behalf of others. The directories are named by their real paths.
    #[must_use]
    pub fn only_below(self, directories: Vec<PathBuf>) -> Self {
        Self { allowed: Some(directories.into()), ..self }
    }
}

#[async_trait]
impl Source for LocalSource {
    fn kind(&self) -> &'static str {
        "local"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        let (paths, allowed) = (self.paths.clone(), self.allowed.clone());
        let look = move || paths.iter().map(|path| roots::probe(path, &allowed)).collect();
        let probed = tokio::task::spawn_blocking(look);
        let paths = probed.await.map_err(|_| broken_off())?;
        Ok(Probe { server: None, host_key: None, paths, notes: Vec::new() })
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let mut emitter = Emitter::new(sink, control);
        let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let Self { paths, excludes, left_out, allowed } = self.clone();
        // One thread for the whole walk: a hand-over for each of a million small files would cost more than reading it.
        // It ends at its next batch once `batches` is dropped.
        let walking = tokio::task::spawn_blocking(move || {
            let roots = roots::resolve(&paths, &allowed)?;
            walk::walk(&roots, &excludes, &left_out, Outbox::new(sender))
        });
        while let Some(batch) = control.run(async { Ok(batches.recv().await) }).await? {
            for event in batch {
                hand_on(&mut emitter, event).await?;
            }
        }
        let Walked { directories, files } = walking.await.map_err(|_| broken_off())??;
        Ok(emitter.finish(Evidence::Walk { directories, files }))
    }
}

fn broken_off() -> Error {
    Error::Incomplete("the reading thread broke off; this is a defect of xVault".into())
}

async fn hand_on(emitter: &mut Emitter<'_>, event: Event) -> Result<(), Error> {
    match event {
        Event::Whole(entry) => emitter.whole(entry).await,
        Event::Begin(entry) => emitter.begin(entry).await,
        Event::Data(chunk) => emitter.data(chunk).await,
        Event::End => emitter.end().await,
        Event::Warning(warning) => emitter.warn(warning.path, warning.code, warning.message).await,
        Event::Special => {
            emitter.skip_special();
            Ok(())
        }
    }
}
