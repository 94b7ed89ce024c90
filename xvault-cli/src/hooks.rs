//! Commands around a backup, on the command line.

use clap::{Args, ValueEnum};
use xvault::core::source::{Hook, Hooks, OnFailure};

/// What is run on the SSH server around a backup.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct HookArgs {
    /// Run this on the SSH server before anything is read
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub(crate) before: Option<String>,
    /// Run this on the SSH server when all was read, or when that failed
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub(crate) after: Option<String>,
    /// How long each of them may take, in seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Hooks", default_value_t = Hook::default_timeout(),
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Hook::MAX_TIMEOUT)))]
    pub(crate) hook_timeout: u32,
    /// What the failure of one means
    #[arg(long, value_name = "WHAT", help_heading = "Hooks", default_value = "fail")]
    pub(crate) hook_failure: HookFailure,
}

/// `--hook-failure`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum HookFailure {
    /// The backup fails
    #[default]
    Fail,
    /// It is told, and the backup goes on
    Warn,
}

impl HookArgs {
    /// As the settings of a source.
    pub(crate) fn hooks(&self) -> Hooks {
        let on_failure = match self.hook_failure {
            HookFailure::Fail => OnFailure::Fail,
            HookFailure::Warn => OnFailure::Warn,
        };
        let hook = |command: &String| Hook {
            timeout_seconds: self.hook_timeout,
            on_failure,
            ..Hook::new(command.as_str())
        };
        Hooks { before: self.before.as_ref().map(hook), after: self.after.as_ref().map(hook) }
    }
}
