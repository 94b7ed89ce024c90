//! A pull to be, whatever its protocol.

use std::sync::Arc;
use std::time::Duration;

use xvault_connectors::source::Source;
use xvault_connectors::{Control, Error, PullSummary};
use xvault_core::monitor::Recorder;

use crate::ssh_support::Kept;

/// A pull to be, and who watches it.
pub(crate) struct Job<Kind, Settings, Options> {
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) options: Options,
    pub(crate) control: Control,
    pub(crate) seen: Arc<Recorder>,
}

/// A job whose source can be made of what it holds.
pub(crate) trait Sourced {
    fn made(&self) -> Box<dyn Source>;
}

impl<Kind, Settings, Options> Job<Kind, Settings, Options>
where
    Self: Sourced,
{
    /// A pull of what `settings` say, with a recorder for its notes.
    pub(crate) fn of(kind: Kind, settings: Settings, options: Options) -> Self {
        let seen = Arc::new(Recorder::default());
        let control = Control::default().with_progress(seen.clone());
        Self { kind, settings, options, control, seen }
    }

    /// Changes options, after everything else.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        self.made()
    }

    pub(crate) async fn pull_into(&self, kept: &mut Kept) -> Result<PullSummary, Error> {
        let mut source = self.source();
        let pulled = tokio::time::timeout(Duration::from_secs(120), source.pull(kept, &self.control));
        pulled.await.expect("the pull hangs")
    }

    pub(crate) async fn pull(&self) -> (Kept, PullSummary) {
        let mut kept = Kept::default();
        let summary = self.pull_into(&mut kept).await.unwrap();
        assert_eq!(summary.content.warnings, kept.warnings.len() as u64);
        (kept, summary)
    }

    pub(crate) async fn error(&self) -> Error {
        self.pull_into(&mut Kept::default()).await.unwrap_err()
    }

    /// Whether a note that contains `text` was made.
    pub(crate) fn noted(&self, text: &str) -> bool {
        self.seen.notes().iter().any(|note| note.contains(text))
    }
}
