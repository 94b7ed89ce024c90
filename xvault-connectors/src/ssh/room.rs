//! Room for one session more: on the connection, or on another one beside it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use russh::Channel;
use russh::client::Msg;
use tokio::time::{Instant, sleep, timeout};
use xvault_core::error::chain;

use super::HostKeyPolicy;
use super::session::{Session, Watch};
use crate::Error;

/// So long it is waited for another session to end before one more connection is made.
const SOON: Duration = Duration::from_millis(300);

/// How long a server is asked for room, and how often.
const ROOM: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// So many connections are made beside the first.
const MOST: usize = 3;

/// A new session's channel, and who watches its connection.
type Opened = (Channel<Msg>, Watch);

impl Session {
    /// Opens a session for `command`. A server lets only so many share a connection (`MaxSessions`; one, at times): where they are all in
    /// use, another connection is made, which later sessions find.
    ///
    /// # Errors
    /// When the connection fails, or has no room while no other one can be made; [`Error::Remote`] when the account gets no session at all.
    pub(super) async fn channel(&self, command: &str) -> Result<Opened, Error> {
        let begun = Instant::now();
        let mut trouble = None;
        loop {
            if let Some(opened) = self.room().await? {
                return Ok(opened);
            }
            if begun.elapsed() >= ROOM {
                return Err(self.crowded(trouble));
            }
            if begun.elapsed() >= SOON && trouble.is_none() {
                match self.widen(command).await {
                    Ok(Some(opened)) => return Ok(opened),
                    Ok(None) => {}
                    Err(error @ (Error::Remote { .. } | Error::ChangedHostKey { .. })) => return Err(error),
                    Err(error) => trouble = Some(error),
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// A session on one of the connections that there are. `None`: they have no room.
    async fn room(&self) -> Result<Option<Opened>, Error> {
        if let Some(opened) = self.open().await? {
            return Ok(Some(opened));
        }
        let mut more = self.more.lock().await;
        more.retain(|session| !session.is_closed());
        for session in &*more {
            if let Ok(Some(opened)) = session.open().await {
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    /// A session on this connection. `None`: it has no room.
    async fn open(&self) -> Result<Option<Opened>, Error> {
        let idle = self.options.timeouts.idle;
        match timeout(idle, self.handle.channel_open_session()).await {
            Ok(Ok(channel)) => {
                self.had_room.store(true, Ordering::Relaxed);
                Ok(Some((channel, self.watch.clone())))
            }
            Ok(Err(russh::Error::ChannelOpenFailure(_))) => Ok(None),
            Ok(Err(error)) => Err(self.watch.lost_by(error)),
            Err(_) => Err(self.watch.timeout("open a channel", idle)),
        }
    }

    /// A session on another connection to the same server. `None`: there are enough of them.
    async fn widen(&self, command: &str) -> Result<Option<Opened>, Error> {
        let mut more = self.more.lock().await;
        if more.len() >= MOST {
            return Ok(None);
        }
        let mut options = self.options.clone();
        options.host_key = HostKeyPolicy::Pinned(self.fingerprint());
        let session = Self::connect(&options).await?;
        let Some(opened) = session.open().await? else {
            // Some servers count an account's sessions, on whatever connection.
            if self.had_room.load(Ordering::Relaxed) {
                return Err(self.watch.connection("none gives this account one session more", None));
            }
            let reason =
                "the server opens no sessions for this account (`MaxSessions` of its settings is 0?)";
            return Err(Error::Remote { command: command.to_owned(), reason: reason.to_owned() });
        };
        more.push(session);
        Ok(Some(opened))
    }

    fn crowded(&self, trouble: Option<Error>) -> Error {
        let why = trouble.map_or("all of them are in use".to_owned(), |error| chain(&error));
        let reason = format!(
            "it lets no more sessions share a connection (`MaxSessions` of its settings; 10 unless it says otherwise), and of other connections: {why}"
        );
        self.watch.connection(&reason, None)
    }
}
