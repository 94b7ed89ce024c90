//! From a store into a directory.

use std::path::Path;

use xvault_archive::{ExtractOptions, ExtractStats, Overwrite, Watch, extract};
use xvault_connectors::Control;
use xvault_core::EntryPath;

use crate::bridge::stoppable;
use crate::{Error, Snapshot};

/// How to restore. The default is everything, overwriting nothing, owners only when we are root.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    extract: ExtractOptions,
    control: Control,
}

impl RestoreOptions {
    /// Only these entries and what lies below them; none: everything.
    #[must_use]
    pub fn paths(mut self, paths: Vec<EntryPath>) -> Self {
        self.extract.paths = paths;
        self
    }

    /// What happens to files that are there already.
    #[must_use]
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.extract.overwrite = overwrite;
        self
    }

    /// Whether owner and group are restored, by number.
    #[must_use]
    pub fn owner(mut self, owner: bool) -> Self {
        self.extract.owner = owner;
        self
    }

    /// Cancellation and progress.
    #[must_use]
    pub fn control(self, control: Control) -> Self {
        Self { control, ..self }
    }
}

impl Snapshot<'_> {
    /// Restores into the directory `target`, which is made when it is missing. Nothing outside it is touched,
    /// and each file appears whole, with its content hash checked, or not at all.
    ///
    /// # Errors
    /// When something is damaged or hostile, stands in the way, or the disk is full. What was restored before stays.
    pub async fn restore(
        &self,
        target: impl AsRef<Path>,
        options: RestoreOptions,
    ) -> Result<ExtractStats, Error> {
        let RestoreOptions { mut extract, control } = options;
        extract.watch = Watch::new(control.progress().clone());
        let watch = extract.watch.clone();
        let target = target.as_ref().to_owned();
        let work = self
            .with_reader(&control, move |mut reader, _| Ok(self::extract(&mut reader, &target, &extract)?));
        stoppable(&control, &watch, work).await
    }
}
