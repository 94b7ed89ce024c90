//! What is shown: results on standard output, everything else on standard error.

mod bar;
mod events;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use xvault::core::snapshot::Completeness;
use xvault::core::{Disposition, Manifest, Progress, Silent};

use crate::args::OutputArgs;

/// Where results go, and who shows progress.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    progress: Arc<dyn Progress>,
    bar: Option<bar::Bar>,
}

impl Output {
    pub(crate) fn new(args: OutputArgs) -> Self {
        let OutputArgs { json, quiet } = args;
        let bar = (!json && !quiet).then(|| bar::Bar::new(io::stderr().is_terminal()));
        let progress: Arc<dyn Progress> = match &bar {
            Some(bar) => Arc::new(bar.clone()),
            None if json && !quiet => Arc::new(events::Events::default()),
            None => Arc::new(Silent),
        };
        Self { json, quiet, progress, bar }
    }

    /// Who watches the job.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.progress)
    }

    /// Whether results are wanted as JSON Lines.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Takes the bar off the screen, before results are printed.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.clear();
        }
    }

    /// Prints a result: `value` as one line of JSON, or `text` for people.
    pub(crate) fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        self.clear();
        let mut line =
            if self.json { serde_json::to_string(value).map_err(io::Error::other)? } else { text() };
        line.push('\n');
        match io::stdout().lock().write_all(line.as_bytes()) {
            // Nobody reads any more: what was done, and how it ended, stays the same.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Tells why the program failed.
    pub(crate) fn error(&self, message: &str, disposition: Disposition) {
        self.clear();
        if self.json {
            let event = json!({"event": "error", "message": message, "disposition": disposition});
            write_stderr(&event.to_string());
        } else {
            write_stderr(&format!("xvault: {message}"));
        }
    }

    /// Says it when a snapshot does not hold everything that was asked for.
    pub(crate) fn say_if_partial(&self, manifest: &Manifest) {
        if manifest.completeness == Completeness::Partial {
            let (id, count) = (&manifest.snapshot_id, manifest.content_summary.warnings);
            self.say(&format!(
                "snapshot {id} is PARTIAL: {count} warnings when it was made, `xvault ls --warnings {id}` shows them"
            ));
        }
    }

    /// Tells a person something that is no result.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.progress.note(text);
        }
    }
}

/// Writes to standard error; when that is gone there is nobody left to tell.
pub(crate) fn write_stderr(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
