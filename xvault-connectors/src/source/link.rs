//! A connection that is made again when it breaks.

use std::time::Duration;

use xvault_core::snapshot::ContentSummary;
use xvault_core::{Dispose, Disposition};

use crate::ssh::sftp::Sftp;
use crate::ssh::{HostKeyPolicy, Session, SshOptions};
use crate::{Control, Error};

/// No longer than this between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// One server, connected when it is needed.
pub(crate) struct Link {
    options: SshOptions,
    session: Option<Session>,
    attempts: u32,
    progress: u64,
}

impl Link {
    pub(crate) fn new(options: SshOptions) -> Self {
        Self { options, session: None, attempts: 0, progress: 0 }
    }

    /// `host:port`.
    pub(crate) fn server(&self) -> String {
        self.options.server()
    }

    /// The connection, made now if there is none.
    pub(crate) async fn session(&mut self) -> Result<&Session, Error> {
        let session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            _ => self.connect().await?,
        };
        Ok(self.session.insert(session))
    }

    async fn connect(&mut self) -> Result<Session, Error> {
        let session = Session::connect(&self.options).await?;
        if self.options.host_key == HostKeyPolicy::AcceptNew {
            // Believed once is not believed whoever comes next: connecting again must find the same server.
            self.options.host_key = HostKeyPolicy::Pinned(session.fingerprint());
        }
        Ok(session)
    }

    /// An SFTP conversation on the connection. One that lay idle may have died unnoticed; then a new one is made.
    pub(crate) async fn sftp(&mut self) -> Result<Sftp, Error> {
        let had_one = self.session.is_some();
        match self.session().await?.sftp().await {
            Err(error) if had_one && is_of_connection(&error) => {
                self.session = None;
                self.session().await?.sftp().await
            }
            started => started,
        }
    }

    /// A new connection after `error`, with patience. Whenever more `content` was brought than at the
    /// last time, the attempts are counted afresh.
    ///
    /// # Errors
    /// `error` itself when it is none of a connection, or when there were too many attempts.
    pub(crate) async fn again(
        &mut self,
        error: Error,
        content: &ContentSummary,
        control: &Control,
    ) -> Result<Sftp, Error> {
        let progress = content.bytes + content.files + content.directories + content.symlinks;
        if progress > self.progress {
            self.attempts = 0;
            self.progress = progress;
        }
        let mut error = error;
        loop {
            if !is_of_connection(&error) || self.attempts >= self.options.timeouts.reconnects {
                return Err(error);
            }
            self.session = None;
            self.attempts += 1;
            let text = xvault_core::error::chain(&error);
            control.progress().note(&format!("{text}; connecting again (attempt {})", self.attempts));
            control.run(self.back_off()).await?;
            match control.run(self.sftp()).await {
                Ok(sftp) => return Ok(sftp),
                Err(next) => error = next,
            }
        }
    }

    async fn back_off(&self) -> Result<(), Error> {
        let doublings = self.attempts.saturating_sub(1).min(16);
        let pause = self.options.timeouts.backoff.saturating_mul(1 << doublings);
        tokio::time::sleep(pause.min(MAX_BACKOFF)).await;
        Ok(())
    }

    /// Says goodbye.
    pub(crate) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// Whether connecting again may help.
pub(crate) fn is_of_connection(error: &Error) -> bool {
    matches!(error, Error::Connection { .. } | Error::Timeout { .. })
        && error.disposition() == Disposition::Transient
}
