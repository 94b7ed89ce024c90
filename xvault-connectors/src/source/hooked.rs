//! A source with commands around it, which are run on its SSH server.

mod command;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};
use xvault_core::source::{Hook, Hooks, OnFailure};
use xvault_core::{Dispose, Disposition, EntrySink};

use super::{Probe, PullSummary, Source};
use crate::ssh::{Exec, HostKeyPolicy, Session, SshOptions};
use crate::{Control, Error};

/// Runs a command before the source within is pulled, and one after it, also when the pull failed.
///
/// A probe runs neither. A pull that is dropped instead of cancelled leaves no time for the command after it.
pub struct Hooked {
    source: Box<dyn Source>,
    hooks: Hooks,
    options: SshOptions,
}

impl Hooked {
    /// `source`, with `hooks` around it if there are any and a server to run them on; by the account that `options` name.
    #[must_use]
    pub fn around(source: Box<dyn Source>, hooks: &Hooks, options: Option<&SshOptions>) -> Box<dyn Source> {
        match options {
            Some(options) if !hooks.is_empty() => {
                Box::new(Self { source, hooks: hooks.clone(), options: options.clone() })
            }
            _ => source,
        }
    }

    /// Runs `hook`, until `control` is cancelled; its failure is what the settings say.
    async fn run(&mut self, name: &'static str, hook: &Hook, control: &Control) -> Result<(), Error> {
        control.progress().note(&format!("hook {name}: `{}` begins", hook.command.escape_debug()));
        match (self.ran(name, hook, control).await, hook.on_failure) {
            (Err(error @ Error::Hook { .. }), OnFailure::Warn) => {
                let text = xvault_core::error::chain(&error);
                control
                    .progress()
                    .caution(&format!("{text}; the backup goes on, as the source's settings say"));
                Ok(())
            }
            (ran, _) => ran,
        }
    }

    async fn ran(&mut self, name: &'static str, hook: &Hook, control: &Control) -> Result<(), Error> {
        let ready = control.run(self.ready_at_last(name, hook, control)).await;
        let (session, mut exec) = ready.map_err(|error| not_run(name, "could not be run", error))?;
        // Never twice: nobody knows how far a command came that was lost sight of.
        let ran = command::run(&mut exec, name, hook, control).await;
        session.close().await;
        ran.map_err(|error| not_run(name, "was lost sight of while it ran", error))
    }

    /// Whatever may pass has a moment to do so, as the settings of most say that a failure fails the backup.
    async fn ready_at_last(
        &mut self,
        name: &'static str,
        hook: &Hook,
        control: &Control,
    ) -> Result<(Session, Exec), Error> {
        let deadline = Instant::now() + command::limit(hook);
        let first = match self.ready(hook).await {
            Err(error) if error.disposition() == Disposition::Transient => error,
            ready => return ready,
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(first);
        }
        let text = xvault_core::error::chain(&first);
        control.progress().note(&format!("hook {name}: {text}; once more in {} s", PAUSE.as_secs()));
        sleep(PAUSE).await;
        timeout_at(deadline, self.ready(hook)).await.unwrap_or(Err(first))
    }

    /// On a connection of its own each time: the pull between them may take hours.
    async fn ready(&mut self, hook: &Hook) -> Result<(Session, Exec), Error> {
        let session = Session::connect(&self.options).await?;
        self.options.host_key = HostKeyPolicy::Pinned(session.fingerprint());
        let exec = command::prepare(&session, hook).await?;
        Ok((session, exec))
    }

    async fn before(&mut self, control: &Control) -> Result<(), Error> {
        match self.hooks.before.clone() {
            Some(hook) => self.run("before", &hook, control).await,
            None => Ok(()),
        }
    }

    /// Nobody cancels it with the job: it undoes what the command before it did.
    async fn after(&mut self, control: &Control) -> Result<(), Error> {
        let Some(hook) = self.hooks.after.clone() else { return Ok(()) };
        let hook = if control.check().is_err() { winding_up(hook) } else { hook };
        let alone = Control::default().with_progress(control.progress().clone());
        self.run("after", &hook, &alone).await
    }
}

/// What kept a command from being run, or from being watched. That the server is not the one it was, or may not be connected to, is no
/// matter of hooks: it fails the backup whatever the settings say of them.
fn not_run(hook: &'static str, reason: &str, error: Error) -> Error {
    match error {
        Error::Hook { .. }
        | Error::Cancelled
        | Error::UnknownHostKey { .. }
        | Error::ChangedHostKey { .. }
        | Error::Egress(_) => error,
        cause => Error::Hook { hook, reason: reason.to_owned(), cause: Some(Box::new(cause)) },
    }
}

/// How long is waited before it is tried once more to begin a command.
const PAUSE: Duration = Duration::from_secs(3);

/// How long the command after a cancelled pull may take, in seconds: somebody waits.
const WIND_UP: u32 = 60;

#[async_trait]
impl Source for Hooked {
    fn kind(&self) -> &'static str {
        self.source.kind()
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        let mut probe = self.source.probe().await?;
        for (name, hook) in [("before", &self.hooks.before), ("after", &self.hooks.after)] {
            probe.notes.extend(hook.as_ref().map(|hook| note(name, hook)));
        }
        Ok(probe)
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let pulled = match self.before(control).await {
            Ok(()) => self.source.pull(sink, control).await,
            Err(error) => Err(error),
        };
        let after = self.after(control).await;
        match (pulled, after) {
            (Ok(summary), after) => after.map(|()| summary),
            // The first cause is the one to be told.
            (Err(error), after) => {
                if let Err(second) = after {
                    control.progress().caution(&xvault_core::error::chain(&second));
                }
                Err(error)
            }
        }
    }

    /// To end the command before it, to log in again, twice perhaps, to run the command after it, and to end that.
    fn wind_up(&self) -> Duration {
        let after = self.hooks.after.clone().map_or(0, |hook| winding_up(hook).timeout_seconds);
        let before = if self.hooks.before.is_some() { 10 } else { 0 };
        let spare = if after > 0 { 70 } else { 0 };
        self.source.wind_up() + Duration::from_secs(u64::from(after) + before + spare)
    }
}

/// The command after a pull that was cancelled.
fn winding_up(hook: Hook) -> Hook {
    Hook { timeout_seconds: hook.timeout_seconds.min(WIND_UP), ..hook }
}

/// What a user should know before.
fn note(name: &str, hook: &Hook) -> String {
    let command = hook.command.escape_debug();
    let failure = match hook.on_failure {
        OnFailure::Fail => "its failure fails the backup",
        OnFailure::Warn => "its failure is told in the log",
    };
    let seconds = hook.timeout_seconds;
    format!("{name} each backup the server runs `{command}`, for {seconds} s at most; {failure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_cancelled_pull_a_command_has_a_minute_at_most() {
        for (set, left) in [(3600, 60), (60, 60), (5, 5)] {
            let hook = Hook { timeout_seconds: set, ..Hook::new("true") };
            assert_eq!(winding_up(hook).timeout_seconds, left);
        }
    }
}
