//! Commands around a backup, on the command line.

use clap::{Args, ValueEnum};
use xvault::core::source::{Hook, Hooks, OnFailure};

use crate::WrongUsage;

/// What is run on the SSH server around a backup.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct HookArgs {
    /// Run this on the SSH server before anything is read
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub(crate) before: Option<String>,
    /// Run this on the SSH server when all was read, or when that failed
    #[arg(long, value_name = "COMMAND", help_heading = "Hooks")]
    pub(crate) after: Option<String>,
    /// How long each of them may take, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Hooks",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Hook::MAX_TIMEOUT)))]
    pub(crate) hook_timeout: Option<u32>,
    /// What the failure of one means [default: fail]
    #[arg(long, value_name = "WHAT", help_heading = "Hooks")]
    pub(crate) hook_failure: Option<HookFailure>,
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
        let on_failure = match self.hook_failure.unwrap_or_default() {
            HookFailure::Fail => OnFailure::Fail,
            HookFailure::Warn => OnFailure::Warn,
        };
        let hook = |command: &String| Hook {
            timeout_seconds: self.hook_timeout.unwrap_or_else(Hook::default_timeout),
            on_failure,
            ..Hook::new(command.as_str())
        };
        Hooks { before: self.before.as_ref().map(hook), after: self.after.as_ref().map(hook) }
    }

    /// Refuses what says of commands how they are run, where there is none.
    pub(crate) fn refuse_idle(&self) -> Result<(), WrongUsage> {
        let given = [
            ("--hook-timeout", self.hook_timeout.is_some()),
            ("--hook-failure", self.hook_failure.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) if self.hooks().is_empty() => Err(WrongUsage(format!(
                "{name} is for the commands of --before and --after, and there is none"
            ))),
            _ => Ok(()),
        }
    }
}
