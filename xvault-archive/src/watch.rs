//! Who watches a long read, and how it is stopped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xvault_core::{Progress, Silent};

use crate::error::Error;

/// Progress and cancellation of extracting, verifying and exporting.
#[derive(Clone)]
pub struct Watch {
    /// Told about entries and bytes.
    pub progress: Arc<dyn Progress>,
    /// Set it to stop; looked at between chunks of at most a frame.
    pub cancel: Arc<AtomicBool>,
}

impl Watch {
    /// Watched by `progress`, and never cancelled unless through [`Watch::cancel`].
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, cancel: Arc::new(AtomicBool::new(false)) }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl Default for Watch {
    /// Nobody watches.
    fn default() -> Self {
        Self::new(Arc::new(Silent))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
