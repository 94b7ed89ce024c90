//! One authenticated SSH connection.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, Disconnect, Names, Preferred, SshId, cipher};
use tokio::io::BufReader;
use tokio::time::{Instant, timeout};
use tokio_util::sync::DropGuard;

use super::exec::{Exec, program};
use super::greeting::{CLIENT_ID, greet};
use super::host_key::{Verifier, fingerprint};
use super::leash::Leashed;
use super::sftp::Sftp;
use super::{SshOptions, auth};
use crate::Error;

/// The largest SSH packet we take; OpenSSH fills them.
const MAX_PACKET_LEN: u32 = 65_535;

/// Packets between the connection and whoever reads a channel: the bound of its memory, 2 MiB.
const CHANNEL_PACKETS: usize = 32;

/// Bytes taken from the socket with one call.
const READ_BUFFER_LEN: usize = 256 << 10;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Three quiet keep-alives in a row end a connection.
const UNANSWERED_KEEPALIVES: usize = 3;

/// One authenticated connection, and more of them where it has no room; dropping it closes them.
pub struct Session {
    pub(super) handle: Handle<Client>,
    pub(super) watch: Watch,
    pub(super) options: SshOptions,
    /// Those beside it.
    pub(super) more: tokio::sync::Mutex<Vec<Session>>,
    /// Whether the server ever gave it a session.
    pub(super) had_room: AtomicBool,
    _leash: DropGuard,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("server", &self.watch.server).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects, checks the server's key and logs in.
    ///
    /// # Errors
    /// [`Error::Connection`] or [`Error::Timeout`] when the server can't be reached,
    /// [`Error::UnknownHostKey`] or [`Error::ChangedHostKey`] when it is not the one we mean,
    /// [`Error::Auth`] or [`Error::Credential`] when we can't log in.
    pub async fn connect(options: &SshOptions) -> Result<Self, Error> {
        let after = options.timeouts.connect;
        match timeout(after, connect(options)).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::Timeout {
                what: format!("{} (connecting and logging in)", options.server()),
                after,
            }),
        }
    }

    /// The fingerprint the server proved itself with: `SHA256:…`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.watch.with(|seen| seen.fingerprint.clone())
    }

    /// The server's name for its software: `SSH-2.0-OpenSSH_9.2p1 …`.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.watch.with(|seen| seen.version.clone())
    }

    /// `host:port`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.watch.server
    }

    /// How long a login may take, and what comes with it.
    pub(super) fn patience(&self) -> Duration {
        self.options.timeouts.connect
    }

    /// Whether the connection is known to be gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Runs a program on the other side with exactly these arguments, whatever bytes they hold.
    ///
    /// # Errors
    /// When the connection fails, or [`Error::Remote`] when the server runs no commands.
    pub async fn exec<A: AsRef<[u8]>>(&self, argv: &[A]) -> Result<Exec, Error> {
        let (channel, watch) = self.channel(&program(argv)).await?;
        Exec::start(channel, argv, watch, self.options.timeouts.idle).await
    }

    /// As [`Session::exec`], with a standard input that stays open.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub async fn exec_with_input<A: AsRef<[u8]>>(&self, argv: &[A]) -> Result<Exec, Error> {
        let (channel, watch) = self.channel(&program(argv)).await?;
        Exec::start_with_input(channel, argv, watch, self.options.timeouts.idle).await
    }

    /// A connection from the server to `host`, which it looks up itself.
    ///
    /// # Errors
    /// When the connection fails, or [`Error::Remote`] when the server does not forward or does not reach the host.
    pub(crate) async fn forward(&self, host: &str, port: u16) -> Result<Channel<client::Msg>, Error> {
        let opening = self.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0);
        let idle = self.options.timeouts.idle;
        let opened = match timeout(idle, opening).await {
            Ok(opened) => opened,
            Err(_) => return Err(self.watch.timeout("open a tunnel", idle)),
        };
        opened.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(reason) => Error::Remote {
                command: format!("tunnel to {host}:{port}"),
                reason: tunnel_refusal(&reason).to_owned(),
            },
            other => self.watch.lost_by(other),
        })
    }

    /// Starts the server's SFTP subsystem.
    ///
    /// # Errors
    /// When the connection fails, the server has no SFTP, or answers nonsense.
    pub async fn sftp(&self) -> Result<Sftp, Error> {
        let (channel, watch) = self.channel("sftp").await?;
        Sftp::start(channel, watch, self.options.timeouts.idle).await
    }

    /// Says goodbye. The connection is closed as well when a `Session` is just dropped.
    pub async fn close(self) {
        // A server that is gone already needs no goodbye.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "done", "en").await;
        let _ = timeout(GOODBYE, self.handle).await;
    }
}

async fn connect(options: &SshOptions) -> Result<Session, Error> {
    let verifier = Verifier::new(&options.host_key, &options.host, options.port, options.server())?;
    let mut session = shake_hands(options, &verifier).await?;
    auth::log_in(&mut session.handle, options, &session.watch).await?;
    Ok(session)
}

fn tunnel_refusal(reason: &russh::ChannelOpenFailure) -> &'static str {
    match reason {
        russh::ChannelOpenFailure::AdministrativelyProhibited => {
            "the SSH server forbids tunnels for this account, or to there (AllowTcpForwarding and PermitOpen of its settings; \
             `restrict` and `permitopen` of the account's authorized_keys, to which `localhost` and `127.0.0.1` are two hosts)"
        }
        russh::ChannelOpenFailure::ConnectFailed => "the SSH server does not reach the database there",
        _ => "the SSH server opens no tunnel",
    }
}

/// Connects and checks the server's key. A server has keys of several types and shows one: when a
/// pin names another, it is asked for those too before its key counts as changed.
async fn shake_hands(options: &SshOptions, verifier: &Verifier) -> Result<Session, Error> {
    let algorithms = verifier.algorithms();
    let first = shake_hands_with(options, verifier, algorithms.clone()).await;
    let Err(changed @ Error::ChangedHostKey { .. }) = first else { return first };
    if verifier.may_match_another_type() {
        for algorithm in algorithms.into_iter().skip(1) {
            if let Ok(connected) = shake_hands_with(options, verifier, vec![algorithm]).await {
                return Ok(connected);
            }
        }
    }
    Err(changed)
}

async fn shake_hands_with(
    options: &SshOptions,
    verifier: &Verifier,
    algorithms: Vec<Algorithm>,
) -> Result<Session, Error> {
    let watch = Watch { server: options.server().into(), seen: Arc::default() };
    let begun = Instant::now();
    let socket = options.network.connect(&options.host, options.port).await;
    let socket = socket.map_err(|error| error.into_error(options.server()))?;
    // Requests are batched by us, so waiting for more to send would only add delay.
    socket.set_nodelay(true).map_err(|source| watch.connection("could not be set up", Some(source)))?;
    let (socket, leash) = Leashed::new(socket);
    let stream = BufReader::with_capacity(READ_BUFFER_LEN, socket);
    let greeted = greet(stream, begun.elapsed()).await;
    let (stream, window) =
        greeted.map_err(|source| watch.connection("broke in the greeting", Some(source)))?;
    let client = Client { verifier: verifier.clone(), watch: watch.clone() };
    let config = config(options, algorithms, window);
    let handle = client::connect_stream(Arc::new(config), stream, client).await;
    let handle = handle.map_err(|failure| failure.into_error(&watch))?;
    Ok(Session {
        handle,
        watch,
        options: options.clone(),
        more: Default::default(),
        had_room: false.into(),
        _leash: leash,
    })
}

fn config(options: &SshOptions, algorithms: Vec<Algorithm>, window_size: u32) -> client::Config {
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(CLIENT_ID)),
        window_size,
        maximum_packet_size: MAX_PACKET_LEN,
        channel_buffer_size: CHANNEL_PACKETS,
        keepalive_interval: Some(options.timeouts.keepalive),
        keepalive_max: UNANSWERED_KEEPALIVES,
        preferred: Preferred {
            key: Cow::Owned(algorithms),
            // AES-GCM first: with AES instructions it costs a third of ChaCha20.
            cipher: Cow::Borrowed(&[
                cipher::AES_128_GCM,
                cipher::AES_256_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
                cipher::AES_192_CTR,
                cipher::AES_128_CTR,
            ]),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

/// What the connection's own task tells everybody else.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    server: Arc<str>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    fingerprint: String,
    version: String,
    end: Option<String>,
}

impl Watch {
    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn connection(&self, reason: &str, source: Option<std::io::Error>) -> Error {
        Error::Connection { server: self.server.to_string(), reason: reason.to_owned(), source }
    }

    /// The connection ended; with the reason, where its task has told one.
    pub(super) fn lost(&self) -> Error {
        let reason = self.with(|seen| seen.end.clone());
        self.connection(reason.as_deref().unwrap_or("it was closed"), None)
    }

    /// The connection failed with `error`.
    pub(super) fn lost_by(&self, error: russh::Error) -> Error {
        match error {
            // These only say that its task is gone, and the task has said why.
            russh::Error::SendError
            | russh::Error::RecvError
            | russh::Error::Disconnect
            | russh::Error::HUP => self.lost(),
            russh::Error::IO(source) => self.connection("it broke", Some(source)),
            other => self.connection(&other.to_string(), None),
        }
    }

    pub(super) fn timeout(&self, what: &str, after: Duration) -> Error {
        Error::Timeout { what: format!("{} ({what})", self.server), after }
    }

    pub(super) fn protocol(&self, detail: impl Into<String>) -> Error {
        Error::Protocol { server: self.server.to_string(), detail: detail.into() }
    }
}

/// The callbacks of the connection's task.
pub(super) struct Client {
    verifier: Verifier,
    watch: Watch,
}

/// Why the connection's task ended.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Error),
    Russh(russh::Error),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Russh(error)
    }
}

impl Failure {
    fn into_error(self, watch: &Watch) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Russh(error) => watch.lost_by(error),
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Refused(error) => error.to_string(),
            Self::Russh(russh::Error::KeepaliveTimeout) => "it answers no keep-alive messages".to_owned(),
            Self::Russh(russh::Error::HUP) => "the server closed it".to_owned(),
            Self::Russh(russh::Error::IO(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                "it broke off".to_owned()
            }
            Self::Russh(error) => error.to_string(),
        }
    }
}

impl client::Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let key = shown.public_key();
        self.verifier.check(&key).map_err(Failure::Refused)?;
        self.watch.with(|seen| seen.fingerprint = fingerprint(&key));
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &Names,
        session: &mut client::Session,
    ) -> Result<(), Failure> {
        let version = xvault_core::entry::display_name(session.remote_sshid());
        self.watch.with(|seen| seen.version = version);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                format!("the server closed it: {}", xvault_core::entry::display_name(info.message.as_bytes()))
            }
            DisconnectReason::Error(failure) => failure.reason(),
        };
        self.watch.with(|seen| seen.end = Some(text));
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(failure) => Err(failure),
        }
    }
}
