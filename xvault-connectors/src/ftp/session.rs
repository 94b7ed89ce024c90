//! A session: a control connection that is logged in, and what can be asked over it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use tokio::net::TcpStream;
use tokio::time::timeout;
use xvault_core::Mtime;
use xvault_core::secret::ExposeSecret;
use xvault_core::source::FtpTls;

use super::control::{Control, Wire};
use super::data::{extended_port, lost, passive_port};
use super::features::Features;
use super::listing::{Listed, mlsd, modified};
use super::{Data, FtpOptions, Reply, Shared, telnet};
use crate::tls::{NO_TLS, Tls};
use crate::{Door, Error, Unreachable};

/// What anonymous logins give for a password: who they are, by custom.
const ANONYMOUS_PASSWORD: &[u8] = b"anonymous@";

/// A quiet connection is looked after by the system too, so that nobody on the way forgets it during a long transfer.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// One connection to the server, logged in.
pub(crate) struct Session {
    control: Control<Box<dyn Wire>>,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    peer: SocketAddr,
    greeting: String,
    pub(crate) features: Features,
    /// Where the login led.
    home: Option<Vec<u8>>,
    /// How a transfer ended that was never announced, until [`Session::finish`] is asked.
    ended: Option<Reply>,
}

/// How a transfer begins.
pub(crate) enum Begun {
    /// Its data comes here, and [`Session::finish`] tells how it ended.
    Data(Data),
    /// It does not.
    Refused(Reply),
    /// The server can't go on in the middle.
    NoRestart(Reply),
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When the server can't be reached, is not believed, refuses TLS where that is demanded, or does not let us in.
    pub(crate) async fn connect(shared: &Arc<Shared>) -> Result<Self, Error> {
        let after = shared.options.timeouts.connect;
        match timeout(after, Self::log_in(shared)).await {
            Ok(session) => session,
            Err(_) => Err(Error::Timeout { what: format!("{} (login)", shared.options.server()), after }),
        }
    }

    async fn log_in(shared: &Arc<Shared>) -> Result<Self, Error> {
        let options = &shared.options;
        let (stream, peer) = reach(options).await?;
        let tls = if options.tls == FtpTls::Disable { None } else { Some(Tls::new(&options.trust())?) };
        let (mut control, greeting) = greet(options, stream, tls.as_ref()).await?;
        log_in(&mut control, options).await?;
        let (shared, features) = (Arc::clone(shared), Features::default());
        let mut session = Self { control, tls, shared, peer, greeting, features, home: None, ended: None };
        session.settle().await?;
        Ok(session)
    }

    /// Encrypts the data too, and has everything transferred as it is.
    async fn settle(&mut self) -> Result<(), Error> {
        if self.tls.is_some() {
            self.control.call("PBSZ", Some(b"0")).await?;
            let protected = self.control.call("PROT", Some(b"P")).await?;
            if !protected.is_done() {
                let said = format!("{} (PROT P)", protected.shown());
                return Err(unencrypted(&self.shared.options, said));
            }
        }
        let reply = self.control.call("FEAT", None).await?;
        self.features = Features::read(&reply);
        if self.features.utf8 {
            self.control.call("OPTS", Some(b"UTF8 ON")).await?;
        }
        if let Some(facts) = self.features.facts.clone() {
            self.control.call("OPTS", Some(format!("MLST {facts}").as_bytes())).await?;
        }
        let binary = self.control.call("TYPE", Some(b"I")).await?;
        if binary.is_done() {
            return Ok(());
        }
        Err(self.protocol(format!("it does not transfer files as they are (TYPE I): {}", binary.shown())))
    }

    /// `host:port`.
    pub(crate) fn server(&self) -> String {
        self.shared.options.server()
    }

    /// What the server said of itself first.
    pub(crate) fn greeting(&self) -> &str {
        &self.greeting
    }

    /// The fingerprint of the certificate that it proved itself with.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.tls.as_ref().and_then(Tls::fingerprint)
    }

    pub(crate) fn protocol(&self, detail: impl Into<String>) -> Error {
        self.control.protocol(detail)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Keeps the session from being taken for dead.
    pub(crate) async fn keep_alive(&mut self) -> Result<(), Error> {
        self.control.call("NOOP", None).await.map(drop)
    }

    /// Goes into a directory.
    pub(crate) async fn enter(&mut self, path: &[u8]) -> Result<Reply, Error> {
        self.ask("CWD", path).await
    }

    async fn ask(&mut self, verb: &str, path: &[u8]) -> Result<Reply, Error> {
        let path = self.spelled(path).await?;
        self.control.call(verb, Some(&path)).await
    }

    /// A path as the server takes it: some take Telnet's commands out, so that it would be another one.
    async fn spelled<'p>(&mut self, path: &'p [u8]) -> Result<Cow<'p, [u8]>, Error> {
        if !telnet::concerns(path) {
            return Ok(path.into());
        }
        let known = self.shared.telnet.get().copied();
        let doubles = match known {
            Some(known) => known,
            None => self.control.reads_telnet().await?,
        };
        let doubles = *self.shared.telnet.get_or_init(|| doubles);
        Ok(if doubles { telnet::doubled(path) } else { path.into() })
    }

    /// Where the login led. Must be asked for before [`Session::enter`].
    pub(crate) async fn home(&mut self) -> Result<Vec<u8>, Error> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let reply = self.control.call("PWD", None).await?;
        let home = if reply.is_done() { quoted(reply.text()) } else { None };
        let home = home
            .ok_or_else(|| self.protocol(format!("it does not say where we are (PWD): {}", reply.shown())))?;
        Ok(self.home.insert(home).clone())
    }

    /// The size in bytes, if it tells.
    pub(crate) async fn size(&mut self, path: &[u8]) -> Result<Option<u64>, Error> {
        if !self.features.size {
            return Ok(None);
        }
        let reply = self.ask("SIZE", path).await?;
        self.features.size &= !reply.is_unknown_command();
        let size = std::str::from_utf8(reply.text()).ok().and_then(|text| text.trim().parse().ok());
        Ok(size.filter(|_| reply.is_done()))
    }

    /// When it was last changed, if it tells.
    pub(crate) async fn modified(&mut self, path: &[u8]) -> Result<Option<Mtime>, Error> {
        if !self.features.mdtm {
            return Ok(None);
        }
        let reply = self.ask("MDTM", path).await?;
        self.features.mdtm &= !reply.is_unknown_command();
        Ok(modified(reply.text().trim_ascii()).filter(|_| reply.is_done()))
    }

    /// What the server tells of one path: `None` when it can't tell of single ones.
    pub(crate) async fn look(&mut self, path: &[u8]) -> Result<Option<Result<Listed, Reply>>, Error> {
        if !self.features.mlst {
            return Ok(None);
        }
        let reply = self.ask("MLST", path).await?;
        if reply.is_unknown_command() {
            self.features.mlst = false;
            return Ok(None);
        }
        if !reply.is_done() {
            return Ok(Some(Err(reply)));
        }
        let told = reply.lines.iter().find_map(|line| mlsd(line.strip_prefix(b" ").unwrap_or(line)));
        match told {
            Some(listed) => Ok(Some(Ok(listed))),
            None => Err(self.protocol("MLST was answered without facts")),
        }
    }

    /// Begins a transfer, from byte `offset` on.
    pub(crate) async fn begin(
        &mut self,
        verb: &'static str,
        arg: Option<&[u8]>,
        offset: u64,
    ) -> Result<Begun, Error> {
        let arg = match arg {
            Some(arg) => Some(self.spelled(arg).await?),
            None => None,
        };
        let stream = self.open_data().await?;
        if offset > 0 {
            let reply = self.control.call("REST", Some(offset.to_string().as_bytes())).await?;
            if reply.code / 100 != 3 {
                return Ok(Begun::NoRestart(reply));
            }
        }
        self.control.send(verb, arg.as_deref()).await?;
        let (first, stream) = self.begun(stream).await?;
        // Some say only that it is done: what they sent is to be read all the same.
        self.ended = first.is_done().then(|| first.clone());
        if !has_data(&first) {
            return if matches!(first.code, 425 | 426 | 522) {
                Err(self.no_data(&first.shown(), None))
            } else {
                Ok(Begun::Refused(first))
            };
        }
        match stream {
            Some(stream) => Ok(Begun::Data(Data::new(stream, self.tls.is_some(), &self.shared.options))),
            None => Err(lost(&self.server(), None)),
        }
    }

    /// The first answer to a transfer, and its data connection once it can be read. Encryption is agreed on while the answer is
    /// on its way.
    async fn begun(&mut self, stream: TcpStream) -> Result<(Reply, Option<Box<dyn Wire>>), Error> {
        let Some(tls) = self.tls.clone() else {
            return Ok((self.control.reply().await?, Some(Box::new(stream))));
        };
        let mut agreeing = pin!(tls.connect(stream));
        let mut agreed = None;
        let first = {
            let mut reply = pin!(self.control.reply());
            loop {
                tokio::select! {
                    reply = &mut reply => break reply?,
                    done = &mut agreeing, if agreed.is_none() => agreed = Some(done),
                }
            }
        };
        if !has_data(&first) {
            return Ok((first, None));
        }
        let idle = self.shared.options.timeouts.idle;
        let agreed = match agreed {
            Some(agreed) => agreed,
            None => timeout(idle, agreeing).await.unwrap_or_else(|_| {
                let what = format!("{} (TLS of a data connection)", self.shared.options.server());
                Err(Error::Timeout { what, after: idle })
            }),
        };
        match agreed {
            Ok(stream) => Ok((first, Some(Box::new(stream)))),
            Err(Error::Connection { source, .. }) => Err(self.refused_data(source).await),
            // Mostly a session that the server does not resume any more: a new login helps.
            Err(Error::Tls { .. }) => Err(self.refused_data(None).await),
            Err(error) => Err(error),
        }
    }

    /// The server broke a data connection off while TLS was agreed on; it may say why.
    async fn refused_data(&mut self, source: Option<std::io::Error>) -> Error {
        let said = timeout(Duration::from_secs(2), self.control.reply()).await;
        let said = match said {
            Ok(Ok(reply)) => reply.shown(),
            _ => "it broke off while TLS was agreed on".to_owned(),
        };
        self.no_data(&said, source)
    }

    /// How a transfer ended, once its data connection is closed.
    pub(crate) async fn finish(&mut self) -> Result<Reply, Error> {
        match self.ended.take() {
            Some(ended) => Ok(ended),
            None => self.control.reply().await,
        }
    }

    /// By EPSV, or by PASV where that leads nowhere: some routers and servers know the old command alone, which IPv6 does not have.
    async fn open_data(&mut self) -> Result<TcpStream, Error> {
        if self.shared.uses_old_passive() {
            return self.open_by_pasv(None).await;
        }
        match self.open_by_epsv().await? {
            Err(error) if self.peer.is_ipv4() => self.open_by_pasv(error).await,
            connected => {
                connected.map_err(|error| error.unwrap_or_else(|| self.protocol("EPSV led nowhere")))
            }
        }
    }

    /// Without a connection there may be an error that says more than that of a second try.
    async fn open_by_epsv(&mut self) -> Result<Result<TcpStream, Option<Error>>, Error> {
        let reply = self.control.call("EPSV", None).await?;
        if !reply.is_done() && self.peer.is_ipv6() {
            return Err(self.protocol(format!("it refuses EPSV, which IPv6 needs: {}", reply.shown())));
        }
        if !reply.is_done() {
            return Ok(Err(None));
        }
        let Some(port) = extended_port(reply.text()) else {
            return Ok(Err(Some(self.protocol("EPSV was answered without a port"))));
        };
        Ok(self.connect_data(port).await.map_err(Some))
    }

    /// `before`: what went wrong with EPSV.
    async fn open_by_pasv(&mut self, before: Option<Error>) -> Result<TcpStream, Error> {
        let reply = self.control.call("PASV", None).await?;
        if !reply.is_done() {
            let refused = || self.no_data(&format!("it refuses passive mode: {}", reply.shown()), None);
            return Err(before.unwrap_or_else(refused));
        }
        let port = passive_port(reply.text());
        let port = port.ok_or_else(|| self.protocol("PASV was answered without a port"))?;
        let stream = self.connect_data(port).await?;
        self.shared.use_old_passive();
        Ok(stream)
    }

    /// Always to where the control connection leads.
    async fn connect_data(&self, port: u16) -> Result<TcpStream, Error> {
        let address = SocketAddr::new(self.peer.ip(), port);
        let connecting = self.shared.options.network.connect_to(address);
        match timeout(self.shared.options.timeouts.connect, connecting).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(Unreachable::Silent(error))) => {
                Err(self.no_data(&format!("port {port} can't be reached"), Some(error)))
            }
            Ok(Err(error)) => Err(error.into_error(self.server())),
            Err(_) => Err(self.no_data(&format!("port {port} does not answer"), None)),
        }
    }

    fn no_data(&self, why: &str, source: Option<std::io::Error>) -> Error {
        let reason = format!(
            "no data connection was made: {why}; do the firewalls let the passive ports of the server through?"
        );
        Error::Connection { server: self.server(), reason, source }
    }

    /// Says goodbye, without waiting for an answer.
    pub(crate) async fn close(mut self) {
        let _ = timeout(Duration::from_secs(2), self.control.send("QUIT", None)).await;
    }
}

/// Whether a transfer that is answered so first has something on its data connection.
fn has_data(first: &Reply) -> bool {
    first.is_begun() || first.is_done()
}

/// The first address of the host that answers.
async fn reach(options: &FtpOptions) -> Result<(TcpStream, SocketAddr), Error> {
    let stream = options.network.connect(&options.host, options.port).await;
    let stream = stream.map_err(|error| error.into_error(options.server()))?;
    let address = stream.peer_addr().map_err(Error::io("ask where a connection leads"))?;
    // What can't be set is no reason to do without a backup.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_keepalive(&stream, true);
    let _ = set_tcp_keepidle(&stream, KEEPALIVE);
    Ok((stream, address))
}

/// Up to the login: the server's greeting, and TLS.
async fn greet(
    options: &FtpOptions,
    stream: TcpStream,
    tls: Option<&Tls>,
) -> Result<(Control<Box<dyn Wire>>, String), Error> {
    let idle = options.timeouts.idle;
    let implicit = options.tls == FtpTls::Implicit;
    let tls = match tls {
        Some(tls) if !implicit => tls,
        tls => {
            let stream: Box<dyn Wire> = match tls {
                Some(tls) => Box::new(tls.connect(stream).await.map_err(|error| at_once(options, error))?),
                None => Box::new(stream),
            };
            let mut control = Control::new(stream, options.server(), idle);
            let greeting = welcome(&mut control).await?;
            return Ok((control, greeting));
        }
    };
    let mut control = Control::new(stream, options.server(), idle);
    let greeting = welcome(&mut control).await?;
    let reply = control.call("AUTH", Some(b"TLS")).await?;
    if !reply.is_done() {
        return Err(unencrypted(options, reply.shown()));
    }
    let stream: Box<dyn Wire> = Box::new(tls.connect(control.into_stream()?).await?);
    Ok((Control::new(stream, options.server(), idle), greeting))
}

fn unencrypted(options: &FtpOptions, reason: String) -> Error {
    Error::NoEncryption { server: options.server(), demanded: options.tls, reason }
}

/// What came was no TLS: the port is one for plain text, which TLS may begin behind.
fn at_once(options: &FtpOptions, error: Error) -> Error {
    match error {
        Error::Tls { reason, .. } if reason.starts_with(NO_TLS) => unencrypted(options, reason),
        error => error,
    }
}

async fn welcome<S: Wire>(control: &mut Control<S>) -> Result<String, Error> {
    let mut reply = control.reply().await?;
    while reply.is_begun() {
        reply = control.reply().await?;
    }
    if !reply.is_done() {
        return Err(control.protocol(format!("it does not greet: {}", reply.shown())));
    }
    let shown = reply.shown();
    Ok(shown.get(4..).unwrap_or_default().to_owned())
}

async fn log_in<S: Wire>(control: &mut Control<S>, options: &FtpOptions) -> Result<(), Error> {
    let refused = |reason: String| Error::Auth {
        account: format!("{}@{}", options.username, options.server()),
        reason,
        door: Door::Ftp,
    };
    let reply = control.call("USER", Some(options.username.as_bytes())).await?;
    if reply.is_done() {
        return Ok(());
    }
    if reply.code != 331 {
        return Err(refused(reply.shown()));
    }
    let reply = match &options.password {
        Some(password) if password.expose_secret().contains(['\r', '\n', '\0']) => {
            let reason = "the password has a line break or a NUL in it, which FTP can't say";
            return Err(Error::Credential(reason.to_owned()));
        }
        Some(password) => control.call("PASS", Some(password.expose_secret().as_bytes())).await?,
        None => control.call("PASS", Some(ANONYMOUS_PASSWORD)).await?,
    };
    if reply.is_done() { Ok(()) } else { Err(refused(reply.shown())) }
}

/// `257 "/path with ""quotes""" is where we are`.
fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let begin = text.iter().position(|byte| *byte == b'"')? + 1;
    let mut rest = text.get(begin..)?.iter().copied().peekable();
    let mut path = Vec::new();
    loop {
        match rest.next()? {
            b'"' if rest.peek() == Some(&b'"') => {
                rest.next();
                path.push(b'"');
            }
            b'"' => return Some(path),
            byte => path.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_a_path_are_doubled() {
        assert_eq!(quoted(b"\"/a \"\"b\"\"\" is here"), Some(b"/a \"b\"".to_vec()));
        assert_eq!(quoted(b"\"/\""), Some(b"/".to_vec()));
        for bad in [&b""[..], b"/a", b"\"/a", b"\"/a\"\""] {
            assert_eq!(quoted(bad), None);
        }
    }
}
